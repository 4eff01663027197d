"""A race of finalists: who is behind is dropped, whoever works on it and whatever is killed."""

import time
from random import Random
from typing import Any, Literal

import numpy as np
import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.sweep.definition import Sweep
from lightning_sep.sweep.finals import Dropped, Finals, plan
from lightning_sep.sweep.report import progress, report

SEEDS = range(1000, 1005)


def race(seeds: int = 5, **fields: Any) -> Sweep:
    given = {"direction": "maximize", "trials": 9, "final_seeds": seeds} | fields
    return Sweep(metric="val/x", **given).settled(finite=True)


def results(**scores: list[float | None]) -> dict[tuple[int, int], float | None]:
    """``t3=[1.0, 2.0]``: the scores of trial 3 on its first seeds."""
    return {
        (int(name[1:]), seed): value
        for name, values in scores.items()
        for seed, value in zip(SEEDS, values, strict=False)
    }


def test_nothing_is_asked_beyond_a_look_until_all_runs_up_to_it_are_done() -> None:
    first = [(trial, seed) for trial in (4, 7) for seed in SEEDS[:3]]
    assert plan([4, 7], race(), {}).finals == first
    assert plan([4, 7], race(), {}).most == 10
    almost = results(t4=[1, 2, 1], t7=[1, 1])
    assert plan([4, 7], race(), almost).finals == first
    done = results(t4=[1, 2, 1], t7=[1, 1, 2])
    assert plan([4, 7], race(), done).finals == [*first, (4, 1003), (7, 1003)]
    more = results(t4=[1, 2, 1, 1], t7=[1, 1, 2, 2])
    assert plan([4, 7], race(), more).finals[-2:] == [(4, 1004), (7, 1004)]
    assert plan([4, 7], race(), more).most == 10


# One-sided 5 % over two looks and two settings: Student's t with 2 degrees at 98.75 % is 6.2053,
# with 3 degrees 4.1765 (tables).
@pytest.mark.parametrize(("t", "dropped"), [(6.21, True), (6.20, False)])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_setting_is_dropped_where_the_paired_rule_says_so(
    t: float, dropped: bool, direction: str
) -> None:
    sign = 1 if direction == "maximize" else -1
    spread = 3**0.5 / t  # of differences with mean 1
    behind = [sign * (9 - 1 - spread), sign * (3 - 1), sign * (6 - 1 + spread)]
    scores = results(t4=behind, t7=[sign * 9, sign * 3, sign * 6], t5=[sign * 6] * 3)
    found = plan([4, 7, 5], race(direction=direction), scores)
    assert set(found.dropped) == ({4} if dropped else set())
    if dropped:
        assert found.dropped[4] == Dropped(3, 7, pytest.approx(1.0))
        assert (4, 1003) not in found.finals
        assert found.most == 9 + 2 * 2
    else:
        assert found.most == 15


@pytest.mark.parametrize(
    ("metric", "direction", "collapsed"),
    [
        ("val/si_sdr_improvement_db", "maximize", [-10.0, -45.0, 0.3]),
        ("val/equal_error_rate", "minimize", [0.55, 0.99, 0.497]),
    ],
)
def test_seeds_below_whoever_has_learnt_nothing_count_as_if_they_had_not(
    metric: str, direction: Literal["maximize", "minimize"], collapsed: list[float]
) -> None:
    """0 dB and 50 %: however far they scatter beyond, the setting is behind."""
    ahead = [5.0, 5.2, 4.9] if direction == "maximize" else [0.10, 0.11, 0.09]
    scores = results(t4=list(collapsed), t7=list(ahead))
    sweep = Sweep(metric=metric, direction=direction, trials=2, final_seeds=5)
    found = plan([4, 7], sweep.settled(finite=True), scores)
    assert found.dropped.keys() == {4}
    behind = abs(sum(ahead) - sum(collapsed)) / 3  # which the board's validation scores show
    assert found.dropped[4].behind == pytest.approx(behind)
    assert plan([4, 7], race(direction=direction), scores).dropped == {}, "of no known floor"


@pytest.mark.parametrize(("t", "after"), [(4.18, 4), (4.17, None)])
@pytest.mark.parametrize("third", [[0.0] * 4, [-50.0, -51.0, -50.0]])
def test_a_later_look_has_more_to_go_by(t: float, after: int | None, third: list[float]) -> None:
    """And is no easier when another setting was dropped by then."""
    spread = 2 / t / 2 * 3**0.5  # four differences of mean 1 and standard deviation 2 / t
    behind = [-1 - spread, -1 + spread, -1 - spread, -1 + spread]
    found = plan([4, 7, 5], race(), results(t4=behind, t7=[0.0] * 4, t5=list(third)))
    expected = ({} if after is None else {4: after}) | ({5: 3} if third[0] else {})
    assert {trial: one.after for trial, one in found.dropped.items()} == expected


