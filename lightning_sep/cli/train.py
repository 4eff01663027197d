"""`lightning-sep train`."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_sep.cli.choices import choices_text, entries_text
from lightning_sep.cli.command import Command, Parser, add_settings, tell_twice
from lightning_sep.cli.process import ready_process, stopped_by_signals, threads_in, told_stopped
from lightning_sep.errors import Interrupted
from lightning_sep.homes import runs_home

_PRIMARY = (
    "test/si_sdr_improvement_db",
    "test/r2",
    "test/r2_free_running",
    "test/equal_error_rate",
    "test/min_dcf",
)

_TEXT = """\
Train and test one run. Settings are given as GROUP=ENTRY (a file of conf/GROUP) and
GROUP.SETTING=VALUE. The same settings are never trained twice: a finished run is shown from its
record, a stopped one goes on from its last checkpoint.

examples:
    lightning-sep train                                     separation with a small Wave-U-Net
    lightning-sep train head=sine trainer.epochs=3          another head, three epochs
    lightning-sep train task=autoregression seed=1          another task brings its own defaults
    lightning-sep train reweighting=loss_softmax reweighting.alpha=0.1
    lightning-sep train net=sudo_rm_rf_small --print-model  layers, shapes, parameters; no training
    lightning-sep train head=sine --print-config > mine.yaml  all settings and the id; no training
    lightning-sep train --config mine.yaml seed=1           those of a file, and what differs
    lightning-sep train data=esc10 init_from=3f2a           begin with the weights of a finished run
    lightning-sep train trainer.epochs=40 --train-on 3f2a   20 epochs more, after one of 20
    lightning-sep train trainer.fast_dev_run=true           one batch of each; nothing is kept
    lightning-sep train head=softmax --help                 what can be set in an entry

On a CPU a run computes with trainer.threads threads, one unless asked, whatever the environment
says: the number of threads changes the last digits of a result, so it is part of the run's id.
"""


def _add(parser: Parser, common: Parser) -> None:
    add_settings(parser, "settings of the run: GROUP=ENTRY, GROUP.SETTING=VALUE")
    parser.add_argument("--print-model", action="store_true", help="show the net and stop")
    parser.add_argument(
        "--print-config", action="store_true", help="show the composed settings and the run id"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in a file: a run's settings.yaml"
    )
    parser.add_argument(
        "--train-on",
        metavar="RUN",
        help="go on from this run of fewer epochs, trained with trainer.keep_last=true",
    )
    parser.add_argument("--json", action="store_true", help="print the run's record as JSON")


def _run(arguments: argparse.Namespace) -> int | None:
    given = arguments.settings
    if arguments.config is not None:
        from lightning_sep.settings.file import read_settings

        given = read_settings(arguments.config, given, arguments.config_dir)
    ready_process(threads_in(given, arguments.config_dir))
    from lightning_sep.settings import compose

    settings = compose(given, arguments.config_dir)
    tell_twice(arguments.settings)
    from lightning_sep import experiment, ranks
    from lightning_sep.parts import print_config, print_model

    if arguments.print_config:
        print(print_config(settings, home=runs_home()), end="")
        return None
    if arguments.print_model:
        print(print_model(settings))
        return None
    place = ranks.seat(os.environ)
    if place is not None:
        if place.rank > 0:
            from lightning_sep.cli import follow

            return follow.main(place)
        ranks.lead(place)
    try:
        with stopped_by_signals() as should_stop:
            result = experiment.run(
                settings,
                home=runs_home(),
                purpose="single",
                should_stop=should_stop,
                train_on=arguments.train_on,
            )
    except (Interrupted, SystemExit) as stopped:
        return told_stopped(should_stop, stopped)
    if arguments.json:
        print(json.dumps(result.record, indent=2))
        return None
    if settings.tree["trainer"]["fast_dev_run"]:
        print("one batch of training, validation and test went through; nothing was kept")
        return None
    print(f"run {result.run_id} {result.state}: {result.folder}")
    for name, value in _headline(result.record):
        print(f"    {name:<36} {value:.6g}")
    for remark in result.record["facts"].get("remarks", ()):
        print(f"    {remark}")
    return None


def _headline(record: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What a run is judged by: its primary test metrics and the best validation value."""
    metrics = record.get("metrics") or {}
    found = [(name, metrics[name]) for name in _PRIMARY if metrics.get(name) is not None]
    monitor = record.get("monitor") or {}
    if monitor.get("value") is not None:
        found.append((f"{monitor['name']} (best)", monitor["value"]))
    return found


COMMAND = Command("train", "train and test one run", _TEXT, _run, _add, choices_text, entries_text)
