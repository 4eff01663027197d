"""`lightning-sep leaderboard`."""

import argparse
from pathlib import Path

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
The runs, ranked by their board's metric. Without a name: every board that has runs. Nothing is
written but a page that --html asks for, so it works on a home that can only be read.

examples:
    lightning-sep leaderboard
    lightning-sep leaderboard bounded_heads --json            one JSON document on stdout
    lightning-sep leaderboard --html leaderboard.html         one file that needs no network
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("board", nargs="?", help="name of a board (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write one self-contained page")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.leaderboard import commands

    return commands.leaderboard(
        arguments.board, home=runs_home(), as_json=arguments.json, out=arguments.html
    )


COMMAND = Command("leaderboard", "the runs, ranked", _TEXT, _run, _add)
