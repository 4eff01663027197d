"""The two families of heads: raw values in; waveforms or embeddings out."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, TypeVar, final

import torch
from torch import Tensor, nn

from lightning_sep.functional.divergence import Parts
from lightning_sep.functional.precision import at_least_float32, without_autocast


class Criterion(Protocol):
    """What a task asks of a loss on signals, whoever brings it.

    The losses of :mod:`lightning_sep.losses` that compare waveforms are such, and what a head
    that brings its loss gives (:class:`OwnLoss`).
    """

    @property
    def handles_silence(self) -> bool:
        """Whether a silent target can be scored; else it is masked out."""

    @property
    def on_waveforms(self) -> bool:
        """Whether estimates are waveforms ``[..., time]``; else raw values of a head,
        ``[..., time, raw_per_sample]``."""

    def __call__(
        self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None
    ) -> Tensor:
        """Loss of each signal, ``[...]``; ``target`` is ``[..., time]``."""

    def pairwise(
        self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None
    ) -> Tensor:
        """Loss of each estimate for each target, ``[batch, estimate, target]``; ``target`` is
        ``[batch, target, time]``."""


Loss = TypeVar("Loss", bound=nn.Module)


class WaveformHead(nn.Module, ABC):
    """The last step of a net that makes sound.

    A head shows the same output twice. ``forward`` is what the loss sees, ``decode`` what a
    listener, a metric or the next autoregressive step gets. Heads that bound their output only at
    evaluation differ in the two. Both are computed in float32 at least, under autocast too.

    Subclasses write the hooks ``training_view`` and ``decoded``; those that clip also
    ``before_clipping``, those that draw ``drawn``, and those that bring their own loss
    ``cross_entropy``.

    Shapes: raw values ``[..., raw_per_sample]``, one row of them per output sample ``[...]``.
    """

    # Not called `parameters`, since every nn.Module has a method of that name.
    raw_per_sample: int = 1  # raw numbers that the net must give per output sample
    brings_loss: ClassVar[bool] = False  # trained with `own_loss` instead of a loss on waveforms
    exact_gradient: ClassVar[bool] = True  # False: backward is meant not to be the derivative
    # Decoded values stay inside, ends included; infinite where there are none.
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def training_view(self, raw: Tensor) -> Tensor:
        """What ``forward`` returns, from raw values in full precision."""

    @abstractmethod
    def decoded(self, raw: Tensor) -> Tensor:
        """What ``decode`` returns, ``[...]``, from finite raw values in full precision."""

    def before_clipping(self, raw: Tensor) -> Tensor:
        """What ``unclipped`` returns; heads that clip override it."""
        return self.decoded(raw)

    def drawn(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """What ``sample`` returns, ``[...]``; without a distribution there is one value."""
        return self.decoded(raw)

    def cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        """What ``own_loss`` returns, ``[...]`` in nats; ``target`` may broadcast to ``raw``."""
        raise TypeError(
            f"{type(self).__name__} brings no loss of its own: score its output with a loss"
        )

    def pairwise_cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        """What ``pairwise_loss`` returns; heads for which an estimate's share of the work need be
        done only once override it."""
        return self.cross_entropy(raw.unsqueeze(2), target.unsqueeze(1)).mean(-1)

    def forward(self, raw: Tensor) -> Tensor:
        """What the loss sees: estimates ``[...]``, or distributions ``[..., raw_per_sample]``.

        Raises:
            ValueError: the last dimension of ``raw`` is not ``raw_per_sample``.
        """
        self._check(raw)
        with without_autocast(raw):
            return self.training_view(at_least_float32(raw))

    @final
    def decode(self, raw: Tensor) -> Tensor:
        """What a listener, a metric or the next frame gets: ``[...]``, always within ``bounds``.

        Infinite raw values (an overflow in half precision) count as the largest finite ones; NaN
        stays NaN.

        Raises:
            ValueError: the last dimension of ``raw`` is not ``raw_per_sample``.
        """
        self._check(raw)
        with without_autocast(raw):
            return self.decoded(_finite(at_least_float32(raw))).clamp(*self.bounds)

    @final
    def unclipped(self, raw: Tensor) -> Tensor:
        """What ``decode`` would give if it did not clip, ``[...]``: how often the bounds bind.

        Heads that bend towards their bounds, or fold back from them, have nothing to clip.

        Raises:
            ValueError: the last dimension of ``raw`` is not ``raw_per_sample``.
        """
        self._check(raw)
        with without_autocast(raw):
            return self.before_clipping(_finite(at_least_float32(raw)))

    @final
    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """A draw for generation, ``[...]`` within ``bounds``; without a distribution, ``decode``.

        Raises:
            ValueError: the last dimension of ``raw`` is not ``raw_per_sample``.
        """
        self._check(raw)
        with without_autocast(raw):
            return self.drawn(_finite(at_least_float32(raw)), generator).clamp(*self.bounds)

    @property
    def shows_two(self) -> bool:
        """Whether ``seen`` may differ between training and evaluation."""
        return not self.brings_loss

    @final
    def seen(self, raw: Tensor) -> Tensor:
        """What ``criterion`` gets as estimate: ``forward``'s values, or the raw ones
        ``[..., raw_per_sample]`` of a head that brings its loss."""
        if self.brings_loss:
            return raw
        shown: Tensor = self(raw)
        return shown

    @final
    def criterion(self, loss: Criterion) -> Criterion:
        """What scores ``seen``: ``loss``, unless the head brings its own."""
        return OwnLoss(self) if self.brings_loss else loss

    @final
    def own_loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each sample less the target's entropy, ``[...]`` in nats.

        Lower is better, and a perfect prediction costs 0 (a logistic mixture, whose scales have a
        floor, nearly).

        Args:
            raw: ``[..., raw_per_sample]``.
            target: ``[...]``; what lies outside of ``bounds`` counts as the nearer end.

        Raises:
            TypeError: the head brings no loss (``brings_loss`` is False).
            ValueError: shapes that do not fit.
        """
        self._check(raw)
        if raw.shape[:-1] != target.shape:
            raise ValueError(
                f"raw and target need the same shape up to the parameters, "
                f"got {list(raw.shape)} and {list(target.shape)}"
            )
        with without_autocast(raw):
            raw = at_least_float32(raw)
            return self.cross_entropy(raw, target.to(raw.dtype).clamp(*self.bounds))

    @final
    def pairwise_loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Mean over time of ``own_loss``, of each estimate for each target, in nats.

        Args:
            raw: ``[batch, estimate, time, raw_per_sample]``.
            target: ``[batch, target, time]``.

        Returns:
            ``[batch, estimate, target]``.

        Raises:
            TypeError: the head brings no loss (``brings_loss`` is False).
            ValueError: shapes that do not fit.
        """
        self._check(raw)
        if raw.ndim != 4 or raw.shape[::2] != target.shape[::2]:
            raise ValueError(
                f"raw and target need the shapes [batch, estimate, time, parameter] and [batch, "
                f"target, time], got {list(raw.shape)} and {list(target.shape)}"
            )
        with without_autocast(raw):
            raw = at_least_float32(raw)
            return self.pairwise_cross_entropy(raw, target.to(raw.dtype).clamp(*self.bounds))

    def _check(self, raw: Tensor) -> None:
        if raw.ndim == 0 or raw.shape[-1] != self.raw_per_sample:
            raise ValueError(
                f"{type(self).__name__} needs raw values [..., {self.raw_per_sample}], "
                f"got {list(raw.shape)}"
            )


class OwnLoss:
    """The loss that a head brings, as tasks know losses: means over time, in nats.

    No module, since the head is one already.

    Args:
        head: whose raw values are scored.
    """

    handles_silence: ClassVar[bool] = True
    on_waveforms: ClassVar[bool] = False

    def __init__(self, head: WaveformHead) -> None:
        self.head = head

    def __call__(
        self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Criterion.__call__`."""
        return self.head.own_loss(estimate, target).mean(-1)

    def pairwise(
        self, *, estimate: Tensor, target: Tensor, mixture: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Criterion.pairwise`."""
        return self.head.pairwise_loss(estimate, target)


class EmbeddingHead(nn.Module, ABC):
    """The last step of a net that describes a recording by a row of numbers.

    ``forward`` is what a loss on rows sees, ``decode`` the embedding that a user gets, and
    ``divergence`` how far apart the rows of a batch are. All in float32 at least.

    Shapes: raw values ``[batch, embed]``.
    """

    is_distribution: ClassVar[bool] = False  # decoded rows are non-negative and sum to 1

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def training_view(self, raw: Tensor) -> Tensor:
        """What ``forward`` returns, from raw values in full precision."""

    @abstractmethod
    def decoded(self, raw: Tensor) -> Tensor:
        """What ``decode`` returns, from finite raw values in full precision."""

    @abstractmethod
    def pairwise(self, raw: Tensor) -> Tensor:
        """What ``divergence`` returns, from finite raw values in full precision."""

    def pairwise_parts(self, raw: Tensor) -> Parts:
        """What ``divergence_parts`` returns; heads that can do without the pairs within each of
        the two slices override it."""

        def part(rows: slice, columns: slice) -> Tensor:
            one, other = raw[rows], raw[columns]
            return self.pairwise(torch.cat([one, other]))[: len(one), len(one) :]

        return part

    def forward(self, raw: Tensor) -> Tensor:
        """The rows as a loss sees them, ``[batch, embed]`` (distributions: log-probabilities)."""
        with without_autocast(raw):
            return self.training_view(at_least_float32(raw))

    @final
    def decode(self, raw: Tensor) -> Tensor:
        """The embeddings, ``[batch, embed]`` (distributions: probabilities)."""
        with without_autocast(raw):
            return self.decoded(_finite(at_least_float32(raw)))

    @final
    def criterion(self, loss: Loss) -> Loss:
        """What scores the rows: heads of this family bring no loss."""
        return loss

    @final
    def divergence(self, raw: Tensor) -> Tensor:
        """How far row j is from row i, ``[batch, batch]``: all ordered pairs, D(i||j).

        A row with a value that is not finite makes its own pairs NaN and leaves the others, and
        their gradients, as they are.
        """
        with without_autocast(raw):
            raw = at_least_float32(raw)
            whole = raw.isfinite().all(-1)
            result = self.pairwise(torch.where(whole.unsqueeze(-1), raw, 0.0))
            return torch.where(whole.unsqueeze(-1) & whole.unsqueeze(-2), result, torch.nan)

    @final
    def divergence_parts(self, raw: Tensor) -> Parts:
        """``divergence`` a part at a time, where there is no room for all pairs.

        Args:
            raw: ``[batch, embed]``.

        Returns:
            A function of two slices that gives the divergences of the rows of the one from those
            of the other, ``[row, column]``.
        """
        with without_autocast(raw):
            raw = at_least_float32(raw)
            whole = raw.isfinite().all(-1)
            part = self.pairwise_parts(torch.where(whole.unsqueeze(-1), raw, 0.0))

        def cut(rows: slice, columns: slice) -> Tensor:
            with without_autocast(raw):
                both = whole[rows].unsqueeze(-1) & whole[columns]
                return torch.where(both, part(rows, columns), torch.nan)

        return cut


def _finite(raw: Tensor) -> Tensor:
    largest = torch.finfo(raw.dtype).max
    return raw.clamp(-largest, largest)
