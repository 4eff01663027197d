"""How long and on what a run trains, as checked values."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning_sep.checks import finite_number, refusal, whole_number


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of ``conf/trainer``.

    Args:
        epochs: passes over the training examples.
        precision: of the net's arithmetic; losses and metrics stay float32.
        device: ``auto`` takes a GPU when there is one; in a Slurm job that has GPUs it needs one.
        accumulate: micro-batches of an optimizer step, which is that of one batch as large as all
            of them: reweighting, noise and pairs see it whole.
        ema: memory of a running mean of the weights, which is validated, kept and tested in their
            place; ``None``: the weights themselves.
        limit_batches: of an epoch, of validation and of the test, at most; ``None``: all.
        fast_dev_run: one batch of each, to see that everything works; nothing is kept.
        profiler: what of Lightning's says in the run's folder where time went; ``None``: nothing.
        callbacks: Lightning's hooks of one's own, entries with ``_target_``.
        gradient_clip: largest norm of the gradient; ``None`` does not clip.
        devices: GPUs, or processes on a CPU, that train one run together on each node; each takes
            its share of every batch, and the numbers are those of one.
        nodes: machines that train one run together; Slurm's ``srun`` starts them.
        strategy: how devices train together; ``auto`` is ``ddp`` where there are several.
        threads: of the processor, for one run on a CPU; another number gives other last digits.
        checkpoint_every_epochs: epochs between two checkpoints; the last one always has one.
        checkpoint_every_steps: a checkpoint within an epoch too; ``None``: none.
        checkpoint_every_min: minutes after which a checkpoint is due, wherever the run is;
            ``None``: never by time.
        keep_last: a finished run keeps its last checkpoint, for more epochs later.
        hang_s: seconds without a step, a batch or a file after which a worker gives the run's
            process up; ``None``: never.
        workers: processes that load data; the numbers do not depend on it.
        patience: epochs without a better validation value before stopping; ``None``: never.
        progress: a line per epoch on stderr.
        deterministic: refuse operations that give other bits each time.

    Raises:
        ConfigError: a number is out of its range.
    """

    epochs: int
    precision: Literal["32", "bf16-mixed", "16-mixed"]
    device: Literal["auto", "cpu", "cuda"]
    gradient_clip: float | None
    threads: int
    checkpoint_every_epochs: int
    checkpoint_every_steps: int | None
    checkpoint_every_min: float | None
    hang_s: float | None
    workers: int
    patience: int | None
    progress: bool
    deterministic: bool
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    keep_last: bool = False
    accumulate: int = 1
    ema: float | None = None
    limit_batches: int | None = None
    fast_dev_run: bool = False
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    callbacks: Sequence[Any] = ()

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes

    def __post_init__(self) -> None:
        whole_number("epochs", self.epochs)
        whole_number("threads", self.threads)
        whole_number("devices", self.devices)
        whole_number("nodes", self.nodes)
        whole_number("workers", self.workers, at_least=0)
        whole_number("checkpoint_every_epochs", self.checkpoint_every_epochs)
        whole_number("accumulate", self.accumulate)
        # Who has a hook has imported Lightning; nobody else has to.
        hooks = getattr(sys.modules.get("pytorch_lightning"), "Callback", ())
        for one in self.callbacks:
            if not isinstance(one, hooks):
                needed = "entries with _target_ of a pytorch_lightning.Callback are needed"
                raise refusal("callbacks", one, needed)
        if self.limit_batches is not None:
            whole_number("limit_batches", self.limit_batches, meaning="null is all")
        if self.ema is not None:
            finite_number("ema", self.ema, above=0, below=1, meaning="null is no mean")
        for name in ("checkpoint_every_steps", "patience"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), meaning="null is never")
        for name in ("checkpoint_every_min", "hang_s"):
            if getattr(self, name) is not None:
                finite_number(name, getattr(self, name), above=0, meaning="null is never")
        if self.gradient_clip is not None:
            finite_number("gradient_clip", self.gradient_clip, above=0, meaning="null is no clip")
        if self.precision == "16-mixed" and self.device == "cpu":
            needed = "needs a GPU; on a CPU take 32 or bf16-mixed"
            raise refusal("precision", self.precision, needed)
