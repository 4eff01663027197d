"""No last activation at all."""

import math
from typing import ClassVar

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class Linear(WaveformHead):
    """``raw`` in training and after it: what the bounded heads are compared with.

    The only head that follows targets beyond full scale (``examples.normalise=std``). Audio files
    hold no more than full scale: what lies beyond is clipped when it is written.
    """

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def training_view(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1)

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)
