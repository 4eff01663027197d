"""`lightning-sep scale`."""

import argparse

from lightning_sep.cli.command import Command, Parser, count
from lightning_sep.homes import runs_home

_TEXT = """\
Let another number of a sweep's Slurm jobs run at once. With fewer, those that are too many save
what they have and end; with more, Slurm starts them when there is room.

example:
    lightning-sep scale bounded_heads 8
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("workers", type=count, help="how many at once")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import steer

    return steer.scale(arguments.sweep, arguments.workers, runs_home())


COMMAND = Command("scale", "let another number of a sweep's jobs run at once", _TEXT, _run, _add)
