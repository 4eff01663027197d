"""`lightning-sep logs`."""

import argparse

from lightning_sep.cli.command import Command, Parser, number
from lightning_sep.homes import runs_home

_TEXT = """\
Print what workers wrote while they worked on a trial, whichever worker it was, also while it runs;
or what a run noted of itself.

examples:
    lightning-sep logs bounded_heads 3
    lightning-sep logs 3f9a                     a run, by the beginning of its id
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="NAME", help="name of the sweep, or a run id")
    parser.add_argument("trial", type=number, nargs="?", help="number of the trial, from 0")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import steer

    return steer.logs(arguments.run, arguments.trial, runs_home())


COMMAND = Command("logs", "what workers wrote while they worked on a trial", _TEXT, _run, _add)
