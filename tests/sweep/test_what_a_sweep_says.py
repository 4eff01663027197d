"""A sweep by value: what is kept of it, how its trials rank, and what is said of them."""

import io
import json
import math
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from lightning_sep import experiment, parts
from lightning_sep.errors import ConfigError, LeaseLost, SweepError
from lightning_sep.fsio import PATIENCE, Patience
from lightning_sep.launchers.base import Assignment, Crew, Launcher
from lightning_sep.leases.lock import FileLock
from lightning_sep.leases.presence import Peers, Presence, patience_s
from lightning_sep.parts import identify
from lightning_sep.run_id import code_versions
from lightning_sep.settings import compose
from lightning_sep.sweep import asked, commands, inside_optuna, report, watchdog
from lightning_sep.sweep import display as display_module
from lightning_sep.sweep.definition import Sweep, load_sweep
from lightning_sep.sweep.finals import Finals, finalists
from lightning_sep.sweep.folder import create, look, open_sweep, withdraw
from lightning_sep.sweep.names import stop_file, sweep_folder
from lightning_sep.sweep.runner import Errand, ExperimentRunner, Outcome, task_monitor
from lightning_sep.sweep.status import status
from lightning_sep.sweep.steer import stop as stop_sweep
from lightning_sep.sweep.study import SweepStudy
from lightning_sep.sweep.versions import versions
from lightning_sep.sweep.watchdog import watched
from lightning_sep.sweep.worker import Stop, Worker, _work, wait_s

TANH = "lightning_sep.heads.tanh.Tanh"
ANY = "yield f\"rate={trial.suggest_float('rate', 0.0, 1.0)}\""


@pytest.fixture
def presence(sandbox: Any) -> Iterator[Presence]:
    with Presence(sandbox.home / "leases" / "workers", patience_s=15.0) as made:
        yield made


def a_worker(study: SweepStudy, presence: Presence, runner: Any) -> Worker:
    return Worker(study, runner, presence, Peers(presence.folder), Stop())


def told(worker: Worker, *results: tuple[str, float | str]) -> None:
    """Give each next piece of work a result: a run id with its value, or why it failed."""
    for run_id, value in results:
        work = worker._claim()
        assert work is not None
        if isinstance(value, str):
            work.finish([], value)
        else:
            state = "pruned" if run_id.startswith("pruned") else "finished"
            work.finish([Outcome(run_id, state, value)], None)  # type: ignore[arg-type]


class Ticking:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


# --- what is kept ---------------------------------------------------------------------------


def test_what_is_not_said_of_a_sweep() -> None:
    sweep = Sweep(metric="val/r2", direction="maximize", trials=7)
    given = (sweep.settings, sweep.repeats, sweep.finalists, sweep.final_seeds, sweep.attempts)
    assert given == ((), 1, None, 5, 3)
    assert (sweep.race, sweep.most_finalists) == (None, 10)
    settled = [sweep.settled(finite=finite) for finite in (True, False)]
    assert [(one.race, one.finalists) for one in settled] == [(True, 10), (False, 2)]
    assert [one.most_finalists for one in settled] == [10, 2]
    asked = replace(sweep, finalists=3, race=False).settled(finite=True)
    assert (asked.race, asked.finalists) == (False, 3)
    assert (sweep.pruner, sweep.question, sweep.sign) == (None, "", -1.0)
    assert list(sweep.search_seeds) == [0]
    assert list(sweep.fresh_seeds) == [1000, 1001, 1002, 1003, 1004]
    other = Sweep(metric="val/r2", direction="minimize", trials=1, repeats=3, finalists=0)
    assert (other.sign, list(other.search_seeds)) == (1.0, [0, 1, 2])


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [
        *(("trials", 0, False), ("repeats", 0, False), ("repeats", 1000, True)),
        *(("repeats", 1001, False), ("finalists", 0, True), ("finalists", -1, False)),
        *(("final_seeds", 0, True), ("final_seeds", -1, False), ("attempts", 0, False)),
        *(("attempts", 1, True), ("attempts", True, False), ("trials", "3", False)),
    ],
)
def test_the_bounds_of_a_sweeps_numbers(field: str, value: Any, good: bool) -> None:
    fields: dict[str, Any] = {"metric": "val/r2", "direction": "maximize", "trials": 1}
    if good:
        assert getattr(Sweep(**fields | {field: value}), field) == value
    else:
        with pytest.raises(ConfigError, match=rf"^{field} = "):
            Sweep(**fields | {field: value})


def test_what_must_not_change_within_a_sweep() -> None:
    packages = {name: metadata.version(name) for name in ("torch", "pytorch-lightning", "optuna")}
    expected = {**code_versions([TANH]), "python": platform.python_version(), **packages}
    assert versions([TANH]) == expected
    assert versions(["lightning_sep.heads.sine.Sine"])["code"] != expected["code"]


