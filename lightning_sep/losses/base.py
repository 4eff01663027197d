"""The families of losses: on waveforms, and on embeddings (on pairs, or on classes)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol, final

import torch
from torch import Tensor, nn

from lightning_sep.checks import whole_number
from lightning_sep.functional.precision import at_least_float32, without_autocast


class WaveformLoss(nn.Module, ABC):
    """One number per signal; lower is better. Computed in float32 at least, under autocast too.

    Subclasses write the hook ``signal_loss``, and ``pairwise_loss`` if all pairs come cheaper
    together than one by one.
    """

    handles_silence: ClassVar[bool]  # whether a silent target can be scored; else it is masked out
    fixes_scale: ClassVar[bool] = True  # False: estimates of any scale and sign cost the same
    on_waveforms: ClassVar[bool] = True  # not on the raw values of a head
    unit: ClassVar[str]  # of the values

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def signal_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        """What ``forward`` returns; shapes may broadcast up to the last dimension."""

    def pairwise_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        """What ``pairwise`` returns."""
        mixed = None if mixture is None else mixture[..., None, None, :]
        return self.signal_loss(estimate.unsqueeze(-2), target.unsqueeze(-3), mixed)

    def forward(self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None) -> Tensor:
        """Loss of each signal, ``[...]``.

        Args:
            estimate: ``[..., time]``.
            target: same shape.
            mixture: what the estimate was made from, ``[..., time]``, broadcast to the others.

        Raises:
            ValueError: the shapes of ``estimate`` and ``target`` differ.
        """
        if estimate.shape != target.shape:
            raise ValueError(
                f"estimate and target need the same shape, "
                f"got {list(estimate.shape)} and {list(target.shape)}"
            )
        with without_autocast(estimate):
            return self.signal_loss(*_alike(estimate, target, mixture))

    @final
    def pairwise(
        self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None
    ) -> Tensor:
        """Loss of each estimate for each target, ``[batch, estimate, target]``.

        Args:
            estimate: ``[batch, source, time]``.
            target: ``[batch, source, time]``.
            mixture: ``[batch, time]``.

        Raises:
            ValueError: the numbers of examples or of samples differ.
        """
        if estimate.shape[:-2] != target.shape[:-2] or estimate.shape[-1] != target.shape[-1]:
            raise ValueError(
                f"estimate and target need the same batch and time, "
                f"got {list(estimate.shape)} and {list(target.shape)}"
            )
        with without_autocast(estimate):
            return self.pairwise_loss(*_alike(estimate, target, mixture))


class Embedder(Protocol):
    """The head that a loss on embeddings asks; see :class:`lightning_sep.heads.base`."""

    def __call__(self, raw: Tensor) -> Tensor:
        """The rows as a loss sees them, ``[row, embed]``."""

    def divergence(self, raw: Tensor) -> Tensor:
        """How far row j is from row i, ``[row, row]``."""


class Costs(NamedTuple):
    """What examples made of the rows of a batch cost.

    Args:
        losses: ``[example]``; lower is better.
        groups: ``[example, member]`` int64, the class of each member of an example.
        rows: ``[example, member]`` int64, the rows that an example is made of.
    """

    losses: Tensor
    groups: Tensor
    rows: Tensor


class EmbeddingLoss(nn.Module, ABC):
    """What rows of embeddings cost, in examples of the loss's own making.

    A loss may have parameters: they are trained with the net's and kept in checkpoints.
    """

    # Whether labels must be classes: 0 to n - 1 for the speakers of the training part, -1 for
    # all others. Else any numbers do.
    wants_classes: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def costs(self, head: Embedder, raw: Tensor, labels: Tensor) -> Costs:
        """Of raw values ``[row, embed]`` with labels ``[row]``."""

    @abstractmethod
    def group_names(self, classes: Sequence[str]) -> list[tuple[str, ...]]:
        """What each number in :attr:`Costs.groups` is called, where classes have these names."""

    @abstractmethod
    def of_pairs(self, *, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        """Loss of single pairs ``[...]``, for evaluation; NaN where a loss says nothing of pairs.

        Args:
            forth: how far the second is from the first, in float32 at least.
            back: how far the first is from the second.
            same: bool, whether they are of one class.
        """


class PairLoss(EmbeddingLoss):
    """One number per unordered pair of examples; lower is better. In float32 at least."""

    def costs(self, head: Embedder, raw: Tensor, labels: Tensor) -> Costs:
        """See :meth:`EmbeddingLoss.costs`: an example is a pair, of class 0 for different labels
        and 1 for one."""
        same = labels[:, None] == labels[None, :]
        pairs = torch.triu_indices(len(raw), len(raw), offset=1, device=raw.device)
        return Costs(
            losses=self(divergence=head.divergence(raw), same=same),
            groups=same[pairs[0], pairs[1]].long().unsqueeze(1),
            rows=pairs.T,
        )

    def group_names(self, classes: Sequence[str]) -> list[tuple[str, ...]]:
        """Of pairs, not of classes."""
        return [("different",), ("same",)]

    def of_pairs(self, *, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        """See :meth:`EmbeddingLoss.of_pairs`."""
        with without_autocast(forth):
            return self.pair_loss(forth, back, same)

    @abstractmethod
    def pair_loss(self, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        """What ``forward`` returns, from both directions of each pair, ``[..., pair]`` each."""

    def forward(self, *, divergence: Tensor, same: Tensor) -> Tensor:
        """Loss of every pair i < j, row by row: (0, 1), (0, 2), ..., (1, 2), ...

        Args:
            divergence: ``[batch, batch]``, how far example j is from example i.
            same: ``[batch, batch]`` bool, whether they are of one class.

        Returns:
            ``[batch * (batch - 1) / 2]``.

        Raises:
            ValueError: shapes that do not fit.
        """
        if divergence.shape != same.shape or divergence.shape[-1] != divergence.shape[-2]:
            raise ValueError(
                f"divergence and same need one shape [batch, batch], "
                f"got {list(divergence.shape)} and {list(same.shape)}"
            )
        size = divergence.shape[-1]
        one, two = torch.triu_indices(size, size, offset=1, device=divergence.device)
        with without_autocast(divergence):
            divergence = at_least_float32(divergence)
            return self.pair_loss(
                divergence[..., one, two], divergence[..., two, one], same[..., one, two]
            )


class ClassLoss(EmbeddingLoss):
    """Cross-entropy of a row's class, by a classifier over the speakers of the training part that
    is trained with the net and left behind after it. In float32 at least.

    Speakers of validation and test are none of its classes: there it costs nothing that could be
    told, and runs are judged by their error rates alone. Subclasses write the hook ``logits``.

    Args:
        embed: numbers in an embedding; filled in by the task.
        classes: speakers of the training part; filled in by the task.

    Raises:
        ConfigError: fewer than two classes.
    """

    wants_classes: ClassVar[bool] = True

    def __init__(self, *, embed: int, classes: int) -> None:
        super().__init__()
        self.embed = whole_number("embed", embed)
        self.classes = whole_number(
            "classes", classes, at_least=2, meaning="speakers of the training part"
        )

    @abstractmethod
    def logits(self, rows: Tensor, own: Tensor) -> Tensor:
        """Logits ``[row, class]`` of rows ``[row, embed]``; ``own [row, class]`` bool is where a
        row's own class is."""

    def forward(self, *, embedding: Tensor, classes: Tensor) -> Tensor:
        """Loss of each row in nats, ``[row]``; NaN where its class is -1.

        Args:
            embedding: ``[row, embed]``, as the head shows it to a loss.
            classes: ``[row]`` int64, 0 to n - 1, or -1 for none of them.

        Raises:
            ValueError: rows of another size, or another number of classes.
        """
        if embedding.shape[-1] != self.embed or embedding.shape[:-1] != classes.shape:
            raise ValueError(
                f"{type(self).__name__} needs rows [row, {self.embed}] and classes [row], got "
                f"{list(embedding.shape)} and {list(classes.shape)}"
            )
        with without_autocast(embedding):
            own = classes.unsqueeze(-1) == torch.arange(self.classes, device=classes.device)
            shares = self.logits(at_least_float32(embedding), own).log_softmax(-1)
            losses = -torch.where(own, shares, 0.0).sum(-1)
            return torch.where(own.any(-1), losses, torch.nan)

    def costs(self, head: Embedder, raw: Tensor, labels: Tensor) -> Costs:
        """See :meth:`EmbeddingLoss.costs`: an example is a row, of its speaker's class."""
        return Costs(
            losses=self(embedding=head(raw), classes=labels),
            groups=labels.unsqueeze(1),
            rows=torch.arange(len(raw), device=raw.device).unsqueeze(1),
        )

    def group_names(self, classes: Sequence[str]) -> list[tuple[str, ...]]:
        """See :meth:`EmbeddingLoss.group_names`."""
        return [(name,) for name in classes]

    def of_pairs(self, *, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        """Nothing: see :meth:`EmbeddingLoss.of_pairs`."""
        return torch.full_like(forth, torch.nan)


def _alike(
    estimate: Tensor, target: Tensor, mixture: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    estimate, target = at_least_float32(estimate), at_least_float32(target)
    dtype = torch.promote_types(estimate.dtype, target.dtype)
    return estimate.to(dtype), target.to(dtype), None if mixture is None else mixture.to(dtype)
