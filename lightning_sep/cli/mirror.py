"""`lightning-sep mirror`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Make the offline W&B folder of runs that have ended, from their own files and without training: of
those that were trained with tracking=none, or whose mirror failed. `lightning-sep sync` (or `wandb
sync` with the printed folder) uploads it.

examples:
    lightning-sep mirror 4f1c09
    lightning-sep mirror bounded_heads             every run of a sweep
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("names", nargs="+", metavar="RUN|SWEEP", help="runs and sweeps")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.tracking import upload

    return upload.mirror(arguments.names, home=runs_home())


COMMAND = Command("mirror", "make the W&B folder of finished runs", _TEXT, _run, _add)
