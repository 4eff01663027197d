"""One run: settings → data, net, head, loss → fit → test → record."""

import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch
import yaml
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from lightning_sep import run_id as identities
from lightning_sep.callbacks.checkpoint import BEST, Checkpoints, SafeCheckpointIO, newest
from lightning_sep.callbacks.history import History
from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.callbacks.watch import Watch
from lightning_sep.errors import Interrupted, LeaseLost, NonFiniteLoss
from lightning_sep.fsio import (
    append_line,
    read_lines,
    sha256_file,
    storage_errors,
    write_aside,
    write_json,
)
from lightning_sep.homes import data_home
from lightning_sep.record import environment, now, read_record, write_record
from lightning_sep.settings import Settings, build
from lightning_sep.tasks.base import Parts, Task

EXAMPLE_VALUES = "test_examples.json"


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Args:
        run_id: names the folder.
        folder: what the run left behind.
        state: ``"finished"`` or ``"pruned"``.
        record: the content of ``record.json``.
        monitored: best value of the validation metric that chooses.
    """

    run_id: str
    folder: Path
    state: str
    record: dict[str, Any]
    monitored: float


@dataclass(frozen=True)
class Built:
    """A run's objects, built from its settings."""

    run_id: str
    prepared: Any
    examples: Any
    task: Task


def open_data(settings: Settings) -> Any:
    """The prepared corpus of a run.

    Raises:
        DataError: it is not prepared, or not usable.
    """
    return build(settings.tree["data"]).open(data_home())


def identify(settings: Settings, prepared: Any | None = None) -> str:
    """The run id: what the settings, the data and the package's version make of it."""
    prepared = prepared if prepared is not None else open_data(settings)
    return identities.run_id(settings.tree, prepared.hash)


def build_parts(settings: Settings, prepared: Any | None = None) -> Built:
    """Everything a run consists of, on the CPU, initialised under the run's seed.

    Raises:
        ConfigError: parts do not go together.
        DataError: the data are not prepared, or not usable.
    """
    prepared = prepared if prepared is not None else open_data(settings)
    examples = build(settings.tree["examples"])
    task = build_task(settings.tree, examples.facts(prepared))
    return Built(identify(settings, prepared), prepared, examples, task)


def build_task(tree: Mapping[str, Any], facts: Mapping[str, Any]) -> Task:
    """A task with its net, head and loss, initialised under the run's seed.

    Args:
        tree: resolved settings.
        facts: what the examples said of the data when the run was trained.

    Raises:
        ConfigError: parts do not go together.
    """

    def make_net(*, inputs: int, outputs: int) -> nn.Module:
        net: nn.Module = build(tree["net"], inputs=inputs, outputs=outputs)
        return net

    trainer = tree["trainer"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tree["seed"])
        task: Task = build(
            tree["task"],
            parts=Parts(
                make_net=make_net,
                head=build(tree["head"]),
                loss=build(tree["loss"]),
                # Lightning cannot clip the gradients of a fused optimizer under mixed precision.
                make_optimizer=partial(
                    build(tree["optimizer"]).build,
                    fused=trainer["precision"] == "32" or trainer["gradient_clip"] is None,
                ),
                facts=facts,
                seed=tree["seed"],
            ),
        )
    return task


def print_model(settings: Settings) -> str:
    """The net's layers, the shape of what each gives, and the parameter count."""
    parts = build_parts(settings)
    task = parts.task
    batch = next(iter(parts.examples.loader(parts.prepared, "val", seed=0)))
    shapes: dict[str, str] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, gives: Any) -> None:
            first = gives[0] if isinstance(gives, tuple) else gives
            shapes[name] = str(list(first.shape)) if isinstance(first, Tensor) else ""

        return hook

    named = [(name, module) for name, module in task.net.named_modules() if name]
    hooks = [module.register_forward_hook(note(name)) for name, module in named]
    with torch.no_grad():
        raw = task.raw(batch, None)
    for hook in hooks:
        hook.remove()
    lines = [f"{'layer':40} {'type':20} {'gives':24} parameters"]
    for name, module in named:
        count = sum(value.numel() for value in module.parameters())
        lines.append(f"{name:40} {type(module).__name__:20} {shapes.get(name, ''):24} {count:,}")
    lines.append(f"raw values for a batch of {len(batch)}: {list(raw.shape)}")
    lines.append(f"parameters: {sum(value.numel() for value in task.parameters()):,}")
    return "\n".join(lines)


