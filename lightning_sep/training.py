"""One attempt at a run: go on from what is there, fit, test, and say what came of it."""

import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch import distributed as dist

from lightning_sep import checkpoint_files
from lightning_sep.callbacks.average import Average
from lightning_sep.callbacks.checkpoint import BestLost, Checkpoints, SafeCheckpointIO
from lightning_sep.callbacks.history import History
from lightning_sep.callbacks.plan import Rate, Stages
from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.callbacks.watch import Watch
from lightning_sep.errors import NonFiniteLoss
from lightning_sep.fingerprint import weights_hash
from lightning_sep.fsio import sha256_file, write_aside, write_json
from lightning_sep.functional.processes import of_first, own_rank, world_size
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import build
from lightning_sep.tasks.base import Task
from lightning_sep.tracking import Tracking

Report = Callable[[int, float], bool]


@dataclass(frozen=True)
class Attempt:
    """What one process may do with a run, and whom it asks.

    Of processes that train together the first one alone asks anybody; the others are told what came
    of it, and know of ``report`` no more than whether there is one.

    Args:
        run_id: the run.
        folder: its folder.
        generation: of the claim; every file of this attempt carries it.
        guard: raises when another process has taken over; called before each write.
        should_stop: asked after each batch; ``True`` saves and raises ``Interrupted``.
        alive: called after each batch.
        report: gets epoch and monitored value after each validation; ``True`` prunes.
        sweep: the sweep that proposed the run.
        judged: whether it may have pruned this one before.
        purpose: ``"single"``, ``"search"`` or ``"final"``.
        log: writes a line into the run's log.
        show: gets each line of the history, for whoever watches.
        callbacks: of whoever watches; they change no number.
    """

    run_id: str
    folder: RunFolder
    generation: int
    guard: Callable[[], None]
    should_stop: Callable[[], bool]
    alive: Callable[[], None]
    report: Report | None
    sweep: str | None
    judged: bool
    purpose: str
    log: Callable[[str], None]
    show: Callable[[dict[str, Any]], None]
    callbacks: Sequence[pl.Callback] = ()


