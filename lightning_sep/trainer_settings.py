"""How long and on what a run trains, as checked values."""

from dataclasses import dataclass
from typing import Literal

from lightning_sep.checks import finite_number, refusal, whole_number


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of ``conf/trainer``.

    Args:
        epochs: passes over the training examples.
        precision: of the net's arithmetic; losses and metrics stay float32.
        device: ``auto`` takes a GPU when there is one.
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