def run(
    settings: Settings,
    *,
    home: Path,
    sweep: str | None = None,
    trial: int | None = None,
    purpose: str = "single",
    report: Callable[[int, float], bool] | None = None,
    should_stop: Callable[[], bool] | None = None,
    guard: Callable[[], None] | None = None,
) -> Result:
    """Train and test one run, or go on with it, or return it at once when it is finished.

    Args:
        settings: what the run is.
        home: folder of all runs.
        sweep: the sweep that proposed it.
        trial: its number there.
        purpose: ``"single"``, ``"search"`` (a sweep looks for good settings) or ``"final"`` (a
            finalist on a fresh seed).
        report: gets epoch and monitored value after each validation; ``True`` prunes.
        should_stop: asked after each batch; ``True`` saves and raises ``Interrupted``.
        guard: raises ``LeaseLost`` when another process owns the run; called before each write.

    Raises:
        Interrupted: stopped on request; the same call goes on.
        NonFiniteLoss: training diverged; the record says so.
        StorageError: the disk is full; what was there is whole.
    """
    guard = guard or (lambda: None)
    should_stop = should_stop or (lambda: False)
    prepared = open_data(settings)
    identity = identify(settings, prepared)
    folder = home / identity
    record = read_record(folder)
    done = ("finished", "pruned") if purpose == "search" else ("finished",)
    if record is not None and record["state"] in done:
        return _result(folder, record)
    parts = build_parts(settings, prepared)  # what is refused leaves no folder behind
    with storage_errors(folder / "log.txt"):
        folder.mkdir(parents=True, exist_ok=True)
    guard()
    about = {
        "run_id": identity,
        "config_hash": identities.config_hash(settings.tree),
        "state": "failed",
        "purpose": purpose,
        "task": settings.choices.get("task") or settings.tree["task"]["_target_"].split(".")[-2],
        "settings": settings.tree,
        "overrides": list(settings.overrides),
        "seed": settings.tree["seed"],
        "sweep": sweep,
        "trial": trial,
    }
    write_aside(folder / "settings.yaml", yaml.safe_dump(settings.tree, sort_keys=False))
    log = _Log(folder / "log.txt")
    attempt = {"started": now(), "pid": os.getpid()}
    append_line(folder / "attempts.jsonl", json.dumps(attempt))
    try:
        with _quiet(log), ExitStack() as cleanup:
            record = _train_and_test(
                settings, parts, folder, about, log, report, should_stop, guard, cleanup
            )
    except (Interrupted, LeaseLost, KeyboardInterrupt):
        raise
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.write(f"failed: {text}")
        # A full disk is the machine's fault: nothing is known about the settings.
        if not isinstance(error, OSError) and getattr(error, "exit_code", 1) != 2:
            guard()
            attempts = read_lines(folder / "attempts.jsonl")
            write_record(
                folder,
                about
                | {
                    "metrics": {},
                    "parameters": sum(value.numel() for value in parts.task.parameters()),
                    "data": {prepared.name: prepared.hash},
                    "environment": environment(
                        str(parts.task.device), settings.tree["trainer"]["deterministic"]
                    ),
                    "attempts": len(attempts),
                    "error": text,
                    "started": attempts[0]["started"],
                    "finished": now(),
                },
            )
        raise
    return _result(folder, record)


def _result(folder: Path, record: dict[str, Any]) -> Result:
    value = record["monitor"]["value"]
    return Result(record["run_id"], folder, record["state"], record, value)


class _Log:
    """A run's ``log.txt``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        append_line(self.path, f"{now()} {text}")


@contextmanager
def _quiet(log: _Log) -> Iterator[None]:
    """Lightning's advice and third-party warnings go to the run's log, not over the progress."""
    import logging

    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    lightning.setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            lightning.setLevel(level)
            for warning in caught:
                log.write(f"warning: {str(warning.message).splitlines()[0]}")


def _show_progress(row: dict[str, Any], epochs: int, name: str) -> None:
    """One line per epoch on stderr: where it stands and how long it will take."""
    done = row["epoch"] + 1
    left = row["time_s"] / done * (epochs - done)
    print(
        f"epoch {done}/{epochs} · train/loss {row['train/loss']:.4g} · {name} {row[name]:.4g} · "
        f"{row['time_s']:.0f} s, about {left:.0f} s left",
        file=sys.stderr,
        flush=True,
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield f"{prefix}{key}", value


def _write_audio(parts: Built, folder: Path, count: int) -> dict[str, np.ndarray]:
    """Audio of the first test examples: FLAC in the run's folder, samples for the tracker."""
    if not count:
        return {}
    batch = next(iter(parts.examples.loader(parts.prepared, "test", seed=0)))
    task = parts.task.eval()
    with torch.no_grad():
        examples = task.audio_examples(batch.to(task.device), count)
    folder.mkdir(exist_ok=True)
    audio = {}
    for name, waveform in examples.items():
        # One example's signals share a gain, so that their levels can be compared by ear.
        samples = waveform.detach().cpu().float().clamp(-1, 1).numpy()
        path = folder / f"{name}.flac"
        with storage_errors(path):
            soundfile.write(path, samples, int(task.facts["sample_rate"]))
        audio[name] = samples
    return audio


