"""`lightning-sep generate`."""

import argparse
from pathlib import Path

from lightning_sep.cli.command import Command, Parser, seconds
from lightning_sep.cli.output import tell
from lightning_sep.cli.process import ready_process

_TEXT = """\
Let a trained autoregressive run make audio. RUN is a run id or a run's folder.

examples:
    lightning-sep generate 3f9a1c2e77aa --seconds 4 --seed 1 --out tone.wav
    lightning-sep generate 3f9a1c2e77aa --start prelude.flac --out continued.wav
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="audio to write")
    parser.add_argument("--seconds", type=seconds, default=2.0, help="length (default: 2)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="a recording to go on from")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")


def _run(arguments: argparse.Namespace) -> int | None:
    ready_process()
    from lightning_sep import use

    tell(
        use.generate(
            arguments.run,
            seconds=arguments.seconds,
            out=arguments.out,
            start=arguments.start,
            seed=arguments.seed,
        )
    )
    return None


COMMAND = Command("generate", "make audio with a run", _TEXT, _run, _add)
