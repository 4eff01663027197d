"""The only training step of the house: a net and a head, trained on weighted examples."""

import random
import types
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import Facts
from lightning_sep.errors import ConfigError
from lightning_sep.functional.masking import finite, shield, weighted_sum
from lightning_sep.functional.noise import SharedGenerator
from lightning_sep.functional.processes import gathered, own_rank, world_size
from lightning_sep.functional.step_sums import StepSums
from lightning_sep.nets.abilities import BatchNet, Net
from lightning_sep.reweighting.base import Reweighting
from lightning_sep.reweighting.gather import global_weights
from lightning_sep.reweighting.uniform import Uniform
from lightning_sep.tasks.evaluation import Evaluation, Means

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule as Module
else:
    from torch.nn import Module


class MakeNet(Protocol):
    """Builds the net once the task knows how many numbers go in and come out."""

    def __call__(self, *, inputs: int, outputs: int) -> nn.Module: ...


class MakeLoss(Protocol):
    """Builds the loss, which takes of what the task knows (``embed``, ``classes``) what it asks
    for."""

    def __call__(self, **known: int) -> nn.Module: ...


MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


@dataclass(frozen=True)
class Parts:
    """What a task is made of, besides its own settings.

    Args:
        make_net: builds the net from ``inputs`` and ``outputs``.
        head: turns the net's raw values into what the loss and the listener get.
        loss_class: class of the loss.
        make_loss: builds it: the cost of an example, for heads that do not bring their own.
        make_optimizer: builds the optimizer from the parameters; ``None`` where nothing is trained.
        facts: what the examples say about the set that they are drawn from.
        seed: seeds every draw inside a training step.
    """

    make_net: MakeNet
    head: nn.Module
    loss_class: type[Any]
    make_loss: MakeLoss
    make_optimizer: MakeOptimizer | None
    facts: Facts
    seed: int


