"""`lightning-sep compare`."""

import argparse
import json

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Runs side by side: what differs in their settings, metrics and environment, and the difference of
their scores. RUN is a run id, its beginning, a run's folder, or a sweep, which stands for its best
run. Runs that differ in nothing but the seed are one setting; the others are compared with the
first one, seed by seed and example by example where they share them.

examples:
    lightning-sep compare 3f9a1c2e77aa 8d01b7c2e4f0
    lightning-sep compare bounded_heads 8d01b7c2e4f0 --json     one JSON document on stdout
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run id or folder, or a sweep")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.find import find_run
    from lightning_sep.leaderboard.compare import compare_runs, comparison_json, comparison_text

    found = compare_runs([find_run(one, runs_home()) for one in arguments.runs])
    if arguments.json:
        print(json.dumps(comparison_json(found), indent=2, allow_nan=False))
    else:
        print(comparison_text(found), end="")
    return None


COMMAND = Command("compare", "runs side by side", _TEXT, _run, _add)
