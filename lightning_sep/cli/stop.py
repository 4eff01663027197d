"""`lightning-sep stop`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Ask the workers of a sweep to save and stop. The sweep goes on when it is launched again.

example:
    lightning-sep stop bounded_heads
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("sweep", help="name of the sweep")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    return commands.stop(sweep=arguments.sweep, home=runs_home())


COMMAND = Command("stop", "ask a sweep's workers to save and stop", _TEXT, _run, _add)
