"""Source separation: a mixture in, one waveform per source out, in any order."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.checks import whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.errors import ConfigError
from lightning_sep.functional.permutation import best_permutation
from lightning_sep.functional.pieces import in_faded_pieces, in_pieces
from lightning_sep.functional.processes import world_size
from lightning_sep.heads.base import WaveformHead
from lightning_sep.losses.base import WaveformLoss
from lightning_sep.losses.si_sdr import SiSdr
from lightning_sep.tasks.base import Parts, Scored, Task


class Separation(Task):
    """Permutation-invariant separation (Yu et al., arXiv:1607.00325), scored by SI-SDR improvement.

    Args:
        parts: net, head, loss and what else a task is made of.
        sources: number of sources in a mixture.
        level: an example of the loss, and so of the reweighting, is a whole ``"mixture"`` (mean
            over its sources) or each ``"source"`` of it.
        difference: the net gives all sources but one, and that one is the mixture minus what the
            head makes of the others, so that the sources add up to the mixture; it is clipped to
            the head's bounds at evaluation only (Stoller et al., arXiv:1806.03185, sec. 3.2.1).

    Raises:
        ConfigError: a setting is out of its range, the sources are normalised beyond the head's
            bounds, or it brings its own loss, which says nothing about a difference.
    """

    monitor = ("val/si_sdr_improvement_db", "max")
    material = "waveform"
    head_type = WaveformHead
    loss_type = WaveformLoss
    facts_type = MixtureFacts
    head: WaveformHead
    loss: WaveformLoss
    facts: MixtureFacts

    primary: ClassVar[str] = "si_sdr_improvement_db"

    def __init__(
        self,
        *,
        parts: Parts,
        sources: int,
        level: Literal["mixture", "source"] = "mixture",
        difference: bool = False,
    ) -> None:
        self.sources = whole_number("sources", sources, at_least=2, meaning="to separate")
        self.level = level
        self.difference = difference
        super().__init__(parts=parts)
        if self.facts.normalise == "std" and math.isfinite(self.head.bounds[1]):
            raise ConfigError(
                "examples.normalise=std puts sources beyond full scale, out of reach of "
                f"head={type(self.head).__name__}: use examples.normalise=sources, which makes "
                "their largest sample 1, or head=linear, which has no bounds"
            )
        self._evaluation_order = SiSdr()

    @property
    def predicted(self) -> int:
        """Sources that the net gives; one less than there are with ``difference``."""
        return self.sources - 1 if self.difference else self.sources

    def sizes(self) -> tuple[int, int]:
        # Here, since the net that would be built makes no sense.
        if self.difference and self.head.brings_loss:
            raise ConfigError(
                f"task.difference=true does not go with head={type(self.head).__name__}, which "
                "brings its own loss: the last source is a difference of waveforms and has no raw "
                "values to score. Use task.difference=false or a head without a loss of its own"
            )
        return 1, self.predicted * self.head.raw_per_sample

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values ``[batch, predicted source, time, parameter]``."""
        return self.separate_raw(batch.waveform, generator)

    def separate_raw(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[batch, time]`` in, ``[batch, predicted source, time, parameter]`` out."""
        raw: Tensor = self.net(waveform.unsqueeze(1), generator=generator)
        batch, _, time = raw.shape
        return raw.reshape(batch, self.predicted, self.head.raw_per_sample, time).movedim(2, -1)

    def separate(self, waveform: Tensor) -> Tensor:
        """Sources of a mixture: ``[batch, time]`` in, ``[batch, source, time]`` out."""
        return self.heard(self.separate_raw(waveform), waveform)

    def separate_blocks(self, blocks: Iterable[Tensor], *, piece: int) -> Iterator[Tensor]:
        """Sources of a mixture of any length, in bounded memory.

        Equal to :meth:`separate`, to rounding, where the net says how far it reaches
        (``reach_samples``) and what it keeps a sample of (``step_samples``). Other nets see all of
        a piece at once (a norm over time): pieces then overlap by a tenth and fade into each other.

        Args:
            blocks: the mixture in parts of any length, ``[time]``.
            piece: samples that go through the net at once, about; more where the net reaches
                further.

        Yields:
            Consecutive parts of the sources, ``[source, time]``.
        """

        def run(waveform: Tensor) -> Tensor:
            return self.separate(waveform.unsqueeze(0))[0]

        net: Any = self.net  # what it can is asked, not declared
        reach = getattr(net, "reach_samples", None)
        if reach is None:
            return in_faded_pieces(run, blocks, piece=piece, overlap=max(piece // 10, 1))
        step = net.step_samples
        return in_pieces(run, blocks, piece=-(-max(piece, reach) // step) * step, reach=reach)

    def seen(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """The sources as the loss sees them, ``[batch, source, time]``."""
        sources: Tensor = self.head(raw)
        if not self.difference:
            return sources
        sources = _with_difference(sources, mixture)
        return sources if self.head.training else self._last_clipped(sources)

    def heard(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """The sources as a listener or a metric gets them, ``[batch, source, time]``."""
        sources = self.head.decode(raw)
        if not self.difference:
            return sources
        return self._last_clipped(_with_difference(sources, mixture))

    def unclipped(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """What would be heard without clipping, ``[batch, source, time]``."""
        sources = self.head.unclipped(raw)
        if not self.difference:
            return sources
        last = _with_difference(self.head.decode(raw), mixture)[:, -1:]
        return torch.cat([sources, last], dim=1)

    def _last_clipped(self, sources: Tensor) -> Tensor:
        return torch.cat([sources[:, :-1], sources[:, -1:].clamp(*self.head.bounds)], dim=1)

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        target = _sources(batch)
        if self.head.brings_loss:
            pairwise = self.head.pairwise_loss(raw, target)
        else:
            pairwise = self.loss.pairwise(
                estimate=self.seen(raw, batch.waveform), target=target, mixture=batch.waveform
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
        from lightning_sep.metrics.si_sdr_improvement import SiSdrImprovement  # loads torchmetrics

        self.improvement = SiSdrImprovement().to(next(self.parameters()).device)
        self._left_out = torch.zeros(2, dtype=torch.int64)  # silent targets, and lone ones

    def evaluate(self, batch: Batch, raw: Tensor) -> None:
        target = _sources(batch)
        estimate = self.heard(raw, batch.waveform).to(target.dtype)
        pairwise = self._evaluation_order.pairwise(
            estimate=estimate, target=target, mixture=batch.waveform
        )
        _, order = best_permutation(torch.where(batch.active[:, None, :], pairwise, 0.0))
        ordered = estimate.gather(1, order.unsqueeze(-1).expand_as(estimate))
        # Beside silence, a source is the mixture already: there is nothing to improve on.
        alone = batch.active & (batch.active.sum(-1, keepdim=True) < 2)
        counts = torch.stack([(~batch.active).sum(), alone.sum()])
        self._left_out = self._left_out.to(counts.device) + counts
        self.improvement.update(
            estimate=ordered,
            target=target,
            mixture=batch.waveform,
            mask=batch.active & ~alone,
            index=batch.index,
            labels=batch.labels,
        )
        bounds = self.head.bounds
        self.count_beyond("targets_beyond_bounds", target, bounds)
        self.count_beyond("outputs_beyond_bounds", self.unclipped(raw, batch.waveform), bounds)

    def finish_evaluation(self, stage: str) -> tuple[dict[str, float], dict[str, list[Any]]]:
        metrics = {name: float(value) for name, value in self.improvement.compute().items()}
        if world_size() > 1:
            dist.all_reduce(self._left_out)
        metrics["silent_targets"], metrics["lone_targets"] = map(float, self._left_out.tolist())
        each = self.improvement.mixtures()
        labels = each["labels"].tolist()
        called = self.class_names()

        def names(place: int) -> list[list[str | None]]:
            known = {n: one[place] for n, one in enumerate(called) if len(one) > place}
            return [[known.get(label) for label in row] for row in labels]

        return metrics, {
            self.primary: each["gain"].tolist(),
            "index": each["index"].tolist(),
            "classes": names(0),
            "groups": names(1),
            "input_si_sdr_db": each["before"].tolist(),
            "si_sdr_improvement_db_of_sources": each["gains"].tolist(),
        }

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


def _with_difference(sources: Tensor, mixture: Tensor) -> Tensor:
    rest = mixture.to(sources.dtype).unsqueeze(1) - sources.sum(1, keepdim=True)
    return torch.cat([sources, rest], dim=1)


def _sources(batch: Batch) -> Tensor:
    if batch.sources is None:
        raise ConfigError("separation needs examples with separate sources: use examples=mixtures")
    return batch.sources
