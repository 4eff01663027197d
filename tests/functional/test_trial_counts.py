"""Errors of counted trials are those of sorted ones, to the last bit."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_sep.functional import trial_counts
from lightning_sep.functional.trial_counts import NO_TRIAL, counted_curve, rates_without
from lightning_sep.functional.verification import (
    equal_error_of,
    equal_error_rate,
    error_curve,
    error_rate_of,
    min_dcf_of,
)

PRIOR = 0.01


def errors(curve, threshold: float) -> tuple[float, ...]:
    cost = min_dcf_of(curve, prior=PRIOR)
    return (*equal_error_of(curve), cost, error_rate_of(curve, threshold=threshold))


def in_blocks(scores: Tensor, kinds: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return zip(scores.split(size), kinds.split(size), strict=True)


def assert_same_errors(scores: Tensor, kinds: Tensor, threshold: float, size: int = 1000) -> None:
    counted = counted_curve(
        lambda: in_blocks(scores, kinds, size), like=scores, prior=PRIOR, threshold=threshold
    )
    kept = kinds != NO_TRIAL
    sorted_ones = error_curve(scores=scores[kept], same=kinds[kept] == 1)
    assert counted is not None
    assert errors(counted, threshold) == errors(sorted_ones, threshold)


def drawn(
    count: int, *, seed: int, apart: float, same: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Scores of trials, every tenth of them none."""
    draw = torch.Generator().manual_seed(seed)
    kinds = (torch.rand(count, generator=draw) < same).long()
    scores = torch.randn(count, generator=draw, dtype=torch.float64) + apart * kinds
    kinds[::10] = NO_TRIAL
    return -((3 - scores).clamp(min=0) ** 2).to(dtype), kinds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("apart", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("same", [0.02, 0.5])
def test_errors_are_those_of_the_sorted_trials(
    apart: float, same: float, dtype: torch.dtype
) -> None:
    scores, kinds = drawn(20_000, seed=1, apart=apart, same=same, dtype=dtype)
    for threshold in (-2.0, float(scores[17]), -1e9, 5.0, float(scores[17]) - 1e-12):
        assert_same_errors(scores, kinds, threshold)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_ties_move_together(steps: int) -> None:
    scores, kinds = drawn(3000, seed=2, apart=0.5, same=0.3, dtype=torch.float32)
    assert_same_errors((scores * steps).round() / steps, kinds, -1.0)


finite = st.floats(allow_nan=False, width=32)


@given(
    trials=st.lists(st.tuples(finite, st.booleans()), min_size=2, max_size=40),
    threshold=finite,
    doubled=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_scores(trials: list[tuple[float, bool]], threshold: float, doubled: bool) -> None:
    dtype = torch.float64 if doubled else torch.float32
    scores = torch.tensor([score for score, _ in trials], dtype=dtype)
    kinds = torch.tensor([int(flag) for _, flag in trials])
    kinds[0], kinds[1] = 0, 1
    assert_same_errors(scores, kinds, threshold, size=7)


def test_zeros_of_both_signs_are_one_score() -> None:
    scores, kinds = torch.tensor([-0.0, 0.0, 0.0, -0.0]), torch.tensor([0, 1, 0, 1])
    assert_same_errors(scores, kinds, 0.0)
    assert_same_errors(scores, kinds, -0.0)


def test_a_threshold_between_two_numbers_of_float32() -> None:
    one = np.float32(0.1)
    above = np.nextafter(one, np.float32(1))
    scores, kinds = torch.tensor([one, one, above, above]), torch.tensor([0, 1, 0, 1])
    for threshold in (float(one), (float(one) * 3 + float(above)) / 4, float(above) - 1e-12):
        assert_same_errors(scores, kinds, threshold)


@pytest.mark.parametrize(
    ("scores", "kinds"),
    [
        ([0.1, math.nan, 0.3], [1, 0, 0]),
        ([0.1, 0.2], [1, 1]),
        ([0.1, 0.2], [0, 0]),
        ([0.1, 0.2], [1, NO_TRIAL]),
        ([], []),
    ],
)
def test_what_has_no_curve(scores: list[float], kinds: list[int]) -> None:
    given = torch.tensor(scores), torch.tensor(kinds, dtype=torch.int64)
    assert counted_curve(lambda: [given], like=given[0].float(), prior=PRIOR) is None


def test_a_score_of_no_trial_may_be_nan() -> None:
    scores, kinds = torch.tensor([math.nan, 0.1, 0.3]), torch.tensor([NO_TRIAL, 0, 1])
    assert_same_errors(scores, kinds, 0.2)


def test_few_passes_look_at_few_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_counts, "_AT_ONCE", 4)
    scores, kinds = drawn(50_000, seed=3, apart=1.0, same=0.1, dtype=torch.float32)
    passes = 0

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal passes
        passes += 1
        return in_blocks(scores, kinds, 5000)

    counted = counted_curve(trials, like=scores, prior=PRIOR, threshold=-2.0)
    kept = kinds != NO_TRIAL
    assert errors(counted, -2.0) == errors(
        error_curve(scores=scores[kept], same=kinds[kept] == 1), -2.0
    )
    assert 2 < passes < 20
    assert len(counted.thresholds) < 30_000


def spoken(count: int, speakers: int, *, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Scores, kinds and speakers ``[row, column]`` of all pairs of snippets."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(speakers, (count,), generator=draw)
    same = labels.unsqueeze(1) == labels
    scores = torch.randn(count, count, generator=draw, dtype=torch.float64) + same
    kinds = torch.where(torch.ones_like(same).triu(1), same.long(), NO_TRIAL)
    kinds[::3, ::5] = NO_TRIAL
    return (scores * 2).to(dtype), kinds, labels.unsqueeze(1), labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [False, True])
def test_rates_without_a_speaker_are_those_of_the_other_trials(
    ties: bool, dtype: torch.dtype
) -> None:
    scores, kinds, one, two = spoken(60, 7, seed=4, dtype=dtype)
    if ties:
        scores = scores.round()

    def trials() -> Iterator[tuple[Tensor, ...]]:
        for rows in (slice(0, 25), slice(25, 60)):
            yield scores[rows], kinds[rows], one[rows], two

    found = rates_without(trials, like=scores, speakers=7)
    for speaker in range(7):
        kept = (kinds != NO_TRIAL) & (one != speaker) & (two != speaker)
        expected = equal_error_rate(scores=scores[kept], same=kinds[kept] == 1).rate
        assert found[speaker] == expected
    assert len(set(found)) > 1


def test_without_the_only_speaker_of_a_kind_there_is_no_rate() -> None:
    given = torch.tensor([0.9, 0.1, 0.2]), torch.tensor([1, 0, 0])
    members = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    found = rates_without(lambda: [(*given, *members)], like=given[0], speakers=3)
    assert np.isnan(found[0])
    assert found[2] == 0.0


def test_a_score_that_is_nan_leaves_no_rate() -> None:
    scores, kinds, one, two = spoken(10, 3, seed=5, dtype=torch.float32)
    scores[0, 1] = torch.nan
    kinds[0, 1] = 0
    found = rates_without(lambda: [(scores, kinds, one, two)], like=scores, speakers=3)
    assert np.isnan(found).all()


def test_of_no_speaker_there_is_no_rate() -> None:
    assert len(rates_without(lambda: [], like=torch.zeros(0), speakers=0)) == 0
