"""`lightning-sep embed`."""

import argparse
from pathlib import Path

from lightning_sep.cli.command import Command, Parser
from lightning_sep.cli.output import tell
from lightning_sep.cli.process import ready_process

_TEXT = """\
Speaker embeddings of recordings, by a trained run. RUN is a run id or a run's folder.

example:
    lightning-sep embed 3f9a1c2e77aa anna.wav ben.wav --out vectors.json
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or folder")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files")
    parser.set_defaults(rest="files")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="vectors to write: .json or .npz"
    )


def _run(arguments: argparse.Namespace) -> int | None:
    ready_process()
    from lightning_sep import use

    tell(use.embed(arguments.run, [Path(one) for one in arguments.files], arguments.out))
    return None


COMMAND = Command("embed", "speaker embeddings by a run", _TEXT, _run, _add)
