"""The two families of losses: on waveforms, and on pairs of embeddings."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lightning_sep.functional.precision import at_least_float32, without_autocast


class WaveformLoss(nn.Module, ABC):
    """One number per signal; lower is better. Computed in float32 at least, under autocast too.

    Subclasses write the hook ``signal_loss``, and ``pairwise_loss`` if all pairs come cheaper
    together than one by one.
    """

    handles_silence: ClassVar[bool]  # whether a silent target can be scored; else it is masked out
    fixes_scale: ClassVar[bool] = True  # False: estimates of any scale and sign cost the same
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


class PairLoss(nn.Module, ABC):
    """One number per unordered pair of examples; lower is better. In float32 at least."""

    def __init__(self) -> None:
        super().__init__()

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


def _alike(
    estimate: Tensor, target: Tensor, mixture: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    estimate, target = at_least_float32(estimate), at_least_float32(target)
    dtype = torch.promote_types(estimate.dtype, target.dtype)
    return estimate.to(dtype), target.to(dtype), None if mixture is None else mixture.to(dtype)
