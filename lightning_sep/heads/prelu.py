"""The failure that a public question describes, kept for comparison."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_sep.checks import refusal
from lightning_sep.functional.divergence import Parts, kl_parts, pairwise_kl
from lightning_sep.functional.numbers import filled, hold
from lightning_sep.heads.base import EmbeddingHead


class PReLU(EmbeddingHead):
    """PReLU outputs compared as if they were probabilities: kept because it is known to fail.

    Rows do not sum to 1, so the "divergence" can be negative and the hinge on different speakers
    can exceed its margin; clipping as in Keras kills the gradient of everything outside. See
    ``softmax`` and ``softplus`` for the heads that work.

    Args:
        slope: of negative values at the start; it is learnt.
        lowest: values are clipped to at least this before the logarithm.
        highest: and to at most this.
    """

    lowest: float | Tensor
    highest: float | Tensor

    def __init__(
        self, slope: float = 0.25, lowest: float | Tensor = 1e-7, highest: float | Tensor = 1.0
    ) -> None:
        super().__init__()
        hold(self, "slope", slope, meaning="slope of negative values at the start")
        hold(self, "lowest", lowest, positive=True, meaning="its logarithm is taken")
        hold(self, "highest", highest, positive=True, meaning="its logarithm is taken")
        if bool((torch.as_tensor(lowest) >= torch.as_tensor(highest)).any()):
            raise refusal("lowest", lowest, f"a number below highest = {highest} is needed")
        self.activation = nn.PReLU(init=float(slope))

    def training_view(self, raw: Tensor) -> Tensor:
        return F.prelu(raw, self.activation.weight.to(raw.dtype))

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)

    def pairwise(self, raw: Tensor) -> Tensor:
        return pairwise_kl(self._logarithms(raw))

    def pairwise_parts(self, raw: Tensor) -> Parts:
        return kl_parts(self._logarithms(raw))

    def _logarithms(self, raw: Tensor) -> Tensor:
        ends = filled(self.lowest, raw), filled(self.highest, raw)
        return self.training_view(raw).clamp(*ends).log()