def test_a_sweep_is_kept_as_it_was_begun(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"question": "why?", "direction": "maximize", "repeats": 2, "attempts": 4}
    path = sandbox.write(trials=3, finalists=1, final_seeds=3, **fields)
    definition = load_sweep(path, ["more=1"])
    create(sandbox.home, definition, [TANH, TANH], ["head/tanh"])
    file = sandbox.home / "sweeps" / "quick" / "sweep.json"
    record = sandbox.record(file)
    expected = {
        "format": 2,
        "name": "quick",
        "fingerprint": definition.fingerprint,
        "path": str(path),
        "extra": ["more=1"],
        "config_dir": None,
        "trials": 3,
        "finalists": None,
        "command": f"lightning-sep sweep {path} more=1 --name quick --trials 3",
        "patience_s": 2.0,
        "source": path.read_text(),
        "targets": [TANH],
        "entries": ["head/tanh"],
        "versions": versions([TANH], ["head/tanh"], None),
    }
    assert {name: record[name] for name in expected} == expected
    assert record["asks"] == {
        **{"settings": ["steps=4"], "metric": "val/value", "direction": "maximize"},
        **{"repeats": 2, "finalists": 1, "final_seeds": 3, "question": "why?", "race": True},
    }
    points = definition.grid()
    assert points is not None
    assert record["grid"] == [point.as_json() for point in points]
    assert record.keys() == expected.keys() | {"asks", "created", "grid"}
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", "7")
    record["created"] = "long ago"
    file.write_text(json.dumps(record))
    larger = create(sandbox.home, load_sweep(path, ["more=1"], trials=4), [TANH], ["head/tanh"])
    command = f"lightning-sep sweep {path} more=1 --name quick --trials 4"
    assert sandbox.record(file) == record | {"trials": 4, "command": command}
    for study in (larger, open_sweep(sandbox.home, "quick"), look(sandbox.home, "quick")):
        assert (study.budget, study.patience_s) == (4, 2.0)
        assert study.points is not None
        assert [point.overrides for point in study.points] == [one.overrides for one in points]
        sweep = study.definition.sweep
        assert (sweep.repeats, sweep.finalists, sweep.final_seeds) == (2, 1, 3)
        assert sweep.race is True, "as its space was when it was begun"
        assert (sweep.direction, sweep.question, sweep.settings) == (
            *("maximize", "why?"),
            ("steps=4",),
        )
        assert study.definition.extra == ("more=1",)
        assert study.study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_sweep_that_is_begun_again_forgives_crashes(
    sandbox: Any, presence: Presence, quadratic: Any
) -> None:
    study = sandbox.begin()
    work = a_worker(study, presence, sandbox.runner)._claim()
    assert work is not None
    work.give_back(crashed=True)
    [lease] = (study.folder / "leases").glob("*.json")
    assert sandbox.record(lease)["crashes"] == 1
    sandbox.begin()
    assert sandbox.record(lease)["crashes"] == 0


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda record: record | {"format": 1}, "has format 1, not 2"),
        (lambda record: record | {"fingerprint": "x"}, "another space, objective or settings"),
        (lambda record: record | {"versions": record["versions"] | {"torch": "0"}}, "torch 0"),
        (lambda record: {k: v for k, v in record.items() if k != "asks"}, "fields are missing"),
        (lambda record: [record], "fields are missing"),
    ],
)
def test_another_sweep_under_the_same_name_is_refused(
    sandbox: Any, harm: Callable[[Any], Any], message: str
) -> None:
    sandbox.begin()
    file = sandbox.home / "sweeps" / "quick" / "sweep.json"
    file.write_text(json.dumps(harm(sandbox.record(file))))
    with pytest.raises(ConfigError, match=message):
        sandbox.begin()


def test_a_sweep_is_taken_off_unless_somebody_has_worked_on_it(
    sandbox: Any, presence: Presence
) -> None:
    withdraw(sandbox.begin(trials=2))
    assert not sweep_folder(sandbox.home, "quick").joinpath("sweep.json").exists()
    study = sandbox.begin(trials=2)
    told(a_worker(study, presence, sandbox.runner), ("a", 3.0))
    withdraw(study)
    assert [trial.values for trial in sandbox.open().trials()] == [[3.0]]


def test_a_sweep_of_format_1_can_be_looked_at(sandbox: Any) -> None:
    sandbox.begin()
    file = sandbox.home / "sweeps" / "quick" / "sweep.json"
    record = sandbox.record(file) | {"format": 1, "points": 3}
    assert record["asks"].pop("race") is True, "which came later"
    file.write_text(json.dumps({k: v for k, v in record.items() if k != "patience_s"}))
    study = look(sandbox.home, "quick")
    assert (study.budget, study.patience_s) == (3, 2.0)
    assert study.definition.sweep.race is False
    with pytest.raises(ConfigError, match="has format 1, not 2"):
        open_sweep(sandbox.home, "quick")


