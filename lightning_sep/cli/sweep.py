"""`lightning-sep sweep`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lightning_sep.cli.choices import choices_text, entries_text
from lightning_sep.cli.command import (
    Command,
    Parser,
    add_settings,
    count,
    number,
    tell_twice,
    time_span,
)
from lightning_sep.errors import ConfigError
from lightning_sep.homes import runs_home

_TEXT = """\
Launch a sweep, or go on with it: the same command resumes. A sweep is a Python file with a value
SWEEP and a function overrides(trial), or a grid given here. Every configuration is trained once.

examples:
    lightning-sep sweep sweeps/bounded_heads.py                   a question asked in a file
    lightning-sep sweep sweeps/bounded_heads.py trainer.epochs=2  the same, with a setting for all
    lightning-sep sweep --grid head=tanh,sine,hard_clip           each, the best on fresh seeds
    lightning-sep sweep --grid head=tanh,sine --finalists 0       these two runs and no more
    lightning-sep sweep --grid head=tanh seed=0,1,2               these three runs and no more
    lightning-sep sweep my.py --enqueue "head=tanh" --time-budget 2h   this guess first; stop then
    lightning-sep sweep sweeps/margin.py launcher=slurm launcher.gpus=1   the workers are Slurm jobs
"""


def _add(parser: Parser, common: Parser) -> None:
    add_settings(parser, "a sweep's file (.py), and settings for all of its runs")
    parser.add_argument("--grid", action="store_true", help="try all combinations of a=1,2 b=3,4")
    parser.add_argument(
        "--name", help="name of the sweep's folder (default: from the file or grid)"
    )
    parser.add_argument("--trials", type=count, metavar="N", help="trials in all")
    parser.add_argument(
        "--finalists", type=number, metavar="N", help="settings run again on fresh seeds; 0: none"
    )
    parser.add_argument(
        "--enqueue",
        action="append",
        default=[],
        metavar='"A=1 B=2"',
        help="parameters of the space to try next; may be given again",
    )
    parser.add_argument(
        "--time-budget",
        type=time_span,
        metavar="2h",
        help="save and stop after so long (s, min, h)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be started, and do nothing"
    )
    parser.add_argument("--workers", type=count, metavar="N", help="processes (default: per core)")


def files_and_settings(arguments: argparse.Namespace, command: str) -> tuple[list[str], list[str]]:
    """The sweep files among the words that were given, and the other words.

    Raises:
        ConfigError: there is neither a file nor ``--grid``.
    """
    given: list[str] = arguments.settings
    files = [one for one in given if one.endswith(".py") and "=" not in one]
    if not files and not arguments.grid:
        raise _nothing_to_try(given, command)
    return files, [one for one in given if one not in files]


def _nothing_to_try(given: Sequence[str], command: str) -> ConfigError:
    """What to say where neither a file nor a grid was given: which files there are."""
    words = [one for one in given if "=" not in one]
    files = sorted(map(str, Path("sweeps").glob("*.py")))
    meant = [one for one in files if Path(one).stem in words]
    text = "".join(f"{word}: " for word in words[:1]) + "a sweep's file (.py) or --grid is needed"
    if meant:
        text += f". Did you mean {meant[0]!r}?"
    elif files:
        text += f". Known: {', '.join(files)}"
    return ConfigError(f"{text}; see `lightning-sep {command} --help`")


def _run(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.sweep import commands

    tell_twice(arguments.settings)
    files, overrides = files_and_settings(arguments, "sweep")
    return commands.launch(
        files=files,
        overrides=overrides,
        grid=arguments.grid,
        workers=arguments.workers,
        trials=arguments.trials,
        finalists=arguments.finalists,
        enqueue=arguments.enqueue,
        time_budget_s=arguments.time_budget,
        name=arguments.name,
        home=runs_home(),
        config_dir=arguments.config_dir,
        dry_run=arguments.dry_run,
    )


COMMAND = Command(
    "sweep", "launch a sweep, or go on with it", _TEXT, _run, _add, choices_text, entries_text
)
