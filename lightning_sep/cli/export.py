"""`lightning-sep export`."""

import argparse
import shlex
from pathlib import Path

from lightning_sep.cli.command import Command, Parser
from lightning_sep.cli.output import tell
from lightning_sep.homes import runs_home

_TEXT = """\
A board for others. --out writes one archive that proves it: records, values per example, settings,
lock, protocol, hashes and the board's JSON; `lightning-sep verify FILE` checks all of it anywhere.
Without the weights, which --checkpoints adds, each run can be trained anew, not tested again; a run
that others begin with (init_from) comes along with its own.

examples:
    lightning-sep export bounded_heads --out bounded_heads.zip --checkpoints
    lightning-sep export bounded_heads --csv runs.csv             a line per run
    lightning-sep export bounded_heads --model-card README.md     of its best run
    lightning-sep export single --tensorboard events              a folder of events per run
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("board", help="a sweep, or single")
    parser.add_argument("--out", type=Path, metavar="FILE", help="an archive that proves it")
    parser.add_argument("--checkpoints", action="store_true", help="weights in the archive, too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a line per run")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="the same for pandas, polars")
    parser.add_argument("--model-card", type=Path, metavar="FILE", help="the best run in Markdown")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="learning curves")


def _run(arguments: argparse.Namespace) -> int | None:
    import sys

    from lightning_sep.errors import ConfigError
    from lightning_sep.leaderboard import archive, exports
    from lightning_sep.leaderboard.board import board_name

    name, home = board_name(arguments.board), runs_home()
    others = {
        arguments.csv: exports.write_csv,
        arguments.parquet: exports.write_parquet,
        arguments.model_card: exports.write_model_card,
        arguments.tensorboard: exports.write_tensorboard,
    }
    others.pop(None, None)
    if arguments.out is None and not others:
        raise ConfigError(
            "export to what? --out FILE.zip writes an archive; --csv, --parquet, --model-card and "
            "--tensorboard write for other programs"
        )
    other = {".csv": "--csv", ".parquet": "--parquet", ".md": "--model-card"}
    if arguments.out is not None and arguments.out.suffix.lower() in other:
        instead = other[arguments.out.suffix.lower()]
        raise ConfigError(
            f"--out {arguments.out}: an archive is a .zip; {instead} {arguments.out} writes "
            "what its name says"
        )
    if arguments.checkpoints and arguments.out is None:
        raise ConfigError("--checkpoints: the weights go into an archive; --out FILE names it")
    for path, write in others.items():
        write(home, name, path)
        tell(path)
    if arguments.out is not None:
        made = archive.export(home, name, arguments.out, checkpoints=arguments.checkpoints)
        for one in made.left_out:
            print(f"left out: {one['folder']}: {one['reason']}", file=sys.stderr)
        print(
            f"{made.runs} runs, {made.checkpoints} of them with weights; to check it anywhere: "
            f"lightning-sep verify {shlex.quote(str(arguments.out))}",
            file=sys.stderr,
        )
        tell(arguments.out)
    return None


COMMAND = Command("export", "a board as an archive, a table, a model card", _TEXT, _run, _add)