@pytest.mark.parametrize(("trials", "finite"), [(10, False), (65, False), (66, True), (90, True)])
def test_a_space_is_walked_that_is_small_or_no_larger_than_the_budget(
    sandbox: Any, trials: int, finite: bool
) -> None:
    body = "yield f\"rate={trial.suggest_int('rate', 1, 66)}\""
    study = sandbox.begin(body=body, trials=trials)
    assert (study.points is not None) is finite
    assert study.budget == min(trials, 66)


def test_what_stands_in_the_way_of_a_result_is_set_apart(sandbox: Any, presence: Presence) -> None:
    study = sandbox.begin(trials=1, finalists=1, final_seeds=1)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 3.0))
    final = worker._claim()
    assert final is not None
    folder = study.folder / "finals"
    folder.mkdir()
    for text in ("{", "[]", '{"state": "odd", "trial": 0, "seed": 1000}', '{"state": "failed"}'):
        (folder / "final-0000-1000.json").write_text(text)
        assert worker.finals.results() == {}
    (folder / ".final-0000-1000.json").write_text('{"state": "failed", "trial": 0, "seed": 1}')
    lease = final.lease.path.read_text()
    final.finish([Outcome("b", "finished", 1.5)], None)
    final.lease.path.write_text(lease)
    final.finish([Outcome("c", "finished", 0.5)], None)  # the first one stands
    expected = {"trial": 0, "seed": 1000, "run_id": "b", "state": "finished"}
    expected |= {"value": 1.5, "reason": None}
    assert worker.finals.results() == {"final-0000-1000": expected}
    assert Finals(study).results() == worker.finals.results()
    [kept] = folder.glob("final-0000-1000.json.damaged-*")
    assert kept.read_text() == '{"state": "failed"}'


# --- who may tell ---------------------------------------------------------------------------


def test_a_trial_that_was_told_is_not_told_again(sandbox: Any, presence: Presence) -> None:
    study = sandbox.begin(trials=1, finalists=0)
    work = a_worker(study, presence, sandbox.runner)._claim()
    assert work is not None
    lease = work.lease.path.read_text()
    work.finish([Outcome("a", "finished", 1.0)], None)
    work.lease.path.write_text(lease)
    with pytest.raises(LeaseLost, match="trial 0 was told already"):
        work.finish([Outcome("b", "finished", 2.0)], None)
    [trial] = study.trials()
    assert (trial.value, trial.user_attrs["runs"]) == (1.0, ["a"])


def test_a_trial_that_cannot_be_begun_holds_no_lease(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = sandbox.begin(body=ANY, trials=1)
    worker = a_worker(study, presence, sandbox.runner)

    def fails(study: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inside_optuna, "new", fails)
        with pytest.raises(KeyboardInterrupt):
            worker._claim()
    assert not list((study.folder / "leases").glob("*.json"))
    assert worker._claim() is not None


def test_a_space_that_fails_for_a_trial_fails_that_trial(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"import os\n    assert not os.environ.get('ODD'), 'odd'\n    {ANY}"
    study = sandbox.begin(body=body, trials=1, finalists=0)
    monkeypatch.setenv("ODD", "1")
    assert a_worker(study, presence, sandbox.runner).step() == "worked"
    [trial] = study.trials()
    assert trial.state == optuna.trial.TrialState.FAIL
    assert trial.user_attrs["reason"] == "AssertionError: odd"


# --- how trials rank ------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_sweep_finds_the_best_in_its_direction(
    sandbox: Any, presence: Presence, direction: str
) -> None:
    sign = 1 if direction == "minimize" else -1
    study = sandbox.begin(direction=direction, finalists=2, final_seeds=2)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 3.0 * sign), ("b", 2.0 * sign))
    seen = report.progress(study)
    assert (seen.best, seen.done, seen.trials) == (2.0 * sign, False, {"finished": 2})
    assert (seen.trials_total, seen.finals_total, seen.work_total) == (5, 4, 9)
    told(worker, ("c", 2.0 * sign), ("", "it broke"), ("pruned", 1.0 * sign))
    trials = study.trials()
    assert [one.number for one in finalists(study.definition, trials)] == [1, 2], "ties: earlier"
    told(worker, ("b1", 2.5 * sign), ("b2", 3.5 * sign), ("c1", 1.0 * sign), ("c2", 1.5 * sign))
    content = report.write_report(study)
    assert sandbox.record(study.folder / "trials.json") == content
    assert [one["trial"] for one in content["finalists"]] == [1, 2]
    second = {
        "trial": 2,
        "overrides": trials[2].user_attrs["overrides"],
        "search_value": 2.0 * sign,
        "mean": 1.25 * sign,
        "std": pytest.approx(0.5 / math.sqrt(2)),
        "n": 2,
        "failed": 0,
        "dropped": None,
        "confirmed": True,
    }
    assert content["best"] == content["finalists"][1] == second
    assert content["finalists"][0]["mean"] == 3.0 * sign
    assert content["counts"] == {"failed": 1, "finished": 3, "pruned": 1}
    assert content["trials"][3] == {
        **{"number": 3, "state": "failed", "value": None, "runs": [], "reason": "it broke"},
        "overrides": trials[3].user_attrs["overrides"],
    }
    assert content["trials"][4]["state"] == "pruned"
    assert content["trials"][4]["value"] is None
    assert content["trials"][0]["runs"] == ["a"]
    assert [one["run_id"] for one in content["finals"]] == ["b1", "b2", "c1", "c2"]
    assert [one["seed"] for one in content["finals"]] == [1000, 1001, 1000, 1001]
    head = ("format", "sweep", "metric", "direction", "repeats", "path", "fingerprint")
    assert [content[name] for name in head] == [
        *(1, "quick", "val/value", direction, 1),
        *(study.definition.path, study.definition.fingerprint),
    ]
    assert content["settings"] == ["steps=4"]
    seen = report.progress(study)
    assert (seen.done, seen.work_done, seen.work_good, seen.work_total) == (True, 9, 8, 9)
    rate = " ".join(trials[2].user_attrs["overrides"])
    assert report.verdict(content) == (
        f"quick: best {rate}: val/value {1.25 * sign:.4g} ± 0.35 over 2 fresh seeds "
        "(trials: 3 finished, 1 pruned, 1 failed)"
    )
    shown = " ".join(trials[1].user_attrs["overrides"])
    assert seen.line() == (
        f"quick: trials 5/5 (1 pruned, 1 failed), finals 4/4, best {2 * sign:.4g} ({shown})"
    )


