"""Easy examples first, all alike in the end."""

from collections.abc import Sequence

from torch import Tensor

from lightning_sep.errors import ConfigError
from lightning_sep.functional.numbers import hold
from lightning_sep.reweighting.base import Reweighting


class Curriculum(Reweighting):
    """Softmax of the losses, scaled by a negative number that rises to 0
    (Tzinis, Bralios, Smaragdis, arXiv:2010.13228, eq. 6).

    ``beta(step) = beta_start * max(0, 1 - step / (end * steps))``, with the run's optimizer steps.

    Args:
        beta_start: per unit of loss, negative: low losses weigh more at the start.
        end: share of the run's steps, in (0, 1], from which on every example counts the same.

    Raises:
        ConfigError: a number is out of its range.
    """

    beta_start: float | Tensor
    end: float | Tensor

    def __init__(self, beta_start: float | Tensor, end: float | Tensor) -> None:
        super().__init__()
        hold(
            self,
            "beta_start",
            beta_start,
            at_most=0.0,
            meaning="a curriculum starts with easy examples; loss_softmax favours hard ones",
        )
        hold(
            self,
            "end",
            end,
            positive=True,
            at_most=1.0,
            meaning="share of the run's steps after which every example counts the same",
        )
        self.steps: int | None = None

    def prepare(self, *, steps: int, classes: Sequence[tuple[str, ...]]) -> None:
        self.steps = steps

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        if self.steps is None:
            raise ConfigError(
                "a curriculum has to know how long the run is: call prepare(steps=..., classes=[])"
            )
        left = 1 - step / (self.end * self.steps)
        if isinstance(left, Tensor):
            return self.beta_start * left.to(losses).clamp(min=0.0) * losses
        return self.beta_start * max(left, 0.0) * losses