def test_what_has_failed_runs_no_more_seeds_and_drops_nobody() -> None:
    scores = results(t4=[9, None, 9], t7=[1, 1.1, 1], t5=[2, 2.1, 2.01])
    found = plan([4, 7, 5], race(), scores)
    assert found.dropped.keys() == {7}
    assert found.dropped[7].leader == 5
    assert found.finals[9:] == [(5, 1003)]
    assert found.most == 9 + 2
    nobody = results(t4=[9, None, 9], t7=[None, 1.1, 1])
    assert plan([4, 7], race(), nobody).most == len(plan([4, 7], race(), nobody).finals) == 6


def test_without_a_race_and_with_few_seeds_everything_is_asked_at_once() -> None:
    scores = results(t4=[1, 1.01, 1], t7=[9, 9, 9.01])
    for sweep in (race(race=False), race(seeds=3)):
        found = plan([4, 7], sweep, scores)
        assert found.finals == [(trial, seed) for trial in (4, 7) for seed in sweep.fresh_seeds]
        assert (found.dropped, found.most) == ({}, len(found.finals))
    assert plan([4, 7], race(), scores).dropped.keys() == {4}


def test_the_best_setting_is_rarely_dropped_even_where_it_is_hardly_better() -> None:
    generator, lost = np.random.default_rng(5), 0
    sweep = race()
    for _ in range(300):
        shared = generator.normal(0, 0.6, 5)
        scores = {
            (trial, seed): float(shared[place] + generator.normal(0, 0.2))
            for trial in range(9)
            for place, seed in enumerate(SEEDS)
        }
        lost += 0 in plan(list(range(9)), sweep, scores).dropped
    assert lost / 300 <= 0.05


def test_a_race_is_said_as_yes_or_no() -> None:
    with pytest.raises(ConfigError, match=r"race = 2: True, False or None is needed"):
        Sweep(metric="val/x", direction="maximize", trials=1, race=2)  # type: ignore[arg-type]


def without_path(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "path"}


def test_workers_killed_or_many_run_the_same_race(
    sandbox: Any, tmp_path: Any, quadratic: Any, wait_until: Any
) -> None:
    fields = {"finalists": 5, "final_seeds": 5, "attempts": 50}
    assert sandbox.launch(sandbox.write("calm", **fields), workers=1) == 0
    calm = sandbox.record(sandbox.home / "sweeps" / "calm" / "trials.json")
    dropped = {one["overrides"][0]: one["dropped"] for one in calm["finalists"] if one["dropped"]}
    assert dropped["rate=0.05"]["after"] == 3
    assert dropped["rate=0.05"]["leader"] == calm["best"]["trial"]
    assert "rate=0.4" not in dropped
    assert len(calm["finals"]) < 25
    assert calm["best"]["n"] == 5
    for one in calm["finalists"]:
        assert one["n"] == (5 if one["dropped"] is None else one["dropped"]["after"])
        values = {f["seed"]: f["value"] for f in calm["finals"] if f["trial"] == one["trial"]}
        assert list(values) == [1000, 1001, 1002, 1003, 1004][: one["n"]]
    # The same sweep elsewhere: three workers, one of which is killed again and again.
    type(sandbox).__init__(sandbox, tmp_path / "other", quadratic)
    study = sandbox.begin("calm", **fields)
    slow = {"QUADRATIC_STEP_S": "0.15"}
    workers = [sandbox.worker("calm", **slow) for _ in range(3)]
    generator = Random(2)
    for kill in range(6):
        wait_until(lambda: any(sandbox.home.glob("*/checkpoint.json")))
        time.sleep(generator.uniform(0.2, 0.5))
        workers[kill % 3].kill()
        workers[kill % 3].wait()
        workers[kill % 3] = sandbox.worker("calm", **slow)
    for worker in workers:
        worker.kill()
        worker.wait()
    assert not Finals(study).done()
    assert sandbox.worker("calm").wait(60) == 0
    sandbox.check("calm")
    assert without_path(report(sandbox.open("calm"))) == without_path(calm)
    seen = progress(sandbox.open("calm"))
    assert seen.done
    assert seen.finals_total == seen.finals_done == len(calm["finals"])
