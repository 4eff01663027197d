"""Speaker embedding: are two snippets from one speaker?"""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import SnippetFacts
from lightning_sep.errors import ConfigError
from lightning_sep.functional.log_mel import log_mel
from lightning_sep.functional.processes import gathered, world_size
from lightning_sep.functional.verification import (
    ErrorCurve,
    equal_error_of,
    error_rate_of,
    min_dcf_of,
)
from lightning_sep.heads.base import EmbeddingHead
from lightning_sep.losses.base import EmbeddingLoss
from lightning_sep.nets.abilities import LayeredNet
from lightning_sep.tasks.all_pairs import AllPairs, OfSpeakers
from lightning_sep.tasks.base import Parts, Scored, Task
from lightning_sep.tasks.evaluation import Evaluation

_PRIOR = 0.01  # share of same-speaker trials that the least cost assumes


class Verification(Task):
    """Siamese training on all pairs of a batch (Lukic et al., MLSP 2017; Hsu and Kira, 2015), or
    training by a classifier over the speakers of the training part.

    An example of the loss, and so of the reweighting, is what the loss makes it: an unordered pair
    of snippets, whose class is 0 for different speakers and 1 for the same one, or a snippet of its
    speaker's class. Either way pairs are what is scored. A trial's score is minus the mean of the
    two divergences of its pair, and the decision threshold is the one that equals both errors on
    validation data. All pairs of a part are trials; its loss is that of same and of different
    speakers in the shares that they have in training batches, so that curves can be compared. A
    classifier's loss is NaN there, since it knows none of the speakers.
    Two snippets of one speaker from one recording or session are no trial: the room would tell.

    Args:
        parts: net, head, loss and what else a task is made of.
        embed: numbers in an embedding.
        bands: mel bands.
        n_fft: samples of an analysis window.
        hop_samples: samples from one window to the next.
        remove_mean: subtract each band's mean over the snippet, and with it what a room and a
            microphone do to every frame alike (Atal, JASA 55(6), 1974).
        embedding: what :meth:`embed` gives: what the ``"head"`` makes of the net's outputs, or an
            inner layer of the ``"net"`` (Stadelmann et al., ANNPR 2018). Trials are scored by the
            head either way.

    Raises:
        ConfigError: a setting is out of its range, or the net has no inner layer to give.
    """

    monitor = ("val/equal_error_rate", "min")
    material = "pooled"
    head_type = EmbeddingHead
    loss_type = EmbeddingLoss
    facts_type = SnippetFacts
    head: EmbeddingHead
    loss: EmbeddingLoss
    facts: SnippetFacts
    threshold: Tensor
    class_of: Tensor

    primary: ClassVar[str] = "equal_error_rate"

    def __init__(
        self,
        *,
        embed: int,
        bands: int,
        n_fft: int,
        hop_samples: int,
        remove_mean: bool,
        embedding: Literal["head", "net"] = "head",
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
        self.embedding = embedding
        super().__init__(parts=parts)
        if embedding == "net" and not isinstance(self.net, LayeredNet):
            raise ConfigError(
                f"task.embedding=net: net={type(self.net).__name__} has no method embed, see "
                "lightning_sep/nets/abilities.py. Use task.embedding=head"
            )
        # By speaker number; the numbers of the training part are some among those of the set.
        numbers = list(self.facts.train_numbers)
        class_of = torch.full((max(numbers, default=-1) + 1,), -1)
        class_of[numbers] = torch.arange(len(numbers))
        self.register_buffer("class_of", class_of, persistent=False)
        self.register_buffer("threshold", torch.tensor(torch.nan, dtype=torch.float64))

    def sizes(self) -> tuple[int, int]:
        return self.bands, self.embed_size

    def raw(self, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Raw values ``[batch, embed]``."""
        return self.embed_raw(batch.waveform[:, 0], generator)

    def embed_raw(self, waveform: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[batch, time]`` in, ``[batch, embed]`` out."""
        raw = self.net(self.features(waveform), generator=generator)
        return self.of_net(raw, batch=len(waveform), outputs=self.embed_size)

    def features(self, waveform: Tensor) -> Tensor:
        """What the net gets: ``[batch, time]`` in, ``[batch, frame, band]`` out."""
        features = log_mel(
            waveform,
            sample_rate=self.facts.sample_rate,
            n_fft=self.n_fft,
            hop_samples=self.hop_samples,
            bands=self.bands,
        )
        if self.remove_mean:
            features = features - features.mean(dim=1, keepdim=True)
        return features

    def embed(self, waveform: Tensor) -> Tensor:
        """Embedding of a waveform: ``[batch, time]`` in, ``[batch, value]`` out."""
        if self.embedding == "head":
            return self.head.decode(self.embed_raw(waveform))
        assert isinstance(self.net, LayeredNet)  # or the task would not have been built
        return self.net.embed(self.features(waveform))

    def scores(self, batch: Batch, raw: Tensor) -> Scored:
        # Pairs across processes too: each of them sees all, and the gradient finds its way back.
        rows, first = gathered(raw)
        labels, active = gathered(batch.labels)[0], gathered(batch.active)[0]
        if self.loss.wants_classes:
            labels = self.classes(labels)
        costs = self.loss.costs(self.head, rows, labels)
        return Scored(
            losses=costs.losses,
            groups=costs.groups,
            mask=active[costs.rows].all(1),
            rows=costs.rows,
            everyones=None if world_size() == 1 else len(rows),
            first=first,
        )

    def known(self) -> dict[str, int]:
        """The sizes of a classifier over the speakers of the training part."""
        return {"embed": self.embed_size, "classes": len(self.facts.train_numbers)}

    def classes(self, speakers: Tensor) -> Tensor:
        """The numbers of speakers ``[row]`` within the training part, 0 to n - 1 in the order of
        their own; -1 for those that are not in it."""
        inside = (speakers >= 0) & (speakers < len(self.class_of))
        return torch.where(inside, self.class_of[torch.where(inside, speakers, 0)], -1)

    def class_names(self) -> list[tuple[str, ...]]:
        """See :meth:`Task.class_names`: of the examples that the loss makes."""
        names = dict(enumerate(self.facts.speaker_names))
        return self.loss.group_names([names.get(n, str(n)) for n in self.facts.train_numbers])

    def same_share(self) -> float:
        """Share of the pairs of a training batch that are of one speaker."""
        speakers, snippets = self.facts.speakers, self.facts.snippets
        return float((snippets - 1) / (speakers * snippets - 1))

    def evaluation(self, stage: str) -> "VerificationEvaluation":
        return VerificationEvaluation(self, stage)


class VerificationEvaluation(Evaluation):
    """Error rates and losses over all pairs of a part, made at its end; see :class:`Verification`.

    At the end of validation the task gets its threshold.
    """

    def __init__(self, task: Verification, stage: str) -> None:
        super().__init__()
        self.task = task
        self.stage = stage
        self._rows: list[Tensor] = []
        self._about: list[Tensor] = []  # number, speaker, whether it sounds, and session

    def add(self, batch: Batch, raw: Tensor) -> None:
        sessions = batch.index if batch.sessions is None else batch.sessions
        about = [batch.index, batch.labels, batch.active.long(), sessions]
        self._rows.append(raw)
        self._about.append(torch.stack(about, dim=1))

    def finish(self) -> tuple[dict[str, float], dict[str, list[Any]]]:
        raw, about = gathered(torch.cat(self._rows))[0], gathered(torch.cat(self._about))[0]
        kept = about[:, 2] > 0
        raw, about = raw[kept], about[kept]
        order = about[:, 0].argsort(stable=True)  # as one process would have them
        raw, labels, sessions = raw[order], about[order, 1], about[order, 3]
        pairs = AllPairs(
            head=self.task.head, loss=self.task.loss, raw=raw, labels=labels, sessions=sessions
        )
        threshold = math.nan if self.stage == "val" else float(self.task.threshold)
        curve = pairs.curve(prior=_PRIOR, threshold=threshold)
        metrics = _errors(curve)
        (of_others, of_same), (others, same) = pairs.costs()
        metrics["trials_same"], metrics["trials_different"] = float(same), float(others)
        metrics["pairs_in_one_session"] = float(math.comb(len(raw), 2) - same - others)
        metrics["trial_speakers"] = float(len(torch.unique(labels)))
        metrics["loss_same"], metrics["loss_different"] = of_same, of_others
        part = self.task.same_share()
        metrics["loss"] = part * of_same + (1 - part) * of_others
        if self.stage == "val":
            self.task.threshold.fill_(metrics["threshold"])
            return metrics, {}
        metrics["error_rate_at_val_threshold"] = math.nan
        if curve is not None and not math.isnan(threshold):
            rate = error_rate_of(curve, threshold=threshold)
            metrics["error_rate_at_val_threshold"] = rate
        found = pairs.of_speakers(threshold)
        return metrics, self._pairs_of_speakers(found) | self._without_speakers(pairs, found)

    def _without_speakers(self, pairs: AllPairs, found: OfSpeakers) -> dict[str, list[Any]]:
        """The error rate without each speaker in turn, which says what other speakers would do."""
        heard = torch.unique(found.speakers)
        known = dict(enumerate(self.task.facts.speaker_names))
        return {
            "speaker": [known.get(number, str(number)) for number in heard.tolist()],
            f"{self.task.primary}_without_speaker": pairs.rates_without(heard).tolist(),
        }

    def _pairs_of_speakers(self, found: OfSpeakers) -> dict[str, list[Any]]:
        """Of each pair of speakers that there are trials of: how many, their mean score, and the
        share that the threshold gets wrong."""
        known = dict(enumerate(self.task.facts.speaker_names))
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
