"""`lightning-sep preflight`."""

import argparse

from lightning_sep.cli.choices import choices_text, entries_text
from lightning_sep.cli.command import Command, Parser, add_settings
from lightning_sep.cli.process import ready_process, threads_in
from lightning_sep.cli.sweep import files_and_settings
from lightning_sep.homes import runs_home

WAIT_S = 300

_TEXT = """\
Try what a sweep needs before its workers are sent: whether the home can be written and has room,
whether the nodes see home, data and Python, whether Slurm takes the very script, and a few real
steps of training with every entry of conf/ that its space reaches. Starts no worker and leaves
nothing behind. With launcher=slurm the steps are made by a job of its own, with the partition, GPUs
and cores of a worker; --here makes them on this machine. Exit code 0, 2 with a line for each
problem, or 75 when no node became free for that job.

examples:
    lightning-sep preflight sweeps/bounded_heads.py
    lightning-sep preflight sweeps/bounded_heads.py launcher=slurm launcher.partition=NAME
    lightning-sep preflight --grid head=tanh,sine --json
"""


def _add(parser: Parser, common: Parser) -> None:
    add_settings(parser, "as of `sweep`: a file (.py), and settings for all of its runs")
    parser.add_argument("--grid", action="store_true", help="try all combinations of a=1,2 b=3,4")
    parser.add_argument("--name", help="name of the sweep's folder")
    parser.add_argument(
        "--here", action="store_true", help="train the few steps on this machine, not on a node"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"how long a node is waited for (default: {WAIT_S})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _run(arguments: argparse.Namespace) -> int | None:
    files, overrides = files_and_settings(arguments, "preflight")
    ready_process(threads_in(overrides, arguments.config_dir))
    from lightning_sep.sweep.preflight import preflight

    return preflight(
        files,
        overrides,
        grid=arguments.grid,
        name=arguments.name,
        home=runs_home(),
        config_dir=arguments.config_dir,
        json=arguments.json,
        here=arguments.here,
        wait_s=arguments.wait,
    )


COMMAND = Command(
    "preflight",
    "what would go wrong, before a sweep is sent",
    _TEXT,
    _run,
    _add,
    choices_text,
    entries_text,
)
