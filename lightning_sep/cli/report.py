"""`lightning-sep report`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Write the report of sweeps that are done: trials.json and the page, as `lightning-sep sweep` does at
its end. Workers of a cluster outlive the command that submitted them; a job after them runs this.
It leaves with 75 when there is work left.

example:
    lightning-sep report bounded_heads
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("sweep", help="name of the sweep, or names joined by commas")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    return commands.report(arguments.sweep.split(","), runs_home())


COMMAND = Command("report", "write the report of a sweep that is done", _TEXT, _run, _add)