def test_duplicates_are_one_finalist_and_a_failed_seed_ranks_last(
    sandbox: Any, presence: Presence
) -> None:
    study = sandbox.begin(trials=3, finalists=2, final_seeds=1)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("same", 1.0), ("same", 1.0), ("other", 2.0))
    assert [one.number for one in finalists(study.definition, study.trials())] == [0, 2]
    told(worker, ("", "it broke"))
    assert report.report(study)["best"] is None
    told(worker, ("o1", 9.0))
    content = report.report(study)
    assert (content["best"]["trial"], content["best"]["n"], content["best"]["std"]) == (2, 1, None)
    assert [one["failed"] for one in content["finalists"]] == [1, 0]
    assert "over 1 fresh seed " in report.verdict(content)
    line = report.progress(study).line()
    assert line.startswith("quick: trials 3/3, finals 2/2 (1 failed), best 1 (")


def test_a_finalist_that_failed_once_ranks_behind_one_that_never_did(
    sandbox: Any, presence: Presence
) -> None:
    study = sandbox.begin(trials=2, finalists=2, final_seeds=2)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 1.0), ("b", 2.0), ("a1", 0.1), ("", "it broke"), ("b1", 3.0), ("b2", 3.0))
    content = report.report(study)
    assert content["best"]["trial"] == 1
    assert [(one["n"], one["failed"]) for one in content["finalists"]] == [(1, 1), (2, 0)]


def test_without_finals_the_best_of_the_search_is_said_to_be_unconfirmed(
    sandbox: Any, presence: Presence
) -> None:
    study = sandbox.begin(trials=2, finalists=0)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("", "it broke"))
    assert report.report(study)["best"] is None
    told(worker, ("b", 2.0))
    content = report.report(study)
    best = content["best"]
    assert (best["mean"], best["n"], best["std"], best["confirmed"]) == (2.0, 0, None, False)
    assert "val/value 2 in the search, not confirmed on fresh seeds" in report.verdict(content)


def test_what_is_tried_depends_on_the_sweeps_name_and_the_trials_number(
    sandbox: Any, presence: Presence, quadratic: Any, tmp_path: Path
) -> None:
    """And not on how many workers there are, or on when they began."""

    def rates(home: Path, name: str, *, anew: bool = False) -> list[float]:
        study = create(home, load_sweep(sandbox.write(name, ANY, trials=6)))
        for number in range(6):
            study = open_sweep(home, name) if anew else study
            worker = a_worker(study, presence, sandbox.runner)
            told(worker, (f"{number}", float(number)))
        for trial in study.trials():  # as the finals run it again
            assert trial.user_attrs["overrides"] == [f"rate={trial.params['rate']}"]
        return [trial.params["rate"] for trial in study.trials()]

    first, again = rates(tmp_path / "a", "one"), rates(tmp_path / "b", "one", anew=True)
    assert first == again
    assert len(set(first)) == 6
    assert not set(first) & set(rates(tmp_path / "a", "two"))


