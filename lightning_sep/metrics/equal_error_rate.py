"""Verification errors over all trials."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from lightning_sep.functional import verification
from lightning_sep.metrics.synchronised import all_processes


class EqualErrorRate(Metric):
    """Equal error rate by interpolation, exact for any range of scores, and the least cost.

    Args:
        prior: assumed share of same-class trials in ``min_dcf``, which is normalised as NIST does.
    """

    full_state_update = False
    higher_is_better = False
    scores: list[Tensor]
    same: list[Tensor]

    def __init__(self, prior: float = 0.01) -> None:
        super().__init__()
        self.prior = prior
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("same", default=[], dist_reduce_fx="cat")
        self._curve: tuple[int, verification.ErrorCurve | None] | None = None

    def update(self, scores: Tensor, same: Tensor) -> None:
        """Add trials.

        Args:
            scores: ``[trial]``, higher means more alike.
            same: ``[trial]`` bool, whether a trial is of one class.
        """
        self.scores.append(scores.detach().flatten())
        self.same.append(same.flatten())

    def values(self) -> Tensor:
        """Scores of all trials in the order of arrival, ``[trial]``."""
        return torch.as_tensor(self._trials()[0])

    def compute(self) -> dict[str, Tensor]:
        """``equal_error_rate``, ``min_dcf`` and the ``threshold`` at which both errors are closest.

        NaN when a score is NaN, or without trials of both kinds.
        """
        curve = self._error_curve()
        if curve is None:
            rate = threshold = cost = float("nan")
        else:
            rate, threshold = verification.equal_error_of(curve)
            cost = verification.min_dcf_of(curve, prior=self.prior)
        named = {"equal_error_rate": rate, "min_dcf": cost, "threshold": threshold}
        return {name: torch.tensor(one, dtype=torch.float64) for name, one in named.items()}

    def error_rate(self, threshold: float) -> float:
        """Mean of misses and false alarms at a threshold that was chosen on other data.

        NaN under the same conditions as in :meth:`compute`.
        """
        curve = self._error_curve()
        if curve is None or np.isnan(threshold):
            return float("nan")
        return verification.error_rate_of(curve, threshold=threshold)

    def _error_curve(self) -> verification.ErrorCurve | None:
        """Of all trials so far, sorted once; ``None`` where there is none."""
        if self._curve is None or self._curve[0] != self._update_count:
            scores, same = self._trials()
            usable = _usable(scores, same)
            curve = verification.error_curve(scores=scores, same=same) if usable else None
            self._curve = self._update_count, curve
        return self._curve[1]

    def _trials(self) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        with all_processes(self):
            parts = [one.float() if one.dtype in _HALF else one for one in _listed(self.scores)]
            flags = list(_listed(self.same))
        if not parts:
            return np.zeros(0), np.zeros(0, dtype=np.bool_)
        return (
            torch.cat(parts).cpu().numpy(),
            torch.cat(flags).cpu().numpy().astype(np.bool_),
        )


_HALF = (torch.float16, torch.bfloat16)


def _listed(state: list[Tensor] | Tensor) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else state


def _usable(scores: NDArray[np.floating], same: NDArray[np.bool_]) -> bool:
    return bool(same.any() and not same.all() and not np.isnan(scores).any())
