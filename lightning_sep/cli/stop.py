"""`lightning-sep stop`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Ask the workers of a sweep to save and stop. The sweep goes on when it is launched again.

examples:
    lightning-sep stop bounded_heads
    lightning-sep stop bounded_heads --now     end them, whatever they did since the last checkpoint
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("--now", action="store_true", help="do not wait until they have saved")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import steer

    return steer.stop(arguments.sweep, runs_home(), now=arguments.now)


COMMAND = Command("stop", "ask a sweep's workers to save and stop", _TEXT, _run, _add)