def _train_and_test(
    settings: Settings,
    parts: Built,
    folder: Path,
    about: dict[str, Any],
    log: _Log,
    report: Callable[[int, float], bool] | None,
    should_stop: Callable[[], bool],
    guard: Callable[[], None],
    cleanup: ExitStack,
) -> dict[str, Any]:
    tree = settings.tree
    trainer_settings = build(tree["trainer"])
    prepared = parts.prepared
    task = parts.task
    name, mode = task.monitor
    device = trainer_settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    reweight = Reweight(build(tree["reweighting"]))
    tracking = build(tree["tracking"])
    tracker = tracking.open(
        folder=folder,
        run_id=parts.run_id,
        group=about["sweep"],
        job_type=about["task"],
        tags=[about["purpose"], *sorted(f"{k}={v}" for k, v in settings.choices.items())],
        config={
            "run_id": parts.run_id,
            "config_hash": about["config_hash"],
            "data_hash": prepared.hash,
            **{key: value for key, value in settings.choices.items()},
            **dict(_flat(tree)),
        },
        monitor=task.monitor,
    )
    cleanup.callback(tracker.close)

    def told(row: dict[str, Any]) -> None:
        if reweight.histogram is not None:
            tracker.histogram("train/weights", *reweight.histogram, step=row["step"])
        tracker.log(row)
        if trainer_settings.progress and about["purpose"] == "single":
            _show_progress(row, trainer_settings.epochs, name)

    history = History(folder / "metrics.jsonl", monitor=name, mode=mode, told=told, guard=guard)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        history=history,
        every_steps=trainer_settings.checkpoint_every_steps,
        guard=guard,
    )
    watch = Watch(
        history,
        checkpoints,
        report=report,
        should_stop=should_stop,
        patience=trainer_settings.patience,
    )
    checkpoint_io = SafeCheckpointIO()
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=trainer_settings.precision,
        max_epochs=trainer_settings.epochs,
        gradient_clip_val=trainer_settings.gradient_clip,
        deterministic="warn" if trainer_settings.deterministic else False,
        callbacks=[reweight, history, watch, checkpoints],
        plugins=[checkpoint_io, LightningEnvironment()],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    resume = newest(folder / "checkpoints")
    step = 0 if resume is None else int(resume.stem.removeprefix("step-"))
    workers = trainer_settings.workers
    batches = len(parts.examples.loader(prepared, "train", seed=tree["seed"]))
    log.write(f"start at step {step} of {batches * trainer_settings.epochs}")
    random.seed(tree["seed"])
    np.random.seed(tree["seed"])
    torch.manual_seed(tree["seed"])

    def loader(split: str, **where: int) -> Any:
        return parts.examples.loader(prepared, split, seed=tree["seed"], workers=workers, **where)

    if resume is not None:
        saved = checkpoint_io.load_checkpoint(resume)["callbacks"]
        for callback in (history, watch):
            callback.load_state_dict(saved[callback.state_key])
    if not watch.ended:  # else it was killed between its last epoch and its record
        trainer.fit(
            task,
            loader("train", start_epoch=step // batches, start_batch=step % batches),
            loader("val"),
            ckpt_path=resume,
            weights_only=True,
        )
    device_s = history.elapsed_s
    rows = read_lines(folder / "metrics.jsonl")
    if history.best_epoch is None:
        raise NonFiniteLoss(f"{name} was never finite: there is no best epoch to test")
    best = next(row for row in rows if row["epoch"] == history.best_epoch)
    metrics = {key: value for key, value in best.items() if "/" in key}
    audio: dict[str, np.ndarray] = {}
    if not watch.pruned:
        state = checkpoint_io.load_checkpoint(folder / "checkpoints" / BEST)
        task.load_state_dict(state["state_dict"])
        task.epoch_metrics.clear()
        trainer.test(task, loader("test"), verbose=False, weights_only=True)
        metrics |= task.epoch_metrics
        guard()
        write_json(folder / EXAMPLE_VALUES, task.example_values)
        audio = _write_audio(parts, folder / "audio", tracking.audio_examples)
    tracker.finish(
        {key: value for key, value in metrics.items() if key.startswith("test/")},
        audio,
        int(task.facts["sample_rate"]),
    )
    record = about | {
        "state": "pruned" if watch.pruned else "finished",
        "metrics": dict(sorted(metrics.items())),
        "monitor": {
            "name": name,
            "mode": mode,
            "value": history.best_value,
            "epoch": history.best_epoch,
        },
        "parameters": sum(value.numel() for value in task.parameters()),
        "data": {prepared.name: prepared.hash},
        "facts": task.facts,
        "environment": environment(device, trainer_settings.deterministic),
        "attempts": len(read_lines(folder / "attempts.jsonl")),
        "error": None,
        "checkpoints": {
            path.name: sha256_file(path) for path in sorted((folder / "checkpoints").glob("*.ckpt"))
        },
        "examples_file": None if watch.pruned else EXAMPLE_VALUES,
        "wall_s": round(history.elapsed_s, 3),
        "device_s": round(device_s, 3),
        "started": read_lines(folder / "attempts.jsonl")[0]["started"],
        "finished": now(),
    }
    guard()
    record = write_record(folder, record)
    log.write(f"{record['state']}: {name} = {history.best_value}")
    return record
