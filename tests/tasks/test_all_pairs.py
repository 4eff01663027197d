"""All pairs in tiles are all pairs."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_sep.functional.trial_counts import NO_TRIAL
from lightning_sep.functional.verification import equal_error_of, error_curve, min_dcf_of
from lightning_sep.heads.base import EmbeddingHead
from lightning_sep.heads.prelu import PReLU
from lightning_sep.heads.softmax import Softmax
from lightning_sep.heads.softplus import Softplus
from lightning_sep.heads.unit_sphere import UnitSphere
from lightning_sep.losses.contrastive import Contrastive
from lightning_sep.losses.kl_hinge import KlHinge
from lightning_sep.tasks import all_pairs
from lightning_sep.tasks.all_pairs import AllPairs


class Plain(EmbeddingHead):
    """A head that says nothing of parts."""

    def training_view(self, raw: Tensor) -> Tensor:
        return raw

    def decoded(self, raw: Tensor) -> Tensor:
        return raw

    def pairwise(self, raw: Tensor) -> Tensor:
        return (raw.unsqueeze(-2) - raw.unsqueeze(-3)).abs().sum(-1)


HEADS = [Softmax(0.5), Softplus(), PReLU(), UnitSphere(), Plain()]


def part_of(count: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Raw values, speakers and sessions; some speakers have a session twice."""
    draw = torch.Generator().manual_seed(count)
    labels = torch.randint(4, (count,), generator=draw) * 3 + 1
    raw = torch.randn(13, 6, generator=draw)[labels] + torch.randn(count, 6, generator=draw)
    return raw.to(dtype), labels, torch.randint(9, (count,), generator=draw)


def pairs_of(head: EmbeddingHead, count: int, **more: torch.dtype) -> AllPairs:
    raw, labels, sessions = part_of(count, **more)
    return AllPairs(head=head, loss=KlHinge(0.7), raw=raw, labels=labels, sessions=sessions)


def trials_of(count: int) -> list[tuple[int, int]]:
    _, labels, sessions = part_of(count)
    both = zip(labels.tolist(), sessions.tolist(), strict=True)
    return [
        (one, two)
        for (one, of_one), (two, of_two) in combinations(enumerate(both), 2)
        if of_one != of_two
    ]


@pytest.mark.parametrize("side", [1, 4, 7, 1000])
@pytest.mark.parametrize("count", [2, 9, 23])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_every_pair_comes_once(
    head: EmbeddingHead, count: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_pairs, "_SIDE", side)
    pairs = pairs_of(head, count)
    whole = head.divergence(pairs.raw)
    found: dict[tuple[int, int], int] = {}
    for tile in pairs.tiles():
        assert max(tile.kinds.shape) <= side
        torch.testing.assert_close(tile.forth, whole[tile.rows, tile.columns])
        torch.testing.assert_close(tile.back, whole[tile.columns, tile.rows].mT)
        for row, column in (tile.kinds != NO_TRIAL).nonzero().tolist():
            pair = (row + tile.rows.start, column + tile.columns.start)
            assert pair not in found
            found[pair] = int(tile.kinds[row, column])
    assert sorted(found) == trials_of(count)
    labels = pairs.labels
    assert found == {(a, b): int(labels[a] == labels[b]) for a, b in found}


@pytest.mark.parametrize("side", [6, 1000])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_errors_costs_and_speakers_are_those_of_all_pairs(
    head: EmbeddingHead, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_pairs, "_SIDE", side)
    pairs = pairs_of(head, 40, dtype=torch.float64)
    one, two = torch.tensor(trials_of(40)).T
    divergence, labels = head.divergence(pairs.raw), pairs.labels
    scores, same = -(divergence[one, two] + divergence[two, one]) / 2, labels[one] == labels[two]
    threshold = scores.median().item()

    curve = pairs.curve(prior=0.01, threshold=threshold)
    expected = error_curve(scores=scores, same=same)
    assert curve is not None
    assert equal_error_of(curve) == pytest.approx(equal_error_of(expected), rel=1e-12)
    assert min_dcf_of(curve) == min_dcf_of(expected)

    costs, counts = pairs.costs()
    every = pairs._loss.pair_loss(divergence[one, two], divergence[two, one], same)
    assert counts == [int((~same).sum()), int(same.sum())]
    assert costs == pytest.approx([every[~same].mean().item(), every[same].mean().item()])

    found = pairs.of_speakers(threshold)
    ordered = torch.stack([labels[one], labels[two]], dim=1).sort(1).values
    listed = [tuple(pair) for pair in found.speakers.tolist()]
    assert listed == sorted({tuple(pair) for pair in ordered.tolist()})
    for pair, trials, score, wrong in zip(*found, strict=True):
        here = (ordered == pair).all(1)
        assert trials == here.sum()
        assert score.item() == pytest.approx(scores[here].mean().item())
        mistaken = (scores[here] > threshold) != same[here]
        assert wrong.item() == pytest.approx(mistaken.double().mean().item())


def test_a_row_that_is_not_finite_leaves_no_curve_and_spoils_its_own_costs() -> None:
    raw, labels, sessions = part_of(20)
    raw[3] = torch.inf
    pairs = AllPairs(head=Softmax(), loss=KlHinge(), raw=raw, labels=labels, sessions=sessions)
    assert pairs.curve(prior=0.01, threshold=math.nan) is None
    assert np.isnan(pairs.costs()[0]).all()


def test_without_trials_of_a_kind_there_is_no_mean() -> None:
    raw, _, sessions = part_of(6)
    labels = torch.arange(6)
    pairs = AllPairs(head=Softmax(), loss=Contrastive(), raw=raw, labels=labels, sessions=sessions)
    (of_others, of_same), counts = pairs.costs()
    assert counts == [15, 0]
    assert math.isfinite(of_others)
    assert math.isnan(of_same)
    assert pairs.curve(prior=0.01, threshold=math.nan) is None


def test_no_snippet_at_all() -> None:
    raw, labels, sessions = part_of(0)
    pairs = AllPairs(head=Softmax(), loss=KlHinge(), raw=raw, labels=labels, sessions=sessions)
    assert pairs.costs()[1] == [0, 0]
    assert pairs.curve(prior=0.01, threshold=math.nan) is None
    assert len(pairs.of_speakers(0.0).trials) == 0
