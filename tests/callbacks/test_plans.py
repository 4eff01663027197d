"""Plans of the learning rate: their values, and that a run stopped anywhere ends like another."""

import math
from types import SimpleNamespace

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.callbacks.plan import losses
from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError, Interrupted
from lightning_sep.fsio import read_lines
from lightning_sep.parts import identify
from lightning_sep.plans.constant import Constant
from lightning_sep.plans.on_plateau import OnPlateau
from lightning_sep.plans.second_stage import SecondStage
from lightning_sep.plans.warmup_cosine import WarmupCosine
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import build

INF = math.inf


def test_constant_is_the_optimizers_rate_to_the_bit():
    assert Constant().rate(0.1 + 0.2, 17, [1.0, INF]) == 0.1 + 0.2


def test_warmup_rises_linearly_and_a_cosine_falls():
    plan = WarmupCosine(warmup=0.25, floor=0.1)
    plan.prepare(steps=16)
    rates = [plan.rate(2.0, step, []) for step in range(17)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    expected = [2 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 12)) / 2) for k in range(13)]
    assert rates[4:] == pytest.approx(expected)
    assert rates[4] == 2.0
    assert rates[10] == pytest.approx(1.1)  # half way: the mean of 2 and 0.2
    assert rates[16] == pytest.approx(0.2)
    assert plan.rate(2.0, 99, []) == pytest.approx(0.2)


def test_without_a_warmup_the_first_step_is_a_whole_one():
    plan = WarmupCosine(warmup=0.0)
    plan.prepare(steps=4)
    assert [plan.rate(1.0, step, []) for step in (0, 2)] == pytest.approx([1.0, 0.5])


def test_a_plateau_cuts_the_rate_and_counts_anew():
    plan = OnPlateau(factor=0.5, patience=2, floor=0.2)
    values = [3.0, 3.0, 2.5, 2.5, INF, 2.6, 2.4, 9.0, 9.0, 9.0, 9.0]
    rates = [plan.rate(1.0, 0, values[:count]) for count in range(len(values) + 1)]
    assert rates == [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2]
    assert plan.rate(0.1, 0, values) == 0.1  # a floor above the rate does not raise it


def test_the_second_stage_begins_and_ends_by_patience():
    plan = SecondStage(patience=2, second_rate=1e-5, batch=3)
    values = [3.0, 2.0, 2.0, 4.0, 1.0, 1.5, 1.5]
    stages = [plan.stage(values[:count]) for count in range(len(values) + 1)]
    assert [one.number for one in stages] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [one.batch for one in stages] == [1, 1, 1, 1, 3, 3, 3, 3]
    assert [one.over for one in stages] == [False] * 7 + [True]
    rates = [plan.rate(0.1, 0, values[:count]) for count in (3, 4, 7)]
    assert rates == [0.1, 1e-5, 1e-5]


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (WarmupCosine, {"warmup": 1.0}, "warmup"),
        (WarmupCosine, {"floor": -0.1}, "floor"),
        (OnPlateau, {"factor": 1.0}, "factor"),
        (OnPlateau, {"patience": 0}, "patience"),
        (OnPlateau, {"floor": -1.0}, "floor"),
        (SecondStage, {"patience": 0}, "patience"),
        (SecondStage, {"second_rate": 0.0}, "second_rate"),
        (SecondStage, {"batch": 0}, "batch"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(kind, settings, name):
    with pytest.raises(ConfigError, match=rf"^{name} = "):
        kind(**settings)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, [-2.0, INF]), (-1.0, [2.0, INF])])
def test_a_plan_sees_losses_and_no_number_as_the_worst(sign, expected):
    history = SimpleNamespace(rows=[{"val/x": 2.0}, {"val/x": None}], monitor="val/x", sign=sign)
    assert losses(history) == expected


def test_two_patiences_are_refused(settings, data_home, tmp_path):
    with pytest.raises(ConfigError, match=r"trainer\.patience=3 would end the run before"):
        experiment.run(settings("plan=second_stage", "trainer.patience=3"), home=tmp_path)
    assert not list(tmp_path.iterdir())


def rows_of(result: experiment.Result) -> list[dict]:
    rows = read_lines(result.folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "time_s"} for row in rows]