class Training:
    """A run's trainer and all that hangs on it, built once per attempt.

    Args:
        tree: the resolved settings.
        task: the task, initialised under the run's seed.
        loader: gives the batches of a split.
        attempt: what this process may do.
        about: what the tracker is told of the run.
        cleanup: closes the tracker, whatever happens.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        task: Task,
        loader: Callable[..., Any],
        attempt: Attempt,
        about: Mapping[str, Any],
        cleanup: ExitStack,
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.folder = attempt.folder
        self.seed: int = tree["seed"]
        settings = build(tree["trainer"])
        self.settings = settings
        self.device = settings.device
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.loader = partial(loader, pin=self.device == "cuda")
        self.example_values: dict[str, Any] | None = None
        self.weights: dict[str, Any] | None = None
        self._resume_from: Path | None = None
        self._step = 0

        name, mode = task.monitor
        tracking = build(tree["tracking"])
        self._quiet = own_rank() > 0  # the first process tells of the run
        # Nobody listens to the thousands of runs of a search.
        self.audio_count = 0 if attempt.purpose == "search" else tracking.audio_examples
        task.pieces = settings.accumulate
        self.batches = len(loader("train"))  # of an epoch, as long as they are of the usual size
        steps = self.batches * settings.epochs
        reweight = Reweight(build(tree["reweighting"]), steps=steps)

        def told(row: dict[str, Any]) -> None:
            if reweight.histogram is not None:
                self.tracker.histogram("train/weights", *reweight.histogram, step=row["step"])
            self.tracker.log(row)
            attempt.show(row)

        self.history = History(
            self.folder,
            generation=attempt.generation,
            monitor=name,
            mode=mode,
            told=told,
            guard=attempt.guard,
        )
        self.checkpoints = Checkpoints(
            self.folder,
            history=self.history,
            generation=attempt.generation,
            every_epochs=settings.checkpoint_every_epochs,
            every_steps=settings.checkpoint_every_steps,
            every_min=settings.checkpoint_every_min,
            guard=attempt.guard,
        )
        plan = build(tree["plan"])
        self.stages = Stages(plan, self.history, self.folder, attempt.run_id)
        average = None if settings.ema is None else Average(settings.ema)
        if average is not None:
            self.checkpoints.shows_best, self.stages.begun = average.shown, average.begin
        self.watch = Watch(
            self.history,
            self.checkpoints,
            report=attempt.report,
            should_stop=attempt.should_stop,
            alive=attempt.alive,
            sweep=attempt.sweep,
            judged=attempt.judged,
            patience=settings.patience,
            over=lambda: self.stages.now.over,
        )
        together = world_size() > 1
        environment = _Environment(settings.devices) if together else LightningEnvironment()
        self.trainer = pl.Trainer(
            accelerator="gpu" if self.device == "cuda" else "cpu",
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=_Together() if together else "auto",
            precision=settings.precision,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.gradient_clip,
            deterministic="warn" if settings.deterministic else False,
            callbacks=[
                reweight,
                Rate(plan, self.history, steps=steps),
                *([] if average is None else [average]),
                *settings.callbacks,
                self.history,
                self.watch,
                self.stages,
                *attempt.callbacks,
                self.checkpoints,
            ],
            reload_dataloaders_every_n_epochs=int(plan.changes_batch),
            plugins=[SafeCheckpointIO(attempt.run_id), environment],
            default_root_dir=self.folder.path,
            logger=False,
            profiler=_profiler(settings.profiler, self.folder.path, attempt.generation),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        # Lightning would end the process on SIGTERM wherever it is; here one place owns signals.
        self.trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        # Deterministic algorithms stay; what they do not need is every new tensor filled with NaN.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._open_tracker(tracking, about, cleanup)

    def _open_tracker(self, tracking: Any, about: Mapping[str, Any], cleanup: ExitStack) -> None:
        if self._quiet:
            tracking = Tracking(mode="disabled")
        self.tracker = tracking.open(self.folder.path, about)
        cleanup.push(self.tracker.left)

    def resume(self, *, from_start: bool = False) -> None:
        """Take over what earlier attempts have left: the newest checkpoint that verifies.

        Args:
            from_start: there is nothing worth going on from; what lies there is removed.
        """
        if from_start:
            of_first(self._remove_all)
        found = of_first(lambda: checkpoint_files.newest(self.folder, self.attempt.run_id))
        if found is not None:
            path = found.path
            saved = of_first(lambda: checkpoint_files.load(path, self.attempt.run_id))
            for callback in (self.history, self.watch):
                callback.load_state_dict(saved["callbacks"][callback.state_key])
            self._resume_from, self._step = found.path, found.step
            self._adopt_best()
        self.history.begin()
        for row in self.history.rows:
            self.tracker.log(row)
        total = self.batches * self.settings.epochs
        self.attempt.log(f"start at step {self._step} of {total}")

    def _remove_all(self) -> None:
        self.attempt.guard()
        self.checkpoints.remove_steps()
        for path in self.folder.bests():
            checkpoint_files.remove(path)

    def _best_weights(self) -> tuple[Path, dict[str, Any]] | None:
        step = self.history.best_row()["step"]
        return of_first(
            lambda: checkpoint_files.best_weights(self.folder, self.attempt.run_id, step)
        )

    def _adopt_best(self) -> None:
        if self.history.best_epoch is not None:
            best = self._best_weights()
            if best is not None:
                self.checkpoints.adopt_best(best[0])

    def fit(self) -> None:
        """Train to the end: of the epochs, of the patience, or of a pruner's.

        Raises:
            Interrupted: stopped on request, after a checkpoint.
            NonFiniteLoss: training diverged.
            BestLost: the weights that a stage begins with are damaged or gone.
        """
        if self.watch.ended:  # it was killed between its last epoch and its record
            return
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        # An epoch whose validation is still to come has no line yet, and no batch left.
        rows = self.history.rows
        done = rows[-1]["step"] if rows else 0
        train = self.loader("train", start_epoch=len(rows), start_batch=self._step - done)
        train.sampler.factor = self.stages.now.batch
        with _interruptible():
            self.trainer.fit(
                self.task,
                train,
                self.loader("val"),
                ckpt_path=self._resume_from,
                weights_only=True,
            )

    def test(self) -> dict[str, float]:
        """The metrics of the best epoch, and of the test with its weights unless it was pruned.

        Raises:
            BestLost: the best epoch's weights are damaged or gone.
            Interrupted: stopped on request; training is saved.
            NonFiniteLoss: no epoch had a finite value.
        """
        row = self.history.best_row()
        metrics = {key: value for key, value in row.items() if "/" in key}
        found = self._best_weights()
        if found is not None:
            self.weights = found[1]["state_dict"]
        elif not self.watch.pruned:
            raise BestLost
        if not self.watch.pruned and self.weights is not None:
            self.task.load_state_dict(self.weights)
            self.task.epoch_metrics.clear()
            with _interruptible():
                loader = self.loader("test")
                self.trainer.test(self.task, loader, verbose=False, weights_only=True)
            metrics |= self.task.epoch_metrics
            of_first(lambda: self._write_examples(loader))
        if not self.watch.pruned and not self._quiet:
            self._write_audio()
        return metrics

    def _write_examples(self, loader: Any) -> None:
        values = loader.told(self.task.example_values, "test")
        self.attempt.guard()
        write_json(self.folder.examples(self.attempt.generation), values)

    def outcome(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """What the record says of the training; the tracker is told, and closed."""
        generation = self.attempt.generation
        examples = self.folder.examples(generation)
        tested = not self.watch.pruned
        kept = [self.folder.best(generation)]
        outcome = {
            "state": "finished" if tested else "pruned",
            "metrics": dict(sorted(metrics.items())),
            "monitor": {
                "name": self.history.monitor,
                "mode": self.task.monitor[1],
                "value": self.history.best_value,
                "epoch": self.history.best_epoch,
            },
            "parameters": sum(value.numel() for value in self.task.parameters()),
            "facts": self.task.facts.plain(),
            "checkpoints": {path.name: sha256_file(path) for path in kept if path.exists()},
            "examples_file": examples.name if tested else None,
            "hashes": {
                "examples": sha256_file(examples) if tested else None,
                "weights": None if self.weights is None else weights_hash(self.weights),
            },
            "wall_s": round(self.history.elapsed_s, 3),
            "device_s": round(self.history.device_s, 3),
        }
        self.tracker.finish(outcome)
        return outcome

    def tidy(self, kept: Mapping[str, str]) -> None:
        """Remove what a finished run no longer needs: it keeps the weights that its record names.

        Args:
            kept: the record's checkpoints, by name.
        """
        self.checkpoints.remove_steps(kept=int(self.settings.keep_last))
        for path in self.folder.bests():
            if path.name not in kept:
                checkpoint_files.remove(path)

    def _write_audio(self) -> None:
        """Audio of the first test examples, as FLAC in the run's folder."""
        if not self.audio_count:
            return
        batch = next(iter(self.loader("test", rank=0, world=1)))
        task = self.task.eval()
        with torch.no_grad():
            examples = task.audio_examples(batch.to(task.device), self.audio_count)
        for name, waveform in examples.items():
            if not bool(waveform.isfinite().all()):
                raise NonFiniteLoss(
                    f"{name} of the test is not finite: the net's outputs are out of range; lower "
                    "optimizer.learning_rate or set trainer.gradient_clip"
                )
            # One example's signals share a gain, so that their levels can be compared by ear.
            samples = waveform.detach().cpu().float().clamp(-1, 1).T.numpy()
            encoded = BytesIO()
            soundfile.write(encoded, samples, task.facts.sample_rate, format="FLAC")
            self.attempt.guard()
            write_aside(self.folder.path / "audio" / f"{name}.flac", encoded.getvalue())


