"""How much each example of a batch counts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from lightning_sep.functional.masking import finite
from lightning_sep.functional.precision import at_least_float32, without_autocast

_LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.float64)}


class Reweighting(nn.Module, ABC):
    """Losses in, weights out: a softmax over scores (Tzinis, Bralios, Smaragdis, "Unified Gradient
    Reweighting for Model Biasing", ICASSP 2021, arXiv:2010.13228).

    Subclasses write the hook ``scores``. The weighted sum replaces the batch *mean* and is not
    divided by the number of examples again. The softmax runs over the batch, so its size matters;
    with gradient accumulation it runs over all micro-batches of a step.
    """

    needs_length: ClassVar[bool] = True  # whether `scores` depend on the steps of the whole run

    def __init__(self) -> None:
        super().__init__()

    def prepare(self, *, steps: int, classes: Sequence[tuple[str, ...]]) -> None:
        """Told before training what only the run knows; most rules need nothing of it.

        Args:
            steps: optimizer steps of the whole run.
            classes: what each class number is called: the class's name, then its group's, if any.

        Raises:
            ConfigError: the settings do not fit the run.
        """

    @abstractmethod
    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        """F, the logarithm of the weight up to a constant, ``[example]``.

        Args:
            losses: ``[example]``, finite, without gradient.
            groups: ``[example, member]`` int64, the class of each member of an example.
            step: optimizer steps taken so far.
        """

    @final
    def weights(self, losses: Tensor, groups: Tensor, mask: Tensor, step: int | Tensor) -> Tensor:
        """Weights that sum to 1, ``[example]``: constants for the gradient.

        Were they not, easy examples could get a negative gradient, that is, be made worse.

        Args:
            losses: ``[example]``; one that is not finite gets weight 0.
            groups: ``[example, member]`` int64.
            mask: ``[example]`` bool; ``False`` gives weight 0.
            step: optimizer steps taken so far.

        Returns:
            All 0 when no example is left.
        """
        with without_autocast(losses):
            losses = at_least_float32(losses.detach())
            dropped = ~(mask & finite(losses))
            scores = self.scores(losses.masked_fill(dropped, 0), groups, step).detach()
            scores = at_least_float32(scores)
            largest = _LARGEST[scores.dtype]
            scores = scores.clamp(-largest, largest).masked_fill(dropped, -torch.inf)
            return scores.softmax(-1).masked_fill(dropped, 0)
