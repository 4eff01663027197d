import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError
from lightning_sep.functional import schedules


@pytest.mark.parametrize(
    ("k", "step", "expected"),
    [
        (10, 0, 0.909091),
        (10, 10, 0.786270),
        (10, 20, 0.575074),
        (10, 50, 0.063126),
        (1000, 5000, 0.870767),
        (1, 0, 0.5),
    ],
)
def test_inverse_sigmoid(k, step, expected):
    assert schedules.inverse_sigmoid(step, k=k) == pytest.approx(expected, abs=1e-6)


def test_linear_takes_the_slope_off_the_start():
    # a blog's copy of the formula has (start - slope) * step
    assert schedules.linear(3, start=0.9, slope=0.1) == pytest.approx(0.6)


def test_linear_stops_at_its_floor():
    assert schedules.linear(1000, slope=0.1, floor=0.2) == 0.2


def test_exponential_multiplies_by_its_base():
    assert schedules.exponential(3, base=0.5) == pytest.approx(0.125)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_all_schedules_fall_or_stay(one, two):
    early, late = sorted((one, two))
    for schedule, numbers in [
        (schedules.linear, {"slope": 1e-4, "floor": 0.1}),
        (schedules.exponential, {"base": 0.999}),
        (schedules.inverse_sigmoid, {"k": 50.0}),
    ]:
        assert 1 >= schedule(early, **numbers) >= schedule(late, **numbers) >= 0


@pytest.mark.parametrize(
    ("schedule", "numbers", "message"),
    [
        (schedules.linear, {"slope": -0.1}, "slope = -0.1: a finite number of at least 0"),
        (schedules.linear, {"slope": 0.1, "floor": 2.0}, "floor = 2.0: a finite .* of at most 1 "),
        (schedules.linear, {"slope": 0, "start": 0.5, "floor": 0.6}, "floor = 0.6: .* at most 0.5"),
        (schedules.linear, {"slope": 0, "start": 1.5}, "start = 1.5: .* of at most 1"),
        (schedules.exponential, {"base": 1.0}, "base = 1.0: a finite number above 0 and below 1"),
        (schedules.inverse_sigmoid, {"k": 0.5}, "k = 0.5: a finite number of at least 1"),
    ],
)
def test_refuses_numbers_that_make_no_schedule(schedule, numbers, message):
    with pytest.raises(ConfigError, match=message):
        schedule(0, **numbers)