# The rate is too high, so that validation soon gets no better.
PLANS = {
    "warmup_cosine": ["plan=warmup_cosine", "plan.warmup=0.3", "trainer.epochs=3"],
    "on_plateau": [
        *("plan=on_plateau", "plan.patience=1", "trainer.epochs=5"),
        "optimizer.learning_rate=0.1",
    ],
    "second_stage": [
        *("plan=second_stage", "plan.patience=2", "plan.second_rate=0.002", "trainer.epochs=12"),
        *("optimizer.learning_rate=0.1", "examples.train=18"),
    ],
}


@pytest.fixture(scope="module", params=PLANS)
def whole(request, settings, data_home, tmp_path_factory):
    home = tmp_path_factory.mktemp(request.param)
    return request.param, experiment.run(settings(*PLANS[request.param]), home=home)


def test_a_run_killed_in_any_stage_ends_bit_for_bit_like_another(whole, settings, tmp_path):
    name, undisturbed = whole
    made = settings(*PLANS[name])
    # Batches of training and validation: within epochs, between them and before a validation.
    stops = {"warmup_cosine": (3, 6), "on_plateau": (3, 6, 8), "second_stage": (3, 6, 9, 5, 7)}[
        name
    ]
    for stop in stops:
        asked = iter([False] * stop + [True] * 1000)
        with pytest.raises(Interrupted):
            experiment.run(made, home=tmp_path, should_stop=lambda asked=asked: next(asked))
    resumed = experiment.run(made, home=tmp_path)
    assert resumed.record["attempts"] == len(stops) + 1
    assert rows_of(resumed) == rows_of(undisturbed)
    assert resumed.record["metrics"] == undisturbed.record["metrics"]
    assert resumed.record["hashes"]["weights"] == undisturbed.record["hashes"]["weights"]
    assert resumed.run_id == undisturbed.run_id


def test_each_epoch_tells_its_rate(whole):
    name, result = whole
    rates = [row["train/learning_rate"] for row in rows_of(result)]
    if name == "warmup_cosine":  # 12 steps, 4 of them rising, the last of each epoch
        half = [(1 + math.cos(math.pi * (step - 4) / 8)) / 2 for step in (7, 11)]
        assert rates == pytest.approx([0.001, *(0.001 * one for one in half)])
    else:
        assert rates[0] == 0.1
        assert rates[-1] < 0.1


def test_a_second_stage_goes_on_from_the_best_weights_in_larger_batches(
    whole, settings, data_home, tmp_path
):
    name, result = whole
    if name != "second_stage":
        pytest.skip("one stage only")
    rows = rows_of(result)
    steps = [row["step"] for row in rows]
    lengths = [b - a for a, b in zip([0, *steps], steps, strict=False)]
    first = rows.index(next(row for row in rows if row["train/learning_rate"] == 0.002))
    assert lengths == [5] * first + [3] * (len(rows) - first)  # 18 examples by 4, then by 8
    values = [row["val/si_sdr_improvement_db"] for row in rows[:first]]
    best = values.index(max(values))
    assert best < first - 1  # or going back would be no news
    assert first == best + 1 + 2

    made = settings(*PLANS[name])
    plan = build(made.tree["plan"])
    worse = [-row["val/si_sdr_improvement_db"] for row in rows]
    over = [plan.stage(worse[: count + 1]).over for count in range(len(rows))]
    assert over == [False] * (len(rows) - 1) + [True], "it ends with the second stage"
    folder = RunFolder(tmp_path / result.run_id)

    def stage_begins() -> bool:
        return bool(folder.steps()) and folder.steps()[0].step == steps[first - 1]

    with pytest.raises(Interrupted):
        experiment.run(made, home=tmp_path, should_stop=stage_begins)
    saved = torch.load(folder.steps()[0].path, weights_only=True)
    found = best_weights(folder, result.run_id, steps[best])
    assert found is not None
    for key, value in found[1]["state_dict"].items():
        torch.testing.assert_close(saved["state_dict"][key], value, rtol=0, atol=0, equal_nan=True)
    assert not saved["optimizer_states"][0]["state"]


def test_the_plan_is_part_of_what_a_run_is(settings, data_home):
    ids = {
        identify(settings(f"plan={name}"))
        for name in ("constant", "warmup_cosine", "on_plateau", "second_stage")
    }
    assert len(ids) == 4
