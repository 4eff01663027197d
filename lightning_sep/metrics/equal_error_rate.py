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
        scores, same = self._trials()
        if not _usable(scores, same):
            rate = threshold = cost = float("nan")
        else:
            rate, threshold = verification.equal_error_rate(scores=scores, same=same)
            cost = verification.min_dcf(scores=scores, same=same, prior=self.prior)
        named = {"equal_error_rate": rate, "min_dcf": cost, "threshold": threshold}
        return {name: torch.tensor(one, dtype=torch.float64) for name, one in named.items()}

    def error_rate(self, threshold: float) -> float:
        """Mean of misses and false alarms at a threshold that was chosen on other data.

        NaN under the same conditions as in :meth:`compute`.
        """
        scores, same = self._trials()
        if not _usable(scores, same) or np.isnan(threshold):
            return float("nan")
        return verification.error_rate_at(scores=scores, same=same, threshold=threshold)

    def _trials(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        with all_processes(self):
            parts = [one.float() if one.dtype in _HALF else one for one in _listed(self.scores)]
            flags = list(_listed(self.same))
        if not parts:
            return np.zeros(0), np.zeros(0, dtype=np.bool_)
        return (
            torch.cat(parts).cpu().numpy().astype(np.float64),
            torch.cat(flags).cpu().numpy().astype(np.bool_),
        )


_HALF = (torch.float16, torch.bfloat16)


def _listed(state: list[Tensor] | Tensor) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else state


def _usable(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> bool:
    return bool(same.any() and not same.all() and not np.isnan(scores).any())
