"""`lightning-sep worker`."""

import argparse
import os

from lightning_sep.cli.command import Command, Parser
from lightning_sep.cli.process import ready_process
from lightning_sep.homes import runs_home

_TEXT = """\
Take trials of a sweep until its budget is spent. `lightning-sep sweep` starts workers by itself;
this is what each of them runs, and what a batch job of your own may run as well.

It leaves with 0 when nothing is left to do, 2 when its input or the disk is refused, and 75 when
work is left that another process is to go on with: after SIGTERM or SIGUSR1, when it has waited
for the disk in vain (LIGHTNING_SEP_WAIT_S, 600 s), or when it can be trusted no more.

example:
    lightning-sep worker bounded_heads
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("sweep", help="name of the sweep, or names joined by commas")


def _run(arguments: argparse.Namespace) -> int | None:
    ready_process(os.environ.get("OMP_NUM_THREADS", "1"))  # as its launcher chose
    from lightning_sep import ranks

    place = ranks.seat(os.environ)
    if place is not None:
        if place.rank > 0:
            from lightning_sep.cli import follow

            return follow.main(place)
        ranks.lead(place)
    from lightning_sep.sweep import worker

    return worker.main(arguments.sweep.split(","), runs_home())


COMMAND = Command("worker", "take trials of a sweep", _TEXT, _run, _add)
