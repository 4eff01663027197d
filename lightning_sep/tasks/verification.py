"""Speaker embedding: are two snippets from one speaker?"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import SnippetFacts
from lightning_sep.functional.log_mel import log_mel
from lightning_sep.functional.processes import gathered, world_size
from lightning_sep.functional.verification import (
    ErrorCurve,
    equal_error_of,
    error_rate_of,
    min_dcf_of,
)
from lightning_sep.heads.base import EmbeddingHead
from lightning_sep.losses.base import PairLoss
from lightning_sep.tasks.all_pairs import AllPairs, OfSpeakers
from lightning_sep.tasks.base import Parts, Scored, Task

_PRIOR = 0.01  # share of same-speaker trials that the least cost assumes


class Verification(Task):
    """Siamese training on all pairs of a batch (Lukic et al., MLSP 2017; Hsu and Kira, 2015).

    An example of the loss, and so of the reweighting, is an unordered pair of snippets; its class
    is 0 for different speakers and 1 for the same one. A trial's score is minus the mean of the
    two divergences of its pair, and the decision threshold is the one that equals both errors on
    validation data. All pairs of a part are trials; its loss is that of same and of different
    speakers in the shares that they have in training batches, so that curves can be compared.
    Two snippets of one speaker from one recording or session are no trial: the room would tell.

    Args:
        parts: net, head, loss and what else a task is made of.
        embed: numbers in an embedding.
        bands: mel bands.
        n_fft: samples of an analysis window.
        hop_samples: samples from one window to the next.
        remove_mean: subtract each band's mean over the snippet, and with it what a room and a
            microphone do to every frame alike (Atal, JASA 55(6), 1974).
    """

    monitor = ("val/equal_error_rate", "min")
    material = "pooled"
    head_type = EmbeddingHead
    loss_type = PairLoss
    facts_type = SnippetFacts
    head: EmbeddingHead
    loss: PairLoss
    facts: SnippetFacts
    threshold: Tensor

    primary: ClassVar[str] = "equal_error_rate"

    def __init__(
        self,
        *,
        embed: int,
        bands: int,
        n_fft: int,
        hop_samples: int,
        remove_mean: bool,
        parts: Parts,
    ) -> None:
        for name, value in [("embed", embed), ("bands", bands), ("hop_samples", hop_samples)]:
            whole_number(name, value)
        whole_number(
            "n_fft", n_fft, at_least=hop_samples, meaning="hop_samples, or samples are lost"
        )
        self.embed_size = embed
        self.bands = bands
        self.n_fft = n_fft
        self.hop_samples = hop_samples
        self.remove_mean = remove_mean
        super().__init__(parts=parts)
        self.register_buffer("threshold", torch.tensor(torch.nan, dtype=torch.float64))

    def sizes(self) -> tuple[int, int]:
        return self.bands, self.embed_size

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values ``[batch, embed]``."""
        return self.embed_raw(batch.waveform, generator)

    def embed_raw(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[batch, time]`` in, ``[batch, embed]`` out."""
        features = log_mel(
            waveform,
            sample_rate=self.facts.sample_rate,
            n_fft=self.n_fft,
            hop_samples=self.hop_samples,
            bands=self.bands,
        )
        if self.remove_mean:
            features = features - features.mean(dim=1, keepdim=True)
        raw: Tensor = self.net(features, generator=generator)
        return raw

    def embed(self, waveform: Tensor) -> Tensor:
        """Embedding of a waveform: ``[batch, time]`` in, ``[batch, embed]`` out."""
        return self.head.decode(self.embed_raw(waveform))

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        # Pairs across processes too: each of them sees all, and the gradient finds its way back.
        rows, first = gathered(raw)
        labels, active = gathered(batch.labels)[0], gathered(batch.active)[0]
        same = labels[:, None] == labels[None, :]
        pairs = torch.triu_indices(len(rows), len(rows), offset=1, device=raw.device)
        return Scored(
            losses=self.loss(divergence=self.head.divergence(rows), same=same),
            groups=same[pairs[0], pairs[1]].long().unsqueeze(1),
            mask=active[pairs].all(0),
            rows=pairs.T,
            everyones=None if world_size() == 1 else len(rows),
            first=first,
        )

    def class_names(self) -> list[tuple[str, ...]]:
        """Of pairs, not of speakers."""
        return [("different",), ("same",)]

    def same_share(self) -> float:
        """Share of the pairs of a training batch that are of one speaker."""
        speakers, snippets = self.facts.speakers, self.facts.snippets
        return float((snippets - 1) / (speakers * snippets - 1))

    def collect_losses(self, batch: Batch, raw: Tensor) -> None:
        """Nothing: pairs are scored over all batches together, at the end."""

    def start_evaluation(self, stage: str) -> None:
        self._rows: list[Tensor] = []
        self._about: list[Tensor] = []  # number, speaker, whether it sounds, and session

    def evaluate(self, batch: Batch, raw: Tensor) -> None:
        sessions = batch.index if batch.sessions is None else batch.sessions
        about = [batch.index, batch.labels, batch.active.long(), sessions]
        self._rows.append(raw)
        self._about.append(torch.stack(about, dim=1))

    def finish_evaluation(self, stage: str) -> tuple[dict[str, float], dict[str, list[Any]]]:
        raw, about = gathered(torch.cat(self._rows))[0], gathered(torch.cat(self._about))[0]
        kept = about[:, 2] > 0
        raw, about = raw[kept], about[kept]
        order = about[:, 0].argsort(stable=True)  # as one process would have them
        raw, labels, sessions = raw[order], about[order, 1], about[order, 3]
        pairs = AllPairs(head=self.head, loss=self.loss, raw=raw, labels=labels, sessions=sessions)
        threshold = math.nan if stage == "val" else float(self.threshold)
        curve = pairs.curve(prior=_PRIOR, threshold=threshold)
        metrics = _errors(curve)
        (of_others, of_same), (others, same) = pairs.costs()
        metrics["trials_same"], metrics["trials_different"] = float(same), float(others)
        metrics["pairs_in_one_session"] = float(math.comb(len(raw), 2) - same - others)
        metrics["trial_speakers"] = float(len(torch.unique(labels)))
        metrics["loss_same"], metrics["loss_different"] = of_same, of_others
        part = self.same_share()
        metrics["loss"] = part * of_same + (1 - part) * of_others
        if stage == "val":
            self.threshold.fill_(metrics["threshold"])
            return metrics, {}
        metrics["error_rate_at_val_threshold"] = math.nan
        if curve is not None and not math.isnan(threshold):
            rate = error_rate_of(curve, threshold=threshold)
            metrics["error_rate_at_val_threshold"] = rate
        return metrics, self._pairs_of_speakers(pairs.of_speakers(threshold))

    def _pairs_of_speakers(self, found: OfSpeakers) -> dict[str, list[Any]]:
        """Of each pair of speakers that there are trials of: how many, their mean score, and the
        share that the threshold gets wrong."""
        known = dict(enumerate(self.facts.speaker_names))
        return {
            "speakers": [[known.get(n, str(n)) for n in pair] for pair in found.speakers.tolist()],
            "trials": found.trials.tolist(),
            "score": found.score.tolist(),
            "error_rate_at_val_threshold_of_pair": found.wrong.tolist(),
        }


def _errors(curve: ErrorCurve | None) -> dict[str, float]:
    """Metrics of a curve; NaN without one."""
    if curve is None:
        return dict.fromkeys(("equal_error_rate", "min_dcf", "threshold"), math.nan)
    rate, threshold = equal_error_of(curve)
    return {
        "equal_error_rate": rate,
        "min_dcf": min_dcf_of(curve, prior=_PRIOR),
        "threshold": threshold,
    }