@pytest.mark.parametrize(("trials", "startup"), [(3, 4), (12, 4), (15, 5), (24, 8), (90, 10)])
def test_half_of_a_search_at_least_learns_from_what_was_found(
    sandbox: Any, trials: int, startup: int
) -> None:
    sampler: Any = sandbox.begin(body=ANY, trials=trials)._sampler(0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._n_startup_trials == startup
    assert (sampler._multivariate, sampler._constant_liar) == (True, True)


# --- what watches a run ---------------------------------------------------------------------


def test_the_watchdog_is_armed_now_and_then_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, armed = Ticking(), []
    monkeypatch.setattr(watchdog, "time", clock)
    handler = watchdog.faulthandler
    monkeypatch.setattr(
        handler, "dump_traceback_later", lambda *of, **how: armed.append((clock.now_s, of, how))
    )
    monkeypatch.setattr(handler, "cancel_dump_traceback_later", lambda: armed.append("let go"))
    before = PATIENCE.pulse
    with watched(20.0) as alive:
        assert PATIENCE.pulse is alive
        for _ in range(5):
            clock.now_s += 0.5
            alive()
    assert [one[0] for one in armed[:-1]] == [100.0, 101.0, 102.0]
    assert armed[0][1:] == ((20.0,), {"exit": True, "file": sys.stderr})
    assert armed[-1] == "let go"
    assert PATIENCE.pulse is before
    armed.clear()
    with watched(2.0) as alive:
        clock.now_s += 0.2
        alive()
    assert len(armed) == 3, "a tenth of the time is waited for at most"
    armed.clear()
    with watched(None) as alive:
        alive()
    assert armed == []


# --- what is told meanwhile -----------------------------------------------------------------


def test_status_tells_who_runs_what_waits_and_what_has_failed(
    sandbox: Any, presence: Presence, capsys: pytest.CaptureFixture[str]
) -> None:
    study = sandbox.begin(trials=5, question="why?")
    assert report.status(study)["state"] == "queued", "nothing has begun"
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 3.0), ("", "it broke"))
    running = worker._claim()
    assert running is not None
    running.lease.is_about(run="run-2", seed=0)
    presence.waits_for("the disk")
    given = worker._claim()
    assert given is not None
    given.lease.is_about(reason="ValueError: no", failed_by=["another"])
    given.give_back()
    dead = worker._claim()
    assert dead is not None
    file = dead.lease.path
    record = sandbox.record(file)
    record["owner"] |= {"pid": 2**22 + 1}
    record["worker"] = "gone"
    file.write_text(json.dumps(record))
    seen = report.status(look(sandbox.home, "quick"))
    assert (seen["sweep"], seen["state"], seen["question"]) == ("quick", "running", "why?")
    assert seen["metric"] == "val/value"
    counts = {"finished": 1, "failed": 1, "running": 2, "waiting": 1}
    assert seen["trials"] == {"total": 5, **counts}
    assert seen["finals"] == {"total": 4}
    assert seen["best"]["value"] == 3.0
    [one] = seen["running"]
    overrides = [trial.user_attrs["overrides"] for trial in study.trials()]
    about = {"trial": 2, "overrides": overrides[2], "run": "run-2", "waits_for": "the disk"}
    assert one == {**about, "by": str(presence.owner)}
    whys = {one["trial"]: one["reason"] for one in seen["waiting"]}
    assert whys[3] == "another process tries it once more (ValueError: no)"
    assert "has died; another worker takes it over" in whys[4]
    assert seen["failed"] == [{"trial": 1, "overrides": overrides[1], "reason": "it broke"}]
    assert status("quick", home=sandbox.home) == 0
    first, trials, finals, best, *rest = capsys.readouterr().out.splitlines()
    assert first == "quick: running — why?"
    assert trials == "    trials: 5 in all, 1 finished, 1 failed, 2 running, 1 waiting"
    assert finals == "    finals: 4 in all"
    assert best == f"    best so far: val/value 3 ({' '.join(overrides[0])})"
    kinds = ["running", "waiting", "waiting", "failed"]
    assert [line.split(":")[0].strip() for line in rest] == kinds
    assert rest[0] == f"    running: trial 2 ({' '.join(overrides[2])}): {presence.owner}"
    stop_sweep("quick", home=sandbox.home)
    assert report.status(study)["state"] == "stopping"
    running.give_back()
    seen = report.status(study)
    assert (seen["state"], seen["running"]) == ("stopped", [])
    assert {one["trial"]: one["reason"] for one in seen["waiting"]}[2] == (
        "stopped; goes on when the sweep is launched again"
    )


