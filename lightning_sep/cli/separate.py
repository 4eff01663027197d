"""`lightning-sep separate`."""

import argparse
from pathlib import Path

from lightning_sep.cli.command import Command, Parser
from lightning_sep.cli.output import tell
from lightning_sep.cli.process import ready_process

_TEXT = """\
Separate recordings with a trained run. RUN is a run id or a run's folder; a sweep's name takes its
best run: of its best setting, the one that validated best.

examples:
    lightning-sep separate 3f9a1c2e77aa mixture.wav --out separated/
    lightning-sep separate bounded_heads mixture.wav --out separated/
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or folder, or a sweep")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files")
    parser.set_defaults(rest="files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")


def _run(arguments: argparse.Namespace) -> int | None:
    ready_process()
    from lightning_sep import use

    tell(use.separate(arguments.run, [Path(one) for one in arguments.files], arguments.out))
    return None


COMMAND = Command("separate", "separate recordings with a run", _TEXT, _run, _add)
