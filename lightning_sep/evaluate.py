"""A trained run on data that it was not trained on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
import yaml

from lightning_sep.data.examples import FIXED_SEEDS, Examples, Heard
from lightning_sep.data.progress import ProgressLine
from lightning_sep.errors import ConfigError
from lightning_sep.find import find_run
from lightning_sep.fingerprint import digest, software, weights_hash
from lightning_sep.fsio import finite, storage_errors, write_json
from lightning_sep.homes import data_home
from lightning_sep.record import now, read_record
from lightning_sep.settings import build, compose, from_tree
from lightning_sep.use import load_run

FORMAT = 1
FOLDER = "evaluations"
_EXAMPLES = ("examples=", "examples.")


@torch.no_grad()
def evaluate(
    run: str | Path,
    overrides: Sequence[str],
    *,
    home: Path,
    split: str = "test",
    config_dir: Path | str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Score a finished run on a prepared set, and write the result beside the run.

    Examples are drawn with the run's own settings, at the run's sample rate; what the run measured
    on its own training and validation parts (gain, threshold) stays as it is.

    Args:
        run: a run's folder, its id or the beginning of its id.
        overrides: ``data=ENTRY``, ``data.SETTING=VALUE``, ``examples=ENTRY`` (of the same kind of
            task, with its own settings) and ``examples.SETTING=VALUE``.
        home: folder of all runs.
        split: ``test`` or ``val``; of a set for testing only, ``test``.
        config_dir: a folder with entries of the user's own.

    Returns:
        The result, and the file that holds it. The values of the examples lie beside it, in the
        file that ``examples_file`` names.

    Raises:
        ConfigError: there is no such run, it is not finished, or a setting cannot be used.
        DataError: the data are not prepared, or do not hold what is needed.
        StorageError: the disk refused.
    """
    if split not in FIXED_SEEDS:
        raise ConfigError(f"no split '{split}' to evaluate on: known are {', '.join(FIXED_SEEDS)}")
    data = _data_settings(overrides, config_dir)
    folder = find_run(run, home)
    task = load_run(folder)
    record = read_record(folder) or {}
    known = _examples_of(overrides, record, config_dir)
    chosen = _example_settings(overrides, known)
    prepared = _opened(data, task.facts.sample_rate)
    channels = task.facts.channels
    if prepared.channels != channels:
        raise ConfigError(
            f"{prepared.name} has {prepared.channels} channels, the run was trained on {channels}: "
            f"use data.channels={'mean' if channels == 1 else 'keep, and files of as many'}"
        )
    examples: Examples = build(chosen)
    wanted = get_type_hints(type(examples).facts)["return"]
    if not isinstance(task.facts, wanted):
        raise ConfigError(
            f"{type(examples).__name__} are no examples for {folder.name}, which was trained on "
            "others: leave examples=... out, or name some of the same kind of task"
        )
    examples = examples.as_trained(task.facts)
    loader = examples.loader(prepared, split, seed=record["seed"])
    told = ProgressLine()
    task.on_test_epoch_start()
    for number, batch in enumerate(loader):
        told(number, len(loader), f"{prepared.name}: batches")
        task.test_step(batch, number)
    task.on_test_epoch_end()
    told(len(loader), len(loader), f"{prepared.name}: batches")
    draw = examples.draw(prepared, split)
    heard = Heard(draw, FIXED_SEEDS[split])
    heard.add(0)
    settings = {"data": data, "examples": chosen}
    values = {
        f"{split}/{name.removeprefix('test/')}": value
        for name, value in loader.told(task.example_values, "test").items()
    }
    name = f"{prepared.name}-{split}-{digest([prepared.hash, settings, split])[:12]}"
    path = folder / FOLDER / f"{name}.json"
    beside = folder / FOLDER / f"{name}.examples.json"
    result: dict[str, Any] = finite(
        {
            "format": FORMAT,
            "run_id": folder.name,
            "task": record["task"],
            "split": split,
            "metrics": {
                f"{split}/{name.removeprefix('test/')}": value
                for name, value in sorted(task.epoch_metrics.items())
            },
            "data": {prepared.name: prepared.hash},
            "settings": settings,
            "examples": draw.count,
            "examples_file": beside.name,
            "coverage": heard.share(),
            "remarks": [one for one in (prepared.remark(), *examples.remarks(prepared)) if one],
            "hashes": {
                "weights": weights_hash(task.state_dict()),
                "data": digest({prepared.name: prepared.hash}),
                "code": software()["code_hash"],
            },
            "made": now(),
        }
    )
    with storage_errors(path):
        write_json(beside, finite(values))
        write_json(path, result)
    return result, path


def _data_settings(overrides: Sequence[str], config_dir: Path | str | None) -> dict[str, Any]:
    """The settings of the data."""
    others = [one for one in overrides if not one.startswith(("data=", "data.", *_EXAMPLES))]
    if others:
        raise ConfigError(
            f"{others[0]}: only the data and their examples can be others than those of the run, "
            "such as data=esc10 examples.test=1000"
        )
    if not any(one.startswith("data=") for one in overrides):
        raise ConfigError("evaluate on what? Name the data: lightning-sep evaluate RUN data=esc10")
    chosen = [one for one in overrides if not one.startswith(_EXAMPLES)]
    return dict(compose(chosen, config_dir).tree["data"])


def _examples_of(
    overrides: Sequence[str], record: Mapping[str, Any], config_dir: Path | str | None
) -> Mapping[str, Any]:
    """The run's settings of the examples, or those of the entry that is asked for instead."""
    tree = from_tree(record["settings"]).tree
    named = [one for one in overrides if one.startswith("examples=")]
    if not named:
        return dict(tree["examples"])
    of_task = {name: value for name, value in tree["task"].items() if name != "_target_"}
    told = [f"task.{name}={json.dumps(value)}" for name, value in of_task.items()]
    return dict(compose([f"task={record['task']}", *told, *named], config_dir).tree["examples"])


def _example_settings(overrides: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The run's settings of the examples, with what is asked for otherwise."""
    chosen = dict(known)
    for one in overrides:
        if not one.startswith("examples."):
            continue
        name, _, value = one.removeprefix("examples.").partition("=")
        if name not in known or name == "_target_":
            names = ", ".join(sorted(set(known) - {"_target_"}))
            raise ConfigError(f"examples.{name}: no such setting; known are {names}")
        try:
            chosen[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{one}: '{value}' cannot be read as a value") from error
    return chosen


def _opened(data: dict[str, Any], sample_rate: int) -> Any:
    """The prepared set at the run's rate; ``data`` is told of it where it asked for none.

    Raises:
        ConfigError: another rate was asked for.
    """
    prepared = build(data).open(data_home(), ProgressLine())
    if prepared.sample_rate == sample_rate:
        return prepared
    if data.get("sample_rate") is not None:
        raise ConfigError(
            f"data.sample_rate = {data['sample_rate']}: the run was trained at {sample_rate} Hz. "
            f"Leave it out, or set data.sample_rate={sample_rate}"
        )
    data["sample_rate"] = sample_rate
    return build(data).open(data_home(), ProgressLine())