def test_status_says_that_what_waits_goes_on_by_itself_while_somebody_works(
    sandbox: Any, presence: Presence
) -> None:
    study = sandbox.begin(trials=2)
    worker = a_worker(study, presence, sandbox.runner)
    works, waits = worker._claim(), worker._claim()
    assert works is not None
    assert waits is not None
    waits.give_back()
    [one] = report.status(study)["waiting"]
    assert one["reason"] == "the next worker that is free takes it"
    works.give_back()
    whys = {one["reason"] for one in report.status(study)["waiting"]}
    assert whys == {"stopped; goes on when the sweep is launched again"}


def test_status_tells_of_finals_too(sandbox: Any, presence: Presence) -> None:
    study = sandbox.begin(trials=1, finalists=1, final_seeds=3)
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 3.0), ("", "it broke"))
    running = worker._claim()
    assert running is not None
    seen = report.status(study)
    assert [(one["trial"], one["seed"]) for one in seen["running"]] == [(0, 1001)]
    assert [(one["seed"], one["reason"]) for one in seen["failed"]] == [(1000, "it broke")]
    assert (seen["waiting"], seen["finals"]) == ([], {"total": 3, "failed": 1})
    told(worker, ("c", 1.0))
    running.finish([Outcome("b", "finished", 1.0)], None)
    assert report.status(study)["state"] == "done"


def seen(
    done: int, total: int, *, name: str = "one", best: float | None = None, running: int = 0
) -> Any:
    trials = {"finished": done, "running": running}
    return report.Progress(name, trials, total, {}, 0, best, (), done == total)


def test_the_time_left_is_that_of_the_work_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking()
    monkeypatch.setattr(display_module, "time", clock)
    left = display_module.Clock()
    assert left.left([seen(10, 30)]) == "", "nothing is known yet"
    clock.now_s += 40
    assert left.left([seen(11, 30)]) == "up to 13 min left", "the first piece loads things"
    clock.now_s += 10
    assert left.left([seen(11, 30)]) == "up to 13 min left"
    assert left.left([seen(13, 30)]) == "about 85 s left"
    clock.now_s += 10
    assert left.left([seen(15, 30), seen(4, 5)]) == "about 40 s left"
    clock.now_s += 4 * 3600 - 20
    assert left.left([seen(19, 30)]) == "about 5.5 h left"
    assert left.left([seen(30, 30)]) == ""


def test_the_time_left_counts_from_the_first_trial_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Ticking()
    monkeypatch.setattr(display_module, "time", clock)
    left = display_module.Clock()
    left.left([seen(0, 12)])
    clock.now_s += 60  # the workers start
    left.left([seen(0, 12)])
    left.left([seen(0, 12, running=3)])
    clock.now_s += 9
    assert left.left([seen(2, 12, running=3)]) == "", "the third of three is about to end"
    assert left.left([seen(3, 12, running=2)]) == "up to 27 s left"
    clock.now_s += 3
    assert left.left([seen(5, 12, running=1)]) == "up to 21 s left"
    assert left.left([seen(6, 12, running=3)]) == "about 6 s left", "the first ones loaded things"


def test_a_long_setting_leaves_the_name_the_bar_and_the_time_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Ticking()
    monkeypatch.setattr(display_module, "time", clock)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    overrides = tuple(f"optimizer.setting_{number}=0.000123456" for number in range(9))
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    study: Any = SimpleNamespace(definition=SimpleNamespace(name="bounded_heads"))
    with redirect_stderr(stream), display_module.display([study]) as show:
        show([seen(0, 9, name="bounded_heads")])
        show([seen(1, 9, name="bounded_heads")])
        clock.now_s += 50
        long = replace(seen(6, 9, name="bounded_heads", best=1.5), best_overrides=overrides)
        show([long])
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()[-1].strip()
    assert re.fullmatch(
        r"bounded_heads [━╸╺ ]{24} 6/9 [-\\|/] about 30 s left trials 6/9, finals ?\S*…", last
    )


def test_a_line_is_told_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Ticking()
    monkeypatch.setattr(display_module, "time", clock)
    with display_module.display([]) as show:
        show([seen(0, 4), seen(0, 2, name="two")])
        clock.now_s += 4.9
        show([seen(1, 4), seen(0, 2, name="two")])
        clock.now_s += 0.1
        show([seen(2, 4), seen(0, 2, name="two")])
        clock.now_s += 0.1
        show([seen(4, 4), seen(2, 2, name="two")])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "one: trials 0/4, finals 0/0",
        "one: trials 2/4, finals 0/0, up to 10 s left",
        "one: trials 4/4, finals 0/0",
        "two: trials 2/2, finals 0/0",
    ]


# --- what runs a setting --------------------------------------------------------------------


