"""The plain mean."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.reweighting.base import Reweighting


class Uniform(Reweighting):
    """Every example counts the same."""

    needs_length: ClassVar[bool] = False

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        return torch.zeros_like(losses)
