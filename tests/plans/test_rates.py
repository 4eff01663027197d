"""Rates and stages of every plan, worked out by hand."""

import math
from math import cos, inf, pi

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.plans.base import Plan, Stage, plateaus
from lightning_sep.plans.constant import Constant
from lightning_sep.plans.on_plateau import OnPlateau
from lightning_sep.plans.second_stage import SecondStage
from lightning_sep.plans.warmup_cosine import WarmupCosine
from tests import contracts

PLANS = {"constant": Constant, "on_plateau": OnPlateau, "second_stage": SecondStage}


@pytest.mark.parametrize(
    ("values", "patience", "found"),
    [
        ([], 1, 0),
        ([1.0], 1, 0),
        ([1.0, 1.0], 1, 1),  # as good as before is not better
        ([1.0, 0.999], 1, 0),
        ([2.0, 3.0, 2.5], 2, 1),  # better than the last, and not than the best
        ([2.0, 3.0, 1.0, 1.5], 2, 0),
        ([2.0, 3.0, 3.0, 3.0], 2, 1),
        ([2.0, 3.0, 3.0, 3.0, 3.0], 2, 2),  # counted anew after each time
        ([inf, inf, 5.0], 2, 1),  # no number is not better than none
        ([5.0, inf, 4.0, inf], 2, 0),
        ([-1.0, -2.0, -2.0, -1.0, -3.0], 2, 1),
    ],
)
def test_a_plateau_is_a_row_of_epochs_without_a_better_value(values, patience, found):
    assert plateaus(values, patience=patience) == found


@pytest.mark.parametrize("name", PLANS)
def test_rates_of_those_do_not_depend_on_the_step(name):
    plan: Plan = PLANS[name]()
    plan.prepare(steps=100)
    assert plan.steps == 100
    assert [plan.rate(0.3, step, [1.0]) for step in (0, 50, 99)] == [0.3] * 3
    assert plan.stage([1.0, 2.0]) == Stage(number=0, batch=1, over=False)


def test_a_plateau_multiplies_the_rate_down_to_a_floor():
    plan = OnPlateau(factor=0.1, patience=1, floor=0.002)
    rates = [plan.rate(1.0, 0, [1.0] * epochs) for epochs in range(1, 6)]
    assert rates == pytest.approx([1.0, 0.1, 0.01, 0.002, 0.002])
    assert plan.rate(0.001, 0, [1.0] * 9) == 0.001


def test_a_warmup_counts_steps_begun_and_ends_at_the_whole_rate():
    plan = WarmupCosine(warmup=0.3)
    plan.prepare(steps=7)  # 2.1 steps of rising are three
    rates = [plan.rate(3.0, step, []) for step in range(8)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 3.0])
    assert rates[3:] == pytest.approx([1.5 * (1 + cos(pi * k / 4)) for k in range(5)])
    plan = WarmupCosine(warmup=0.5, floor=0.1)
    plan.prepare(steps=2)
    assert [plan.rate(3.0, step, []) for step in range(4)] == pytest.approx([3.0, 3.0, 0.3, 0.3])
    plan = WarmupCosine(warmup=0.0, floor=0.25)
    plan.prepare(steps=0)
    assert plan.rate(2.0, 0, []) == 2.0


def test_the_second_stage_has_a_rate_of_its_own_whatever_the_first():
    plan = SecondStage(patience=1, second_rate=0.02, batch=5)
    assert plan.rate(0.7, 3, [1.0, 0.5]) == 0.7
    assert plan.rate(0.7, 3, [1.0, 1.5]) == 0.02
    assert plan.stage([1.0, 1.5]) == Stage(number=1, batch=5, over=False)
    assert plan.stage([1.0, 1.5, 0.5]) == Stage(number=1, batch=5, over=False)
    assert plan.stage([1.0, 1.5, 1.5]) == Stage(number=1, batch=5, over=True)


def test_what_is_not_said_is_as_published_and_as_in_the_entries():
    published = {
        "second_stage": {"patience": 20, "second_rate": 1e-5, "batch": 2},
        "on_plateau": {"factor": 0.5, "patience": 5, "floor": 1e-6},
        "warmup_cosine": {"warmup": 0.05, "floor": 0.0},
    }
    for name, numbers in published.items():
        for plan in (contracts.target("plan", name)(), contracts.build("plan", name)):
            assert {one: getattr(plan, one) for one in numbers} == numbers


@pytest.mark.parametrize("name", contracts.entries("plan"))
def test_two_ends_of_a_run_are_refused_only_where_the_plan_has_one(name):
    plan = contracts.build("plan", name)
    plan.check(patience=None)
    if name == "second_stage":
        with pytest.raises(ConfigError, match=r"trainer.patience=3 would end the run"):
            plan.check(patience=3)
    else:
        plan.check(patience=3)
    assert plan.changes_batch == (name == "second_stage")
    assert math.isfinite(plan.rate(0.1, 0, []))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *(("on_plateau", "factor", value) for value in (0.0, 1.0)),
        *(("on_plateau", "patience", value) for value in (0, 1.5)),
        ("on_plateau", "floor", -1e-9),
        *(("second_stage", setting, 0) for setting in ("patience", "second_rate", "batch")),
        *(("warmup_cosine", setting, 1.0) for setting in ("warmup", "floor")),
        *(("warmup_cosine", setting, -0.01) for setting in ("warmup", "floor")),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_its_name(name, setting, value):
    with pytest.raises(ConfigError, match=f"^{setting} = {value}: a "):
        contracts.build("plan", name, **{setting: value})


def test_numbers_at_the_ends_of_their_ranges_do():
    for name, changes in [
        ("on_plateau", {"factor": 1e-9, "patience": 1, "floor": 0}),
        ("second_stage", {"patience": 1, "second_rate": 1e-9, "batch": 1}),
        ("warmup_cosine", {"warmup": 0, "floor": 0}),
        ("warmup_cosine", {"warmup": 0.999, "floor": 0.999}),
    ]:
        plan = contracts.build("plan", name, **changes)
        assert {setting: getattr(plan, setting) for setting in changes} == changes
