"""Every sweep that ships: each of its points gives settings that can be composed."""

from pathlib import Path

import pytest
from optuna.trial import FixedTrial

from lightning_sep.settings import compose
from lightning_sep.sweep.definition import load_sweep
from lightning_sep.sweep.runner import task_monitor

FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.py"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_point_of_a_sweep_composes(path: Path) -> None:
    assert load_sweep(path).check(compose) >= 6


def test_a_sweep_replays_from_fixed_trials(path: Path) -> None:
    definition = load_sweep(path)
    grid = definition.grid()
    points = [{"reweighting.alpha": alpha} for alpha in (-0.3, 0.25, 1.0)]  # a continuous space
    if grid is not None:
        points = [point.values for point in grid]
    proposed = {tuple(definition.proposed(FixedTrial(point))) for point in points}
    assert len(proposed) == len(points) <= definition.sweep.trials


def test_a_sweep_is_judged_by_what_its_task_monitors(path: Path) -> None:
    sweep = load_sweep(path).sweep
    assert (sweep.metric, sweep.direction) == task_monitor(sweep.settings)


def test_a_sweep_asks_a_question_and_confirms_on_five_fresh_seeds(path: Path) -> None:
    sweep = load_sweep(path).sweep
    assert sweep.question.endswith("?")
    assert sweep.final_seeds >= 5
