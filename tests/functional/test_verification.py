import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.functional.verification import (
    equal_error_rate,
    error_curve,
    error_rate_at,
    min_dcf,
)


def trials(targets, others):
    return {
        "scores": np.array([*targets, *others]),
        "same": np.array([True] * len(targets) + [False] * len(others)),
    }


THIRD = trials([0.9, 0.6, 0.4], [0.7, 0.3, 0.2])
UNEVEN = trials([0.9, 0.8, 0.7, 0.35], [0.6, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("interpolate", [True, False])
def test_equal_error_rate_where_the_rates_meet(interpolate):
    assert equal_error_rate(**THIRD, interpolate=interpolate).rate == pytest.approx(1 / 3)


def test_equal_error_rate_by_interpolation():
    assert equal_error_rate(**UNEVEN).rate == pytest.approx(0.25)


def test_equal_error_rate_at_the_closest_threshold():
    assert equal_error_rate(**UNEVEN, interpolate=False).rate == pytest.approx(0.225)


@pytest.mark.parametrize(
    ("data", "plain", "normalised"), [(THIRD, 0.0066667, 0.6667), (UNEVEN, 0.0025, 0.25)]
)
def test_least_detection_cost(data, plain, normalised):
    assert min_dcf(**data, normalised=False) == pytest.approx(plain, abs=1e-7)
    assert min_dcf(**data) == pytest.approx(normalised, abs=1e-4)


def test_perfect_scores_have_no_errors():
    data = trials([0.8, 0.9], [0.1, 0.2])
    assert equal_error_rate(**data).rate == 0
    assert min_dcf(**data) == 0


def test_reversed_scores_are_always_wrong():
    assert equal_error_rate(**trials([0.1, 0.2], [0.8, 0.9])).rate == 1


def test_equal_scores_are_a_coin_toss():
    assert equal_error_rate(**trials([0.5] * 3, [0.5] * 7)).rate == pytest.approx(0.5)


finite = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=8)


@settings(deadline=None, max_examples=30)
@given(finite, finite)
def test_rates_agree_with_counting(targets, others):
    curve = error_curve(**trials(targets, others))
    for t, miss, alarm in zip(*curve, strict=True):
        assert miss == pytest.approx(np.mean(np.array(targets) <= t))
        assert alarm == pytest.approx(np.mean(np.array(others) > t))


@settings(deadline=None, max_examples=30)
@given(finite, finite)
def test_both_rules_stay_within_a_step_of_each_other(targets, others):
    data = trials(targets, others)
    by_line = equal_error_rate(**data).rate
    closest = equal_error_rate(**data, interpolate=False).rate
    curve = error_curve(**data)
    step = max(np.diff(curve.miss).max(), -np.diff(curve.false_alarm).min())
    assert abs(by_line - closest) <= step
    assert 0 <= by_line <= 1


@settings(deadline=None, max_examples=30)
@given(finite, finite, st.sampled_from([0.001, 3.0, 1e6]))
def test_scale_and_offset_of_scores_do_not_matter(targets, others, scale):
    data = trials(targets, others)
    scaled = data | {"scores": scale * data["scores"] + 7}
    assert equal_error_rate(**scaled).rate == equal_error_rate(**data).rate
    assert min_dcf(**scaled) == min_dcf(**data)


@settings(deadline=None, max_examples=30)
@given(finite, finite)
def test_error_rate_at_the_own_threshold_is_the_one_at_the_closest_threshold(targets, others):
    data = trials(targets, others)
    rate, threshold = equal_error_rate(**data, interpolate=False)
    assert error_rate_at(**data, threshold=threshold) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("threshold", "rate"), [(-9.0, 0.5), (0.35, 0.325), (0.36, 0.325), (9, 0.5)]
)
def test_error_rate_at_a_threshold_chosen_elsewhere(threshold, rate):
    assert error_rate_at(**UNEVEN, threshold=threshold) == pytest.approx(rate)


def test_takes_tensors_and_their_devices_dtypes():
    tensors = {
        "scores": torch.tensor(UNEVEN["scores"], dtype=torch.float32, requires_grad=True),
        "same": torch.tensor(UNEVEN["same"]),
    }
    assert equal_error_rate(**tensors).rate == pytest.approx(0.25)


def test_many_trials_take_milliseconds():
    generator = np.random.default_rng(0)
    same = generator.random(37_720) < 0.1
    scores = generator.normal(size=37_720) + 2 * same
    start = time.perf_counter()
    equal_error_rate(scores=scores, same=same)
    assert time.perf_counter() - start < 0.5  # 5 ms on an idle core


@pytest.mark.parametrize("same", [[True, True], [False, False]])
def test_refuses_trials_of_one_kind(same):
    with pytest.raises(ValueError, match="error rates need trials of both kinds"):
        equal_error_rate(scores=[0.1, 0.2], same=same)


def test_refuses_nan_scores():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        equal_error_rate(scores=[np.nan, 0.2], same=[True, False])


def test_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="one length, got 2 and 3"):
        equal_error_rate(scores=[0.1, 0.2], same=[True, False, True])