class _Environment(LightningEnvironment):
    """The processes that train together, which are there already.

    Args:
        devices: of them, on each node.
    """

    def __init__(self, devices: int) -> None:
        super().__init__()
        self.devices = devices

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return world_size()

    def global_rank(self) -> int:
        return own_rank()

    def local_rank(self) -> int:
        return own_rank() % self.devices

    def node_rank(self) -> int:
        return own_rank() // self.devices


class _Together(DDPStrategy):
    """Several processes, each with a share of a batch, whose gradients are averaged.

    All gradients in one piece, always in the same order: the buckets of torch's own wrapper change
    after the first step, and with them the order in which three and more processes are added up, so
    that a resumed run would end with other last digits. Files are written and read by the first
    process alone.
    """

    def configure_ddp(self) -> None:
        """Begin with the same numbers everywhere."""
        module = self.lightning_module
        assert module is not None
        for value in [*module.parameters(), *module.buffers()]:
            dist.broadcast(value.detach(), 0)

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients."""
        module = self.lightning_module
        assert module is not None
        gradients = [value.grad for value in module.parameters() if value.grad is not None]
        whole = torch.cat([one.flatten() for one in gradients]) / world_size()
        dist.all_reduce(whole)
        means = torch.split(whole, [one.numel() for one in gradients])
        for one, mean in zip(gradients, means, strict=True):
            one.copy_(mean.view_as(one))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; what goes wrong is raised in all processes."""
        save = partial(super().save_checkpoint, checkpoint, filepath, storage_options)
        of_first(save)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read a checkpoint, for all processes."""
        load = partial(super().load_checkpoint, checkpoint_path, weights_only)
        return of_first(load)


def _profiler(name: str | None, folder: Path, generation: int) -> Profiler:
    """What measures where time goes, and writes it into the run's folder at the end."""
    kinds: dict[str, type[Profiler]] = {
        "simple": SimpleProfiler,
        "advanced": AdvancedProfiler,
        "pytorch": PyTorchProfiler,
    }
    if name is None:
        return _Unprofiled()
    return kinds[name](dirpath=folder, filename=f"profile.{generation}")


class _Unprofiled(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, which opens a generator for each of some sixty
    hooks and parts of a step all the same."""

    _NOTHING: ClassVar = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]
        """A context that does nothing."""
        return self._NOTHING


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be what it is in Python: Lightning ends the process, and leaves SIGINT ignored."""
    held = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, held)
        raise KeyboardInterrupt from None