class Scored(NamedTuple):
    """What the examples of a batch cost.

    Args:
        losses: ``[example]``, one number per example; lower is better.
        groups: ``[example, member]`` int64, the class of each member of an example.
        mask: ``[example]`` bool; ``False`` leaves an example out (silence).
        rows: ``[example, member]`` int64, the rows of the batch that an example is made of.
        everyones: how many rows all batches have together, where the examples are those of all
            processes, the same in each, and the rows count through all batches; else ``None``.
        first: the number of this process's first row among them.
    """

    losses: Tensor
    groups: Tensor
    mask: Tensor
    rows: Tensor
    everyones: int | None = None
    first: int = 0


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """A seed for the draws of one training step: the same after a resume as without one."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) & (
        2**64 - 1
    )
    mixed = ((mixed ^ (mixed >> 31)) * 0xD6E8FEB86659FD93) & (2**64 - 1)
    return (mixed ^ (mixed >> 32)) & (2**63 - 1)


class Task(Module, ABC):
    """A net and a head, trained on weighted examples.

    A task with an optimizer is a ``LightningModule``; one without is a plain ``nn.Module``, so that
    who separates a file does not wait for Lightning, which takes longer to load than the rest.

    Subclasses say what one example costs and how it is scored; how much each example counts is
    decided elsewhere: ``reweighting`` is set by :class:`lightning_sep.callbacks.reweight.Reweight`
    and ``None`` is the plain mean.

    Args:
        parts: net, head, loss and what else a task is made of.

    Raises:
        ConfigError: net, head or loss belong to another task.
    """

    monitor: ClassVar[tuple[str, str]]  # validation metric that chooses, and "max" or "min"
    material: ClassVar[str]  # what the net must take, see ``lightning_sep.nets``
    head_type: ClassVar[type[nn.Module]]
    loss_type: ClassVar[type[nn.Module]]
    facts_type: ClassVar[type[Facts]]
    head: Any  # of ``head_type``
    loss: Any  # of ``loss_type``, or what the head brings in its place
    net: Net  # an ``nn.Module`` as well
    facts: Facts

    def __init__(self, *, parts: Parts) -> None:
        if parts.make_optimizer is not None:
            self.__class__ = _with_lightning(type(self))
        super().__init__()
        name = type(self).__name__
        for group, part, wanted in [
            ("head", type(parts.head), self.head_type),
            ("loss", parts.loss_class, self.loss_type),
        ]:
            if not issubclass(part, wanted):
                raise ConfigError(
                    f"{group}={part.__name__} does not serve {name}: it needs one that is of type "
                    f"{wanted.__name__}. `lightning-sep train --help` lists what goes together"
                )
        if not isinstance(parts.facts, self.facts_type):
            raise ConfigError(
                f"{name} needs examples that give {self.facts_type.__name__}, these give "
                f"{type(parts.facts).__name__}. `lightning-sep train --help` lists what goes "
                "together"
            )
        self.facts = parts.facts
        self.seed = parts.seed
        self.head = parts.head
        inputs, outputs = self.sizes()
        net = parts.make_net(inputs=inputs, outputs=outputs)
        if not isinstance(net, Net):
            raise ConfigError(
                f"net={type(net).__name__} does not say what material it takes, see "
                "lightning_sep/nets/abilities.py"
            )
        if net.material != self.material:
            raise ConfigError(
                f"net={type(net).__name__} takes {net.material} material, {name} has "
                f"{self.material}. `lightning-sep train --help` lists what goes together"
            )
        self.net = net
        # After the net, whose first weights so are the same whatever the loss draws for its own.
        self.loss = self.head.criterion(parts.make_loss(**self.known()))
        self._make_optimizer = parts.make_optimizer
        self.reweighting: Reweighting | None = None
        self.pieces = 1  # in which a batch goes through the net in training, one after the other
        # Of the last step, [example], this process's share of weights that sum to 1 over all
        # processes; NaN for examples left out.
        self.step_weights: Tensor | None = None
        # Summed on the device during an epoch, so that a step neither waits for it nor logs:
        # losses, examples, weighted losses, steps, examples with those whose loss is not finite.
        self.train_sums = StepSums(torch.zeros(5))
        self.epoch_metrics: dict[str, float] = {}
        self.example_values: dict[str, list[Any]] = {}  # of the last test, see `Evaluation.finish`
        self._evaluation: Evaluation | None = None  # the pass under way

    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Numbers per time step that go into the net and come out of it."""

    def known(self) -> dict[str, int]:
        """What a loss may ask for when it is built; nothing by default."""
        return {}

    @abstractmethod
    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        """What the examples of ``batch`` cost, from the net's raw values (``[batch, ...]``)."""

    @abstractmethod
    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """The net's raw values for a batch, ``[batch, ...]``."""

    def of_net(self, given: Any, **sizes: int) -> Tensor:
        """What the net has given, where it has the shape that the task goes on with.

        Args:
            given: raw values.
            sizes: of each dimension, by what it is.

        Raises:
            ConfigError: they have another shape.
        """
        shape = getattr(given, "shape", None)
        if shape != tuple(sizes.values()):
            gave = f"a {type(given).__name__}" if shape is None else str(list(shape))
            wanted = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ConfigError(
                f"net={type(self.net).__name__} gives {gave}, {type(self).__name__.lower()} needs "
                f"[{wanted}]: see lightning_sep/nets/abilities.py"
            )
        values: Tensor = given
        return values

    @abstractmethod
    def evaluation(self, stage: str) -> Evaluation:
        """A pass that has seen nothing; ``stage`` is ``val`` or ``test``."""

    def class_names(self) -> list[tuple[str, ...]]:
        """What each class number of :class:`Scored` groups is called: its name, then its group's
        where the data have any."""
        return self.facts.classes()

    def audio_examples(self, batch: Batch, count: int) -> dict[str, Tensor]:
        """Waveforms worth listening to, ``[channel, time]`` within -1 to 1, by name; none by
        default."""
        return {}

    def generator(self, batch: Batch) -> torch.Generator:
        """The generator of the current step: dropout masks, noise and every other draw."""
        if world_size() == 1 and self.pieces == 1:
            generator = torch.Generator(device=self.device)
        else:
            generator = SharedGenerator(device=self.device)
            generator.index = batch.index
        generator.manual_seed(step_seed(self.seed, self.global_step))
        return generator

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """The batch on the device, which the host does not wait for (Lightning would)."""
        return batch.to(device, non_blocking=True)

    def on_train_start(self) -> None:
        self.refuse_sharing(world_size(), self.pieces)

    def refuse_sharing(self, processes: int, pieces: int = 1) -> None:
        """Refuse what several processes, or micro-batches, would compute otherwise than one.

        Raises:
            ConfigError: the net norms over the batch, of which each of them has a part.
        """
        net = self.net
        if not (isinstance(net, BatchNet) and net.batch_statistics):
            return
        for count, several, setting in [
            (processes, "processes", "devices"),
            (pieces, "micro-batches", "accumulate"),
        ]:
            if count > 1:
                raise ConfigError(
                    f"net={type(net).__name__} norms over the batch, of which each of {count} "
                    f"{several} has a part: use trainer.{setting}=1, or a net that norms over "
                    "single examples"
                )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._seed_global_draws(self.global_step)

    def _seed_global_draws(self, step: int) -> None:
        """Seed what third-party code may draw from, as the draws of a step are: what it gives is
        the same after a resume as without one."""
        seed = step_seed(self.seed, step, own_rank())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        # Not by torch.manual_seed, which takes half a millisecond to prepare devices of no use.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        keep: list[Callable[[], Tensor | None]] = []
        raw = shield(self._raw_in_pieces(batch), lambda: keep[0]())
        scored = self.scores(batch, raw)
        if world_size() > 1 and scored.everyones is None:
            counts = (batch.index >= 0)[scored.rows].all(1)
            scored = scored._replace(mask=scored.mask & counts)
        # The graph of the losses leads to the raw values: what the hook there holds must be without
        # it, or the circle through autograd is never collected.
        values = scored._replace(losses=scored.losses.detach())
        mask = scored.mask & finite(values.losses)
        keep.append(lambda: _rows_kept(values, mask, len(batch)))
        weights = self._weights(values, mask)
        loss = weighted_sum(scored.losses, weights, mask)
        scorable, counted, share = scored.mask, mask, world_size()
        if scored.everyones is not None:  # each process tells of its share of what all of them have
            mine = torch.arange(len(mask), device=mask.device) % share == own_rank()
            scorable, counted, share = scorable & mine, counted & mine, 1
        self.step_weights = torch.where(counted, weights, torch.nan)
        if share > 1:
            self.step_weights /= share
        plain = torch.where(counted, values.losses, 0.0).sum()
        sums = (plain, counted.sum(), loss.detach(), torch.ones_like(plain), scorable.sum())
        self.train_sums.add(*sums)
        return loss

    def _raw_in_pieces(self, batch: Batch) -> Tensor:
        """The raw values of a training batch.

        In pieces, one after the other, nothing of the net is kept but its raw values; each piece
        goes through it once more when its gradient is due (Chen et al., arXiv:1604.06174). So all
        that comes after the net, the loss of pairs and the weights too, sees the whole batch, while
        the net's own values are there for one piece at a time.
        """
        generator = self.generator(batch)
        if self.pieces == 1:
            return self.raw(batch, generator)
        assert isinstance(generator, SharedGenerator)
        size = -(-len(batch) // self.pieces)
        cuts = [slice(first, first + size) for first in range(0, len(batch), size)]
        generator.all_rows()  # all processes ask now: they may have other numbers of pieces

        def raw(piece: slice) -> Tensor:
            return self.raw(batch.rows(piece), generator.of_piece(piece))

        return torch.cat([checkpoint(raw, piece, use_reentrant=False) for piece in cuts])

    def _weights(self, scored: Scored, mask: Tensor) -> Tensor:
        """How much each example counts; see :func:`global_weights`."""
        losses = scored.losses
        even = self.reweighting is None or type(self.reweighting) is Uniform
        if even and world_size() == 1:  # what the rule would give, to the bit
            return mask.to(losses.dtype) / mask.sum().clamp(min=1)
        rule = self.reweighting or Uniform()
        if scored.everyones is not None:
            return rule.weights(losses, scored.groups, mask, self.global_step)
        return global_weights(rule, losses, scored.groups, mask, self.global_step)

    def on_train_epoch_start(self) -> None:
        self.train_sums = StepSums(torch.zeros(5, device=self.device))
        self.epoch_metrics.clear()

    def on_train_epoch_end(self) -> None:
        """``train/loss`` is the plain mean over the examples of the epoch, whatever the rule that
        weighs them; what is minimised is ``train/weighted_loss``, the mean over its steps."""
        sums = self.train_sums.total().clone()
        if world_size() > 1:
            dist.all_reduce(sums)
        losses, examples, weighted, steps, scorable = sums.tolist()
        self.epoch_metrics["train/loss"] = losses / max(examples, 1)
        self.epoch_metrics["train/weighted_loss"] = weighted / steps
        self.epoch_metrics["train/non_finite"] = scorable - examples

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def _evaluation_step(self, batch: Batch) -> None:
        if self._evaluation is None:
            raise RuntimeError("a batch of an evaluation that nobody started")
        if world_size() > 1 and int(batch.index[0]) < 0:
            return
        self._evaluation.add(batch, self.raw(batch, None))

    def add_losses(self, means: Means, batch: Batch, raw: Tensor) -> None:
        """Add a batch to ``loss``, on what the head shows at evaluation, and to ``loss_raw``, on
        what it shows in training: for heads that clip at evaluation only they differ."""
        scored = self.scores(batch, raw)
        means.add("loss", scored.losses, scored.mask & scored.losses.isfinite())
        if self.head.shows_two:
            self.head.train()
            scored = self.scores(batch, raw)
            self.head.eval()
        means.add("loss_raw", scored.losses, scored.mask & scored.losses.isfinite())

    def on_validation_epoch_start(self) -> None:
        self._seed_global_draws(self.global_step)
        self._evaluation = self.evaluation("val")

    def on_test_epoch_start(self) -> None:
        self._seed_global_draws(0)
        self._evaluation = self.evaluation("test")

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self.example_values = self._finish("test")

    def _finish(self, stage: str) -> dict[str, list[Any]]:
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None:
            raise RuntimeError("the end of an evaluation that nobody started")
        metrics, values = evaluation.finish()
        metrics |= evaluation.means.values()
        self.epoch_metrics |= {f"{stage}/{name}": value for name, value in metrics.items()}
        return {f"{stage}/{name}": value for name, value in values.items()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self._make_optimizer is None:
            raise ValueError(f"this {type(self).__name__} was built without an optimizer")
        return self._make_optimizer(self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = self.train_sums.total()
        if world_size() > 1:  # each process goes on with its own, to the bit
            sums, _ = gathered(sums.unsqueeze(0))
        checkpoint["train_sums"] = sums.cpu()
        checkpoint["facts"] = self.facts.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = checkpoint["train_sums"].reshape(-1, 5)
        if len(sums) != world_size():  # another number of processes: the first has all of it
            share = world_size() / len(sums)  # of what each process counts for itself
            whole = sums.sum(0, keepdim=True) * sums.new_tensor([1, 1, share, share, 1])
            sums = torch.cat([whole, sums.new_zeros(world_size() - 1, 5)])
        self.train_sums = StepSums(sums[own_rank()].to(self.device))


def _rows_kept(scored: Scored, mask: Tensor, count: int) -> Tensor | None:
    """``[row]`` bool, which of this process's ``count`` rows stay in the gradient: those that any
    example in ``mask`` is made of. ``None`` is all of them, where knowing it costs no wait."""
    if mask.device.type == "cpu" and len(mask) and scored.everyones is None and bool(mask.all()):
        return None
    members = scored.rows.shape[1]
    total = count if scored.everyones is None else scored.everyones
    uses = torch.zeros(total, dtype=torch.int64, device=mask.device).index_add(
        0, scored.rows.flatten(), mask.long().repeat_interleave(members)
    )
    return uses[scored.first : scored.first + count] > 0


@cache
def _with_lightning(task: type[Task]) -> type[Task]:
    """The same task, and a ``LightningModule``, which is what a ``Trainer`` takes."""
    from pytorch_lightning import LightningModule

    names = {"__module__": task.__module__, "__qualname__": task.__qualname__}
    return types.new_class(
        task.__name__, (task, LightningModule), exec_body=lambda n: n.update(names)
    )
