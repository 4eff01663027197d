"""`lightning-sep sync`."""

import argparse

from lightning_sep.cli.command import Command, Parser
from lightning_sep.homes import runs_home

_TEXT = """\
Upload runs that were mirrored to W&B offline, from a node with internet: all of the home, or those
of some sweeps, or some runs. Only what W&B does not have yet is sent, so it can be said again and
again, also while a sweep runs; what was interrupted goes on. A run stays one, with each step once,
however often it was stopped and requeued.

Project and entity are those that the runs were mirrored for: tracking.project and tracking.entity,
else WANDB_PROJECT and WANDB_ENTITY when they were trained. Runs of tracking=none are left out;
`lightning-sep mirror` makes a mirror of them.

A project gets a view of its boards, once: settings by their test score, curves over epochs. That
takes `pip install 'lightning_sep[workspaces]'`.

examples:
    lightning-sep sync                             every run of the home
    lightning-sep sync bounded_heads               the runs of a sweep, be it done or not
    lightning-sep sync 4f1c09 --project other      one run, into another project
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="RUN|SWEEP", help="runs and sweeps (default: all)"
    )
    parser.add_argument("--project", help="another W&B project")
    parser.add_argument("--entity", help="another W&B user or team")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.tracking import upload

    return upload.sync(
        arguments.names,
        project=arguments.project,
        entity=arguments.entity,
        home=runs_home(),
    )


COMMAND = Command("sync", "upload offline W&B runs", _TEXT, _run, _add)
