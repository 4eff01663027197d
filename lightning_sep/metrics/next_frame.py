"""How much of the next frame a prediction explains."""

import torch
from torch import Tensor

from lightning_sep.functional.precision import measured
from lightning_sep.metrics.examples import ExampleMetric


class NextFrameR2(ExampleMetric):
    """Coefficient of determination against the zero predictor, and what simple predictors reach.

    ``1 - sum(error^2) / sum(target^2)`` over all samples of all examples: 1 is perfect, 0 is no
    better than silence. A mean squared error alone hides how little a model explains.
    """

    higher_is_better = True

    def update(
        self,
        estimate: Tensor,
        target: Tensor,
        previous: Tensor,
        mask: Tensor | None = None,
        index: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            estimate: ``[batch, frame, sample]``.
            target: same shape.
            previous: the true frame before each target, same shape.
            mask: ``[batch]`` bool; ``False`` is a silent example and is left out.
            index: ``[batch]`` int64, number of each example in its split.

        Raises:
            ValueError: the shapes differ.
        """
        if not estimate.shape == target.shape == previous.shape:
            raise ValueError(
                f"estimate, target and previous need the same shape, got {list(estimate.shape)}, "
                f"{list(target.shape)} and {list(previous.shape)}"
            )
        target = measured(target)
        wrong = [measured(estimate) - target, measured(previous) - target, target]
        energies = [one.flatten(1).square().sum(1) for one in wrong]
        samples = torch.full_like(energies[0], float(target[0].numel() if len(target) else 1))
        rows = torch.stack([*energies, samples], dim=1)
        if mask is not None:
            rows = torch.where(mask.unsqueeze(1), rows, torch.nan)
        self.keep(rows, index)

    def values(self) -> Tensor:
        """R2 of every active example by itself, ``[active]``."""
        rows = self._active()
        return _r2(rows[:, 0], rows[:, 2])

    def sequences(self) -> dict[str, Tensor]:
        """Of every sequence in order: its number ``index``, its ``r2``, its sums of squares
        ``error`` and ``energy``; NaN for silent ones."""
        ordered = self.ordered()
        if ordered is None:
            rows, numbers = torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0).long()
        else:
            rows, numbers = ordered
        error, _, energy, _ = rows.unbind(1)
        r2 = torch.where(energy.isnan(), torch.nan, _r2(error, energy))
        return {"index": numbers, "r2": r2, "error": error, "energy": energy}

    def compute(self) -> dict[str, Tensor]:
        """``r2``, ``mse``, ``r2_zero`` and ``r2_repeat_last``; NaN without an active example."""
        error, repeated, energy, samples = self._active().sum(0)
        if samples == 0:
            energy = samples = samples + torch.nan
        return {
            "r2": _r2(error, energy),
            "mse": error / samples,
            "r2_zero": _r2(energy, energy),
            "r2_repeat_last": _r2(repeated, energy),
        }

    def _active(self) -> Tensor:
        table = self.table()
        if table is None:
            return torch.zeros(0, 4, dtype=torch.float64)
        return table[~table[:, 3].isnan()]


def _r2(error: Tensor, energy: Tensor) -> Tensor:
    """0 where there is no energy and no error either: what the zero predictor gets."""
    known = energy != 0
    ratio = error / torch.where(known, energy, 1.0)
    return torch.where(known, 1 - ratio, torch.where(error == 0, 0.0, -torch.inf))
