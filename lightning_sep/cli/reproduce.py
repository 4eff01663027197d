"""`lightning-sep reproduce`."""

import argparse
import json
import sys

from lightning_sep.cli.command import Command, Parser
from lightning_sep.cli.process import ready_process, stopped_by_signals, told_stopped
from lightning_sep.errors import Interrupted
from lightning_sep.homes import runs_home

_TEXT = """\
Train a finished run anew, never from its record, and compare the two. RUN is a run id, its
beginning, a run's folder, a sweep, which stands for its best run, or ARCHIVE:ID, a run of a file
that `lightning-sep export` wrote. --eval-only tests the kept weights again and trains nothing.

    bitwise       weights and values per example are equal
    numeric       on another machine or with other libraries: the score differs by at most 0.001,
                  and scores of this task were measured to drift less; the drift is printed
    statistical   trained there, the score lies where the other seeds of the setting predict it
    different     none of these; the exit code is 1

What differs in code, lock and environment is named. A record, weights, examples or data that were
changed are refused. The result is appended to the run's verifications.jsonl, and boards count it.

examples:
    lightning-sep reproduce 3f9a1c2e77aa
    lightning-sep reproduce bounded_heads --eval-only
    lightning-sep reproduce bounded_heads.zip:3f9a1c2e77aa
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or folder, a sweep, ARCHIVE:ID")
    parser.add_argument("--eval-only", action="store_true", help="test the kept weights again")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.leaderboard.archive import find
    from lightning_sep.record import read_record

    folder, home = find(arguments.run, runs_home())
    settings = (read_record(folder) or {}).get("settings") or {}
    ready_process(str(settings.get("trainer", {}).get("threads", 1)))
    from lightning_sep.reproduce import change_text, reproduce

    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        print(line, file=sys.stderr)

    try:
        with stopped_by_signals() as should_stop:
            found = reproduce(
                folder,
                home=home,
                eval_only=arguments.eval_only,
                should_stop=should_stop,
                tell=tell,
            )
    except (Interrupted, SystemExit) as stopped:
        return told_stopped(should_stop, stopped)
    if arguments.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print(f"run {found.run_id}: {found.grade}: {found.reason}")
        print(f"    {found.metric}: recorded {found.recorded:.10g}, again {found.again:.10g}")
        if found.drift is not None:
            print(
                f"    between machines, scores of this task were measured to drift {found.drift:g}"
            )
        if found.interval is not None:
            low, high = found.interval
            print(f"    one more seed is expected from {low:.6g} to {high:.6g}")
        lines = [change_text(name, *values) for name, values in found.differs.items()]
        for line in lines:
            if line not in told:
                print(f"    {line}")
    return 1 if found.grade == "different" else 0


COMMAND = Command("reproduce", "train a run anew and compare", _TEXT, _run, _add)
