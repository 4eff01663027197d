"""Source separation: a mixture in, one waveform per source out, in any order."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, TypeGuard

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.checks import one_of, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.errors import ConfigError
from lightning_sep.functional.permutation import best_permutation, reorder
from lightning_sep.functional.pieces import in_faded_pieces, in_pieces
from lightning_sep.functional.processes import world_size
from lightning_sep.heads.base import Criterion, WaveformHead
from lightning_sep.losses.base import WaveformLoss
from lightning_sep.losses.si_sdr import SiSdr
from lightning_sep.nets.abilities import ContextNet, LocalNet, Net
from lightning_sep.tasks.base import Parts, Scored, Task
from lightning_sep.tasks.evaluation import Evaluation


class Separation(Task):
    """Permutation-invariant separation (Yu et al., arXiv:1607.00325), scored by SI-SDR improvement.

    The net gets all channels of a mixture and gives all channels of the sources. A source is
    scored as one signal, its channels one after the other: SI-SDR allows it one gain for all
    channels, so that its place between them counts.

    Args:
        parts: net, head, loss and what else a task is made of.
        sources: number of sources in a mixture.
        level: an example of the loss, and so of the reweighting, is a whole ``"mixture"`` (mean
            over its sources) or each ``"source"`` of it.
        order: ``any`` scores the sources in the order that fits best, ``fixed`` the first estimate
            against the first source and so on, for sources that have roles (voice, the rest).
        difference: the net gives all sources but one, and that one is the mixture minus what the
            head makes of the others, so that the sources add up to the mixture; it is clipped to
            the head's bounds at evaluation only (Stoller et al., arXiv:1806.03185, sec. 3.2.1).

    Raises:
        ConfigError: a setting is out of its range, the sources are normalised beyond the head's
            bounds, it brings its own loss, which says nothing about a difference, or the examples'
            surroundings are not those that the net needs.
    """

    monitor = ("val/si_sdr_improvement_db", "max")
    material = "waveform"
    head_type = WaveformHead
    loss_type = WaveformLoss
    facts_type = MixtureFacts
    head: WaveformHead
    loss: Criterion
    facts: MixtureFacts

    primary: ClassVar[str] = "si_sdr_improvement_db"

    def __init__(
        self,
        *,
        parts: Parts,
        sources: int,
        level: Literal["mixture", "source"] = "mixture",
        order: Literal["any", "fixed"] = "any",
        difference: bool = False,
    ) -> None:
        self.sources = whole_number("sources", sources, at_least=2, meaning="to separate")
        self.level = level
        self.order = one_of("order", order, ("any", "fixed"))
        self.difference = difference
        super().__init__(parts=parts)
        if self.difference and not self.loss.on_waveforms:
            raise ConfigError(
                f"task.difference=true does not go with head={type(self.head).__name__}, which "
                "brings its own loss: the last source is a difference of waveforms and has no raw "
                "values to score. Use task.difference=false or a head without a loss of its own"
            )
        self._check_context()
        if self.facts.normalise == "std" and math.isfinite(self.head.bounds[1]):
            raise ConfigError(
                "examples.normalise=std puts sources beyond full scale, out of reach of "
                f"head={type(self.head).__name__}: use examples.normalise=sources, which makes "
                "their largest sample 1, or head=linear, which has no bounds"
            )

    @property
    def predicted(self) -> int:
        """Sources that the net gives; one less than there are with ``difference``."""
        return self.sources - 1 if self.difference else self.sources

    def sizes(self) -> tuple[int, int]:
        return self.facts.channels, self.predicted * self.facts.channels * self.head.raw_per_sample

    def _check_context(self) -> None:
        """The examples bring the surroundings that a net without padding needs."""
        net = self.net
        segment, context = self.facts.segment_samples, self.facts.context_samples
        if not context or not _is_valid(net):
            return
        needed, given = net.sizes(segment)
        if (needed, given) != (segment + 2 * context, segment):
            raise ConfigError(
                f"examples.context_samples = {context} on either side of {segment}: "
                f"net={type(self.net).__name__} gives {given} samples of {needed}. Use "
                f"examples.segment_samples={given} examples.context_samples={(needed - given) // 2}"
            )

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values of the segment ``[batch, predicted source, channel, time, parameter]``, from
        it and its surroundings."""
        return self._segment_raw(batch.waveform, generator)

    def _segment_raw(self, waveform: Tensor, generator: torch.Generator | None) -> Tensor:
        net = self.net
        if self.facts.context_samples and _is_valid(net):
            raw = net.forward_valid(waveform)
            return self._shaped(self._long(raw, len(waveform), self.facts.segment_samples))
        raw = self._long(net(waveform, generator=generator), *waveform.shape[::2])
        return self._shaped(self.segment(raw))

    def separate_raw(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[batch, channel, time]`` in, ``[batch, predicted source, channel, time, parameter]``
        out; around the waveform there is nothing."""
        raw = self._long(self.net(waveform, generator=generator), *waveform.shape[::2])
        return self._shaped(raw)

    def _long(self, raw: Any, batch: int, time: int) -> Tensor:
        """See :meth:`of_net`."""
        return self.of_net(raw, batch=batch, outputs=self.sizes()[1], time=time)

    def _shaped(self, raw: Tensor) -> Tensor:
        sizes = (self.predicted, self.facts.channels, self.head.raw_per_sample)
        return raw.reshape(len(raw), *sizes, raw.shape[-1]).movedim(3, -1)

    def segment(self, signal: Tensor) -> Tensor:
        """``[..., time]`` without the surroundings."""
        context = self.facts.context_samples
        return signal[..., context : signal.shape[-1] - context]

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sources of the segment and their mixture as they are scored, their channels one after
        the other: ``[batch, source, channel and time]`` and ``[batch, channel and time]``."""
        sources = self.segment(_sources(batch)).flatten(2)
        return sources, self.segment(batch.waveform).flatten(1)

    def separate(self, waveform: Tensor) -> Tensor:
        """Sources of a mixture: ``[batch, channel, time]`` in, ``[batch, source, channel, time]``
        out."""
        return self.heard(self.separate_raw(waveform), waveform)

    def separate_blocks(self, blocks: Iterable[Tensor], *, piece: int) -> Iterator[Tensor]:
        """Sources of a mixture of any length, in bounded memory.

        Equal to :meth:`separate`, to rounding, for a :class:`LocalNet`. Other nets see all of
        a piece at once (a norm over time): pieces then overlap by a tenth and fade into each other.

        Args:
            blocks: the mixture in parts of any length, ``[channel, time]``.
            piece: samples that go through the net at once, about; more where the net reaches
                further.

        Yields:
            Consecutive parts of the sources, ``[source, channel, time]``.
        """

        def run(waveform: Tensor) -> Tensor:
            return self.separate(waveform.unsqueeze(0))[0]

        net = self.net
        if not isinstance(net, LocalNet):
            return in_faded_pieces(run, blocks, piece=piece, overlap=max(piece // 10, 1))
        reach, step = net.reach_samples, net.step_samples
        return in_pieces(run, blocks, piece=-(-max(piece, reach) // step) * step, reach=reach)

    def seen(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """The sources as the loss sees them: waveforms ``[batch, source, channel, time]``, or
        the raw values of a head that brings its loss."""
        sources = self.head.seen(raw)
        if not self.difference:
            return sources
        sources = _with_difference(sources, mixture)
        return sources if self.head.training else self._last_clipped(sources)

    def heard(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """The sources as a listener or a metric gets them, ``[batch, source, channel, time]``."""
        sources = self.head.decode(raw)
        if not self.difference:
            return sources
        return self._last_clipped(_with_difference(sources, mixture))

    def unclipped(self, raw: Tensor, mixture: Tensor) -> Tensor:
        """What would be heard without clipping, ``[batch, source, channel, time]``."""
        sources = self.head.unclipped(raw)
        if not self.difference:
            return sources
        last = _with_difference(self.head.decode(raw), mixture)[:, -1:]
        return torch.cat([sources, last], dim=1)

    def _last_clipped(self, sources: Tensor) -> Tensor:
        return torch.cat([sources[:, :-1], sources[:, -1:].clamp(*self.head.bounds)], dim=1)

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        scorable = torch.ones_like(batch.active) if self.loss.handles_silence else batch.active
        losses = self._losses(batch, raw, scorable)
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

    def _losses(self, batch: Batch, raw: Tensor, scorable: Tensor) -> Tensor:
        """Loss of each target, ``[batch, source]``; 0 where it is not ``scorable``."""
        target, mixture = self.targets(batch)
        estimate = self.seen(raw, self.segment(batch.waveform)).flatten(2, 3)
        if self.order == "fixed":
            losses = self.loss(estimate=estimate, target=target, mixture=mixture.unsqueeze(1))
            return torch.where(scorable, losses, 0.0)
        pairwise = self.loss.pairwise(estimate=estimate, target=target, mixture=mixture)
        # A source without a loss must not decide the order of the others.
        return best_permutation(torch.where(scorable[:, None, :], pairwise, 0.0))[0]

    def evaluation(self, stage: str) -> "SeparationEvaluation":
        return SeparationEvaluation(self)

    def ordered(self, estimates: Tensor, target: Tensor, mixture: Tensor, active: Tensor) -> Tensor:
        """Each estimate in the place of its target: of all orders the one with the best SI-SDR,
        unless the sources have an order of their own.

        Args:
            estimates: ``[batch, source, channel, time]``.
            target: ``[batch, source, sample]``, channels one after the other.
            mixture: ``[batch, sample]``, the same way.
            active: ``[batch, source]``; a silent target has no say.

        Returns:
            Same shape as ``estimates``.
        """
        if self.order != "any":
            return estimates
        flat = estimates.to(target.dtype).flatten(2)
        pairwise = SiSdr().pairwise(estimate=flat, target=target, mixture=mixture)
        _, order = best_permutation(torch.where(active[:, None, :], pairwise, 0.0))
        return reorder(estimates, order)

    def audio_examples(self, batch: Batch, count: int) -> dict[str, Tensor]:
        """Mixture, targets and estimates of the first examples, at one gain each."""
        made = {}
        mixtures = self.segment(batch.waveform[:count])
        estimates = self.heard(self._segment_raw(batch.waveform[:count], None), mixtures)
        target, mixture = (one[:count] for one in self.targets(batch))
        estimates = self.ordered(estimates, target, mixture, batch.active[:count])
        for number, (mixture, estimate) in enumerate(zip(mixtures, estimates, strict=True)):
            targets = self.segment(_sources(batch)[number])
            peak = torch.cat([mixture[None], targets, estimate]).abs().max().clamp(min=1.0)
            made[f"{number}-mixture"] = mixture / peak
            for source in range(self.sources):
                made[f"{number}-target-{source + 1}"] = targets[source] / peak
                made[f"{number}-estimate-{source + 1}"] = estimate[source] / peak
        return made


class SeparationEvaluation(Evaluation):
    """Improvement over the mixture in the order of the sources that fits best; see
    :class:`Separation`."""

    def __init__(self, task: Separation) -> None:
        from lightning_sep.metrics.si_sdr_improvement import SiSdrImprovement  # loads torchmetrics

        super().__init__()
        self.task = task
        self.improvement = SiSdrImprovement().to(next(task.parameters()).device)
        self.left_out = torch.zeros(2, dtype=torch.int64)  # silent targets, and lone ones

    def add(self, batch: Batch, raw: Tensor) -> None:
        task = self.task
        task.add_losses(self.means, batch, raw)
        target, mixture = task.targets(batch)
        segment = task.segment(batch.waveform)
        estimate = task.ordered(task.heard(raw, segment), target, mixture, batch.active)
        estimate = estimate.to(target.dtype).flatten(2)
        # Beside silence, a source is the mixture already: there is nothing to improve on.
        alone = batch.active & (batch.active.sum(-1, keepdim=True) < 2)
        counts = torch.stack([(~batch.active).sum(), alone.sum()])
        self.left_out = self.left_out.to(counts.device) + counts
        self.improvement.update(
            estimate=estimate,
            target=target,
            mixture=mixture,
            mask=batch.active & ~alone,
            index=batch.index,
            labels=batch.labels,
        )
        bounds = task.head.bounds
        self.means.add_beyond("targets_beyond_bounds", target, bounds)
        self.means.add_beyond("outputs_beyond_bounds", task.unclipped(raw, segment), bounds)

    def finish(self) -> tuple[dict[str, float], dict[str, list[Any]]]:
        metrics = {name: float(value) for name, value in self.improvement.compute().items()}
        left_out = self.left_out.clone()
        if world_size() > 1:
            dist.all_reduce(left_out)
        metrics["silent_targets"], metrics["lone_targets"] = map(float, left_out.tolist())
        each = self.improvement.mixtures()
        labels = each["labels"].tolist()
        called = self.task.class_names()

        def names(place: int) -> list[list[str | None]]:
            known = {n: one[place] for n, one in enumerate(called) if len(one) > place}
            return [[known.get(label) for label in row] for row in labels]

        return metrics, {
            self.task.primary: each["gain"].tolist(),
            "index": each["index"].tolist(),
            "classes": names(0),
            "groups": names(1),
            "input_si_sdr_db": each["before"].tolist(),
            "si_sdr_improvement_db_of_sources": each["gains"].tolist(),
        }


def _with_difference(sources: Tensor, mixture: Tensor) -> Tensor:
    rest = mixture.to(sources.dtype).unsqueeze(1) - sources.sum(1, keepdim=True)
    return torch.cat([sources, rest], dim=1)


def _sources(batch: Batch) -> Tensor:
    if batch.sources is None:
        raise ConfigError("separation needs examples with separate sources: use examples=mixtures")
    return batch.sources


def _is_valid(net: Net) -> TypeGuard[ContextNet]:
    """Whether a net gives less than it gets, unless it pads."""
    return isinstance(net, ContextNet) and net.context
