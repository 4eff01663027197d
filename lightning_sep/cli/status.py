"""`lightning-sep status`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
What runs, waits, is finished or failed, and why, with the epoch and the last value of what runs.
Of a sweep or a run; without a name: all sweeps, newest first, and the single runs that are not
done.

examples:
    lightning-sep status
    lightning-sep status bounded_heads --json     one JSON document on stdout
    lightning-sep status 3f9a                     a run, by the beginning of its id
    lightning-sep status bounded_heads --watch    shown anew every two seconds; q or Ctrl-C ends it
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="NAME", help="a sweep, or a run id (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--watch", action="store_true", help="show it again and again, until q")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import status

    return status.status(arguments.run, arguments.json, home=runs_home(), watch=arguments.watch)


COMMAND = Command("status", "what runs, waits, failed, and why", _TEXT, _run, _add)
