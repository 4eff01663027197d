"""How much closer separated sources are than the mixture was."""

import torch
from torch import Tensor

from lightning_sep.functional.precision import measured
from lightning_sep.functional.si_sdr import si_sdr
from lightning_sep.metrics.examples import ExampleMetric

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


class SiSdrImprovement(ExampleMetric):
    """SI-SDR of the estimate minus SI-SDR of the mixture, in dB, over active sources.

    Silent targets are counted and left out: one of them would decide a mean. Computed from
    residuals in float64.
    """

    higher_is_better = True

    def update(
        self,
        estimate: Tensor,
        target: Tensor,
        mixture: Tensor,
        mask: Tensor,
        index: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            estimate: ``[batch, source, time]``, in the order of the targets.
            target: same shape.
            mixture: ``[batch, time]``.
            mask: ``[batch, source]`` bool; ``False`` is a silent target.
            index: ``[batch]`` int64, number of each example in its split.
            labels: ``[batch, source]`` int64, class of each source.
        """
        target = measured(target)
        mixed = measured(mixture).unsqueeze(1).expand_as(target)
        before = si_sdr(estimate=mixed, target=target)
        after = si_sdr(estimate=measured(estimate), target=target)
        # A silent target is kept as NaN in place of a value, an active one that came out as NaN
        # as minus infinity: a broken estimate must not pass for a silent target.
        gain = torch.where((after - before).isnan(), -torch.inf, after - before)
        kept = torch.where(mask, gain, torch.nan)
        classes = torch.full_like(kept, -1) if labels is None else labels.to(kept.dtype)
        self.keep(torch.stack([kept, before, classes], dim=-1), index)

    def values(self) -> Tensor:
        """Improvement of every active source in dB, by example, then source: ``[active]``."""
        table = self.table()
        if table is None:
            return torch.zeros(0, dtype=torch.float64)
        gains = table[..., 0]
        return gains[~gains.isnan()]

    def mixtures(self) -> dict[str, Tensor]:
        """Of every mixture in order: its number ``index``, the mean ``gain`` over its active
        sources (NaN without any), and ``gains``, ``before`` (SI-SDR of the mixture, in dB) and
        ``labels`` of its sources, ``[mixture, source]``."""
        ordered = self.ordered()
        if ordered is None:
            ordered = torch.zeros(0, 1, 3, dtype=torch.float64), torch.zeros(0).long()
        rows, numbers = ordered
        gains, before, labels = rows.unbind(-1)
        return {
            "index": numbers,
            "gain": gains.nanmean(-1),
            "gains": gains,
            "before": before,
            "labels": labels.long(),
        }

    def compute(self) -> dict[str, Tensor]:
        """``si_sdr_improvement_db`` (mean over mixtures of the mean over their sources), over
        sources ``..._std`` and ``..._q1`` to ``..._q99``, and ``silent_targets``; NaN where there
        is no active source."""
        name = "si_sdr_improvement_db"
        table, values = self.table(), self.values()
        silent = torch.zeros(()) if table is None else table[..., 0].isnan().sum()
        if len(values) == 0:
            empty = torch.tensor(torch.nan, dtype=torch.float64)
            scores = {f"{name}{end}": empty for end in ("", "_std", *_ENDS)}
        else:
            levels = torch.tensor(PERCENTILES, dtype=values.dtype, device=values.device) / 100
            scores = {
                name: self.mixtures()["gain"].nanmean(),
                f"{name}_std": values.std(correction=0),
            }
            marks = torch.quantile(values, levels)
            scores |= {f"{name}{end}": mark for end, mark in zip(_ENDS, marks, strict=True)}
        return scores | {"silent_targets": silent}


_ENDS = tuple(f"_q{percent}" for percent in PERCENTILES)