def test_a_run_is_done_on_behalf_of_its_trial(
    tmp_path: Path, data_home: Path, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    result = experiment.Result("abc", tmp_path, "pruned", {}, 0.25)

    def run(settings: Any, **about: Any) -> experiment.Result:
        given.update(about, settings=settings)
        armed.append("runs")
        about["alive"]()
        return result

    armed: list[Any] = []
    handler = watchdog.faulthandler
    monkeypatch.setattr(handler, "dump_traceback_later", lambda *of, **how: armed.append(of))
    monkeypatch.setattr(watchdog, "_AGAIN_S", 0.0)
    monkeypatch.setattr(experiment, "run", run)
    runner = ExperimentRunner(tmp_path)
    told = ["task=separation", "tracking=none", "seed=3", "trainer.hang_s=77"]
    run_id, prepared = runner.prepare(told)
    assert run_id == identify(compose(told), prepared[1])

    errand = Errand(
        sweep="quick",
        trial=7,
        purpose="search",
        report=lambda epoch, value: False,
        should_stop=lambda: False,
        guard=lambda: None,
        presence=presence,
        busy=lambda owner: None,
        judged=True,
    )
    assert runner.run(prepared, errand) == Outcome("abc", "pruned", 0.25)
    assert given["judged"] is True
    assert given["settings"].tree["seed"] == 3
    assert given["data"] is prepared[1]
    assert given["home"] == tmp_path
    for name in ("sweep", "trial", "purpose", "report", "should_stop", "guard", "presence", "busy"):
        assert given[name] is getattr(errand, name), name
    assert armed == [(77.0,), "runs", (77.0,)], "each step begins the time anew"
    result = experiment.Result("abc", tmp_path, "finished", {}, 0.5)
    assert runner.run(prepared, errand) == Outcome("abc", "finished", 0.5)
    folder = tmp_path / "abc" / "checkpoints"
    folder.mkdir(parents=True)
    assert runner.reached("abc") == 0
    for name in ("step-000000008.1.ckpt", "step-000000004.2.ckpt"):
        (folder / name).touch()
    assert runner.reached("abc") == 8


SWEEP = """
from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(metric={metric!r}, direction={direction!r}, trials=2, settings=["task=separation",
    "tracking=none", "trainer.nodes=4"])

def overrides(trial):
    threads = trial.suggest_categorical("threads", [1, 3, 2])
    yield f"trainer.threads={{threads}}"
    yield f"trainer.devices={{4 - threads}}"
    yield f"head={{trial.suggest_categorical('head', ['tanh', 'sine'])}}"
"""


def test_a_definition_is_examined_before_any_work(
    tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric, direction = task_monitor(["task=separation"])
    assert (metric, direction) == ("val/si_sdr_improvement_db", "maximize")
    path = tmp_path / "heads.py"
    path.write_text(SWEEP.format(metric=metric, direction=direction))
    found = ExperimentRunner(tmp_path).examine(load_sweep(path))
    assert (found.threads, found.devices, found.nodes) == (3, 3, 4)
    assert {TANH, "lightning_sep.heads.sine.Sine"} <= set(found.targets)
    assert found.targets == sorted(set(found.targets))
    assert not any("tracking" in one or "launchers" in one for one in found.targets)
    for fields in ({"metric": "val/loss"}, {"direction": "minimize"}):
        path.write_text(SWEEP.format(**{"metric": metric, "direction": direction} | fields))
        with pytest.raises(ConfigError, match="task monitors metric='val/si_sdr_improvement_db'"):
            ExperimentRunner(tmp_path).examine(load_sweep(path))
    opened = []
    monkeypatch.setattr(parts, "open_data", lambda one: opened.append(one.tree["data"]["seed"]))
    several = "    yield f\"data.seed={trial.suggest_categorical('data', [3, 4])}\"\n"
    path.write_text(SWEEP.format(metric=metric, direction=direction) + several)
    ExperimentRunner(tmp_path).examine(load_sweep(path))
    assert sorted(opened) == [3, 4], "each once, not by all workers at the same time"


# --- the command ----------------------------------------------------------------------------


class Inside(Launcher, Crew):
    """Lets work be done in this process, a piece at each look."""

    count = 1
    logs = "nowhere"

    def __init__(self, work: Callable[[], object], troubles: Sequence[tuple[int, str]] = ()):
        self.work = work
        self.found = list(troubles)
        self.asked: list[Assignment] = []
        self.forgiven = 0
        self.ended: list[float] = []

    def plan(self, work: Assignment) -> str:
        return "one process: this one"

    def start(self, work: Assignment) -> Crew | str:
        self.asked.append(work)
        return self

    def poll(self) -> int:
        return int(self.work() is not None)

    def troubles(self) -> list[tuple[int, str]]:
        return self.found

    def terminate(self, grace_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        self.ended.append(grace_s)

    def forgive(self) -> None:
        self.forgiven += 1


def launched(sandbox: Any, launcher: Launcher, path: Path, **more: Any) -> int:
    return commands.launch(
        [path],
        home=sandbox.home,
        launcher=launcher,
        runner=sandbox.runner,
        command=list,
        page=lambda names, home: home / "page.html",
        **more,
    )


def test_the_command_line_chooses_the_launcher() -> None:
    assert asked.launcher_of([], 3, None).workers == 3  # type: ignore[attr-defined]
    chosen = asked.launcher_of(["launcher.workers=2"], None, None)
    assert chosen.workers == 2  # type: ignore[attr-defined]
    assert asked._first("head=tanh,sine") == "head=tanh"
    assert asked._first("net.a=[1,2]") == "net.a=[1,2]"


def test_the_command_asks_for_as_many_workers_as_there_is_work(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "POLL_S", 0.0)
    path = sandbox.write(trials=3, finalists=1, final_seeds=2)
    study = create(sandbox.home, load_sweep(path))
    worker = a_worker(study, presence, sandbox.runner)
    told(worker, ("a", 3.0))
    launcher = Inside(worker.step)
    assert launched(sandbox, launcher, path) == 0
    assert launcher.asked == [
        Assignment(["quick"], ["quick"], [study.folder], sandbox.home, most=4, threads=1)
    ]
    assert launcher.forgiven == 3, "each result that is no failure, but for the last"
    assert launcher.ended == [commands.GRACE_S]
    (study.folder / "leases" / "trial-0000.json").write_text("left by a kill")
    assert launched(sandbox, launcher, path) == 0, "said again without a worker"
    assert launcher.ended == [commands.GRACE_S]
    assert not list((study.folder / "leases").iterdir())


def test_how_workers_ended_decides_how_the_command_does(
    sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "POLL_S", 0.0)
    path = sandbox.write()
    for troubles, error, words in [
        ([(2, "no such head"), (2, "no such head")], ConfigError, "was done: no such head$"),
        ([(-9, "killed"), (1, "it broke")], SweepError, "was done: killed; it broke. The same"),
        ([], SweepError, "was done: they were asked to stop. The same"),
    ]:
        with pytest.raises(error, match=words) as caught:
            launched(sandbox, Inside(lambda: None, troubles), path)
        assert caught.type is error


def test_workers_that_go_on_by_themselves_are_left_alone(
    sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Far(Inside):
        def start(self, work: Assignment) -> Crew | str:
            return "1 worker was submitted"

    launcher = Far(lambda: None)
    assert launched(sandbox, launcher, sandbox.write()) == 0
    assert capsys.readouterr().out == "1 worker was submitted\n"
    assert launcher.ended == []


def test_a_sweep_in_which_all_fails_forgives_nothing_and_exits_1(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "POLL_S", 0.0)
    path = sandbox.write(trials=2, finalists=0)
    study = create(sandbox.home, load_sweep(path))
    worker = a_worker(study, presence, sandbox.runner)

    def fails() -> object:
        if study.searching():
            told(worker, ("", "it broke"))
        return True

    launcher = Inside(fails)
    assert launched(sandbox, launcher, path) == 1
    assert launcher.forgiven == 0


def test_a_worker_that_is_told_to_stop_leaves_work(
    sandbox: Any,
    presence: Presence,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for signalled, stopped, code in [(True, False, 75), (False, True, 0), (False, False, 0)]:
        study = sandbox.begin("one", trials=1, finalists=0)
        stop = Stop()
        stop.signalled = signalled
        stop_file(sandbox.home, "one").unlink(missing_ok=True)
        if stopped:
            stop_sweep("one", home=sandbox.home)
        worker = Worker(study, sandbox.runner, presence, Peers(presence.folder), stop)
        assert _work([worker], stop) == code
    assert all(trial.state.is_finished() for trial in study.trials())
    capsys.readouterr()
    stop_sweep("one", home=sandbox.home)
    assert capsys.readouterr().out == "one is done: nothing was left to stop\n"
    sandbox.begin("two", trials=1)
    monkeypatch.setattr(commands, "_page", lambda names, home: " ".join(names))
    assert commands.report(["two", "one"], sandbox.home) == 75
    first, *_, last = capsys.readouterr().out.splitlines()
    assert (first[:17], last) == ("not done yet: two", "one"), "what is done is reported"
    assert (study.folder / "trials.json").exists()


def test_how_long_what_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("LIGHTNING_SEP_LEASE_S", "LIGHTNING_SEP_WAIT_S"):
        monkeypatch.delenv(variable, raising=False)
    assert (patience_s(), wait_s()) == (15.0, 600.0)
    assert FileLock(tmp_path / "lock").grace_s == 60.0
    assert commands.GRACE_S == 60.0
    assert Patience().wait_s == 0.0
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", "0.5")
    monkeypatch.setenv("LIGHTNING_SEP_WAIT_S", "7")
    assert (patience_s(), wait_s()) == (0.5, 7.0)
