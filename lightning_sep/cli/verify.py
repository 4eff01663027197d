"""`lightning-sep verify`."""

import argparse
import json
import shlex
from pathlib import Path

from lightning_sep.cli.command import Command, Parser

_TEXT = """\
Check an archive that `lightning-sep export BOARD --out FILE` wrote: every hash, and the board,
which is computed again from the values per example and must be the same JSON, byte for byte. What
was changed is named, with exit code 2. Nothing of the archive is run; its first row's command then
trains the row anew.

example:
    lightning-sep verify bounded_heads.zip
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("archive", type=Path, metavar="FILE", help="the archive")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.leaderboard.archive import verify
    from lightning_sep.leaderboard.words import summary_line

    found = verify(arguments.archive)
    if arguments.json:
        print(json.dumps(found.as_json(), indent=2))
        return None
    made = found.made_by
    print(
        f"{arguments.archive}: all {found.files} files are as they were written, and the board is "
        f"what its {found.runs} runs give"
    )
    print(f"made by version {made.get('package')}, commit {made.get('commit') or 'none'}")
    for board in found.boards:
        print(summary_line(board))
        if board.best is not None:
            name = f"{arguments.archive}:{board.best.scores[0].run.run_id}"
            print(f"    lightning-sep reproduce {shlex.quote(name)}")
    return None


COMMAND = Command("verify", "check an archive of a board", _TEXT, _run, _add)
