"""Linear in training, clipped at evaluation."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class ClipAtEval(WaveformHead):
    """``raw`` in training, ``clip(raw)`` at evaluation (Stoller, "Bounded output regression").

    Clipping a trained linear output never raises a squared or absolute error, since targets lie
    inside; during training the overshoot keeps its gradient. ``forward`` follows the module's mode
    (so losses of training and evaluation are different quantities), ``decode`` always clips.
    """

    def training_view(self, raw: Tensor) -> Tensor:
        # The loss must see the unclipped value, or an overshoot gets no gradient.
        return raw.squeeze(-1) if self.training else self.decoded(raw)

    def decoded(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).clamp(*self.bounds)

    def before_clipping(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1)
