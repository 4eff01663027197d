"""Source separation: a mixture in, one waveform per source out, in any order."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.functional.permutation import best_permutation
from lightning_sep.heads.base import WaveformHead
from lightning_sep.losses.base import WaveformLoss
from lightning_sep.losses.si_sdr import SiSdr
from lightning_sep.metrics.si_sdr_improvement import SiSdrImprovement
from lightning_sep.tasks.base import Parts, Scored, Task


class Separation(Task):
    """Permutation-invariant separation (Yu et al., arXiv:1607.00325), scored by SI-SDR improvement.

    Args:
        parts: net, head, loss and what else a task is made of.
        sources: number of sources in a mixture.
        level: an example of the loss, and so of the reweighting, is a whole ``"mixture"`` (mean
            over its sources) or each ``"source"`` of it.
    """

    monitor = ("val/si_sdr_improvement_db", "max")
    material = "waveform"
    head_type = WaveformHead
    loss_type = WaveformLoss
    head: WaveformHead
    loss: WaveformLoss

    primary: ClassVar[str] = "si_sdr_improvement_db"

    def __init__(
        self, *, parts: Parts, sources: int, level: Literal["mixture", "source"] = "mixture"
    ) -> None:
        self.sources = whole_number("sources", sources, at_least=2, meaning="to separate")
        self.level = level
        super().__init__(parts=parts)
        self.improvement = SiSdrImprovement()
        self._evaluation_order = SiSdr()

    def sizes(self) -> tuple[int, int]:
        return 1, self.sources * self.head.raw_per_sample

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values ``[batch, source, time, parameter]``."""
        return self.separate_raw(batch.waveform, generator)

    def separate_raw(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[batch, time]`` in, ``[batch, source, time, parameter]`` out."""
        raw: Tensor = self.net(waveform.unsqueeze(1), generator=generator)
        batch, _, time = raw.shape
        return raw.reshape(batch, self.sources, self.head.raw_per_sample, time).movedim(2, -1)

    def separate(self, waveform: Tensor) -> Tensor:
        """Sources of a mixture: ``[batch, time]`` in, ``[batch, source, time]`` out."""
        return self.head.decode(self.separate_raw(waveform))

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        target = _sources(batch)
        if self.head.brings_loss:
            pairwise = torch.stack(
                [
                    torch.stack(
                        [
                            self.head.own_loss(raw[:, estimate], target[:, source]).mean(-1)
                            for source in range(self.sources)
                        ],
                        dim=-1,
                    )
                    for estimate in range(self.sources)
                ],
                dim=1,
            )
        else:
            pairwise = self.loss.pairwise(
                estimate=self.head(raw), target=target, mixture=batch.waveform
            )
        scorable = batch.active
        if self.head.brings_loss or self.loss.handles_silence:
            scorable = torch.ones_like(batch.active)
        # A source without a loss must not decide the order of the others.
        pairwise = torch.where(scorable[:, None, :], pairwise, 0.0)
        losses, _ = best_permutation(pairwise)
        rows = torch.arange(len(batch), device=losses.device)
        if self.level == "source":
            return Scored(
                losses=losses.flatten(),
                groups=batch.labels.flatten().unsqueeze(1),
                mask=scorable.flatten(),
                rows=rows.repeat_interleave(self.sources).unsqueeze(1),
            )
        return Scored(
            losses=losses.sum(-1) / scorable.sum(-1).clamp(min=1),
            groups=batch.labels,
            mask=scorable.any(-1),
            rows=rows.unsqueeze(1),
        )

    def start_evaluation(self, stage: str) -> None:
        self.improvement.reset()
        self._silent: list[Tensor] = []
        self._alone: list[Tensor] = []

    def evaluate(self, batch: Batch, raw: Tensor) -> None:
        target = _sources(batch)
        estimate = self.head.decode(raw).to(target.dtype)
        pairwise = self._evaluation_order.pairwise(
            estimate=estimate, target=target, mixture=batch.waveform
        )
        _, order = best_permutation(torch.where(batch.active[:, None, :], pairwise, 0.0))
        ordered = estimate.gather(1, order.unsqueeze(-1).expand_as(estimate))
        # Beside silence, a source is the mixture already: there is nothing to improve on.
        alone = batch.active & (batch.active.sum(-1, keepdim=True) < 2)
        self._silent.append((~batch.active).sum())
        self._alone.append(alone.sum())
        self.improvement.update(
            estimate=ordered,
            target=target,
            mixture=batch.waveform,
            mask=batch.active & ~alone,
            index=batch.index,
        )

    def finish_evaluation(self, stage: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        metrics = {name: float(value) for name, value in self.improvement.compute().items()}
        metrics["silent_targets"] = float(torch.stack(self._silent).sum())
        metrics["lone_targets"] = float(torch.stack(self._alone).sum())
        return metrics, {self.primary: self.improvement.values().tolist()}

    def audio_examples(self, batch: Batch, count: int) -> dict[str, Tensor]:
        """Mixture, targets and estimates of the first examples, at one gain each."""
        made = {}
        estimates = self.separate(batch.waveform[:count])
        for number, estimate in enumerate(estimates):
            mixture, targets = batch.waveform[number], _sources(batch)[number]
            peak = torch.cat([mixture[None], targets, estimate]).abs().max().clamp(min=1.0)
            made[f"{number}-mixture"] = mixture / peak
            for source in range(self.sources):
                made[f"{number}-target-{source + 1}"] = targets[source] / peak
                made[f"{number}-estimate-{source + 1}"] = estimate[source] / peak
        return made


def _sources(batch: Batch) -> Tensor:
    if batch.sources is None:
        raise ConfigError("separation needs examples with separate sources: use examples=mixtures")
    return batch.sources
