"""A worker within this process: what it asks, how it waits, and what it says of itself."""

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lightning_sep.errors import ConfigError, Interrupted, LeaseLost
from lightning_sep.fsio import PATIENCE
from lightning_sep.leases.presence import Peers, Presence
from lightning_sep.sweep import worker as module
from lightning_sep.sweep.definition import load_sweep
from lightning_sep.sweep.finals import finalists
from lightning_sep.sweep.folder import create, open_sweep
from lightning_sep.sweep.names import trial_key
from lightning_sep.sweep.report import status
from lightning_sep.sweep.runner import Outcome
from lightning_sep.sweep.work import FinalWork
from lightning_sep.sweep.worker import Stop, Worker, wait_s

FULL = OSError(errno.ENOSPC, "No space left on device")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s
        self.slept.append(time_s)

    def strftime(self, form: str) -> str:
        return "12:00:00"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def presence(sandbox: Any) -> Iterator[Presence]:
    with Presence(sandbox.home / "leases" / "workers", patience_s=15.0) as made:
        yield made


def a_worker(sandbox: Any, presence: Presence, **fields: Any) -> Worker:
    study = sandbox.begin(**{"trials": 1, "finalists": 0, **fields})
    return Worker(study, sandbox.runner, presence, Peers(presence.folder), Stop())


def note(presence: Presence) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(presence.note.read_text())
    return found


def test_the_disk_is_asked_twice_a_second_whether_to_stop(
    sandbox: Any, presence: Presence, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    asked = []
    study = type(worker.study)
    monkeypatch.setattr(
        study, "stopping", property(lambda self: asked.append(clock.now_s) or len(asked) > 3)
    )
    answers = []
    for _ in range(40):
        answers.append(worker.stopping())
        clock.now_s += 0.2
    assert asked == pytest.approx([1000.0, 1000.6, 1001.2, 1001.8])
    assert answers == [False] * 9 + [True] * 31, "once asked to stop, it stays so"


def test_a_full_disk_in_a_claim_is_waited_for_with_growing_pauses_and_told(
    sandbox: Any, presence: Presence, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    claim, began_s, told = worker.study.claim, clock.now_s, []

    def full(leases: object) -> None:
        raise FULL

    monkeypatch.setattr(PATIENCE, "wait_s", 300.0)
    monkeypatch.setattr(worker.study, "claim", full)
    sleep = clock.sleep

    def look(time_s: float) -> None:
        told.append(note(presence)["waits_for"])
        sleep(time_s)

    monkeypatch.setattr(clock, "sleep", look)
    waited = []
    for _ in range(9):
        before_s = clock.now_s
        assert worker.step() == "worked"
        waited.append(clock.now_s - before_s)
    assert waited == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30], abs=0.11)
    assert set(told) == {"OSError: [Errno 28] No space left on device"}
    assert note(presence)["waits_for"] is None
    clock.now_s = began_s + 301
    with pytest.raises(OSError, match="No space left"):
        worker.step()
    monkeypatch.setattr(worker.study, "claim", claim)
    assert worker.step() == "worked"
    assert [trial.state for trial in worker.study.trials()] == [TrialState.COMPLETE]
    assert worker._silent_since_s is None, "the next time is counted anew"


def test_what_is_waited_for_below_a_run_is_told_too(
    presence: Presence, capsys: pytest.CaptureFixture[str]
) -> None:
    module._waits(presence, "Stale file handle: record.json")
    assert note(presence)["waits_for"] == "Stale file handle: record.json"
    module._waits(presence, None)
    assert note(presence)["waits_for"] is None
    module._waits(None, "no home yet")
    said = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        f"the disk is waited for: {what}"
        for what in ("Stale file handle: record.json", "no home yet")
    ]


def test_a_run_that_meets_a_full_disk_is_given_back_and_counts_no_crash(
    sandbox: Any, presence: Presence, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    run = sandbox.runner.run

    def full(prepared: object, errand: object) -> Outcome:
        raise FULL

    monkeypatch.setattr(PATIENCE, "wait_s", 300.0)
    monkeypatch.setattr(sandbox.runner, "run", full)
    assert worker.step() == "worked"
    assert [trial.state for trial in worker.study.trials()] == [TrialState.WAITING]
    [lease] = (worker.study.folder / "leases").glob("*.json")
    content = json.loads(lease.read_text())
    assert (content["token"], content["crashes"]) == ("", 0)
    assert note(presence)["tokens"] == []
    monkeypatch.setattr(sandbox.runner, "run", run)
    assert worker.step() == "worked"
    assert [trial.state for trial in worker.study.trials()] == [TrialState.COMPLETE]


def test_the_run_of_a_trial_is_on_the_disk_before_it_begins(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence, repeats=2)
    seen = []
    run = sandbox.runner.run

    def look(prepared: Any, errand: Any) -> Outcome:
        [lease] = (worker.study.folder / "leases").glob("*.json")
        seen.append((json.loads(lease.read_text())["about"], prepared[0]))
        return run(prepared, errand)

    monkeypatch.setattr(sandbox.runner, "run", look)
    worker.step()
    assert [about for about, _ in seen] == [
        {"run": run_id, "seed": seed} for seed, (_, run_id) in enumerate(seen)
    ]
    assert len({run_id for _, run_id in seen}) == 2


def test_who_waits_for_anothers_run_ends_when_it_is_asked_to(
    sandbox: Any, presence: Presence, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    waited = []

    def busy(prepared: Any, errand: Any) -> Outcome:
        while True:
            waited.append(clock.now_s)
            if len(waited) == 3:
                worker.stop.signalled = True
            errand.busy(None)

    monkeypatch.setattr(sandbox.runner, "run", busy)
    assert worker.step() == "stopped"
    assert len(waited) == 3
    assert [trial.state for trial in worker.study.trials()] == [TrialState.WAITING]


def test_a_later_repeat_is_further_than_any_step_of_an_earlier_one(
    sandbox: Any, presence: Presence
) -> None:
    worker = a_worker(sandbox, presence)
    (sandbox.home / "abc").mkdir()
    (sandbox.home / "abc" / "checkpoint.json").write_text('{"epochs": [0, 1, 2]}')
    marks = [worker._progress({"run": run, "seed": seed}) for run, seed in [("abc", 0), ("x", 1)]]
    assert marks == [[0, 3], [1, 0]]
    assert [worker._progress(about) for about in ({}, {"run": "abc"}, {"seed": 1})] == [None] * 3


def test_a_run_that_would_end_the_process_fails_like_any_other(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = a_worker(sandbox, presence)
    monkeypatch.setattr(sandbox.runner, "run", raising(sandbox.runner, SystemExit(3)))
    assert [first.step(), first.step()] == ["worked", "left"]
    second, its = other_worker(first)
    assert [second.step(), second.step()] == ["worked", "done"]
    its.stop()
    [trial] = second.study.trials()
    reason = "RuntimeError: the run ended the process with 3"
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, reason)


def test_a_run_asks_before_each_write_whether_its_trial_was_taken_over(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence, finalists=1, final_seeds=1)
    seen = []
    run = sandbox.runner.run

    def look(prepared: Any, errand: Any) -> Outcome:
        errand.guard()
        [path] = (worker.study.folder / "leases").glob("*.json")
        whole = path.read_text()
        path.write_text(json.dumps(json.loads(whole) | {"token": "another's"}))
        for ask in (errand.guard, lambda: errand.report(0, 1.0)):
            with pytest.raises(LeaseLost):
                ask()
        path.write_text(whole)
        assert errand.presence is presence
        seen.append((errand.purpose, errand.trial, errand.sweep))
        return run(prepared, errand)

    monkeypatch.setattr(sandbox.runner, "run", look)
    assert [worker.step(), worker.step()] == ["worked", "worked"]
    assert seen == [("search", 0, "quick"), ("final", 0, "quick")]


def test_a_run_that_is_refused_is_given_back_and_ends_the_worker(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    monkeypatch.setattr(sandbox.runner, "run", raising(sandbox.runner, ConfigError("no such")))
    with pytest.raises(ConfigError, match="no such"):
        worker.step()
    assert [trial.state for trial in worker.study.trials()] == [TrialState.WAITING]
    assert note(presence)["tokens"] == []
    assert why_it_waits(worker) == "ConfigError: no such"
    monkeypatch.setattr(sandbox.runner, "run", raising(sandbox.runner, Interrupted("asked")))
    assert worker.step() == "stopped"
    assert why_it_waits(worker).startswith("stopped; "), "it was not refused the last time"


def why_it_waits(worker: Worker) -> str:
    [one] = status(worker.study)["waiting"]
    return str(one["reason"])


def test_a_job_too_short_for_any_step_is_told(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence)
    saved = [0]  # step of the newest checkpoint

    def until(step: int) -> Any:
        def run(prepared: object, errand: object) -> Outcome:
            saved[0] = step
            raise Interrupted("asked")

        return run

    monkeypatch.setattr(sandbox.runner, "reached", lambda run: saved[0])
    for late, step, short in [(1, 0, True), (1, 7, False), (1, 7, True), (0, 7, False)]:
        monkeypatch.setattr(Stop, "late", bool(late))
        monkeypatch.setattr(sandbox.runner, "run", until(step))
        assert worker.step() == "stopped"
        assert ("raise launcher.time_min" in why_it_waits(worker)) == short, (late, step)


@pytest.mark.parametrize("error", [Interrupted("asked"), LeaseLost("taken over")])
def test_what_is_not_done_to_its_end_is_no_result(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    worker = a_worker(sandbox, presence)

    def ended(prepared: object, errand: object) -> Outcome:
        raise error

    given_back: list[bool] = []
    monkeypatch.setattr(module, "give_memory_back", lambda: given_back.append(True))
    monkeypatch.setattr(sandbox.runner, "run", ended)
    assert worker.step() == ("stopped" if isinstance(error, Interrupted) else "worked")
    assert given_back, "the next run begins without this one's memory"
    assert not any(trial.state.is_finished() for trial in worker.study.trials())
    assert note(presence)["tokens"] == [], "others may take it at once"


BOTH = "yield f\"rate={trial.suggest_categorical('rate', [0.1, 0.3])}\""


def raising(runner: Any, error: BaseException, where: str = "") -> Any:
    """A runner's ``run`` that raises, for all settings or for those that say ``where``."""
    run = runner.run

    def ended(prepared: Any, errand: Any) -> Outcome:
        if where in " ".join(prepared[1]):
            raise error
        return run(prepared, errand)

    return ended


def other_worker(worker: Worker) -> tuple[Worker, Presence]:
    """As another process would open the sweep."""
    presence = Presence(worker.presence.folder, patience_s=15.0).start()
    study = open_sweep(worker.study.home, "quick")
    return Worker(study, worker.runner, presence, Peers(presence.folder), Stop()), presence


def test_fault_28_a_broken_process_ends_and_only_what_another_repeats_counts(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = RuntimeError("CUDA error: uncorrectable ECC error encountered")
    first = a_worker(sandbox, presence, body=BOTH, trials=2)
    with monkeypatch.context() as all_fails:
        all_fails.setattr(sandbox.runner, "run", raising(sandbox.runner, broken))
        assert module._work([first], Stop()) == module.WORK_LEFT
    assert [trial.state for trial in first.study.trials()] == [TrialState.WAITING]
    harmful = " ".join(first.study.trials()[0].user_attrs["overrides"])
    second, its = other_worker(first)
    with monkeypatch.context() as one_fails:
        one_fails.setattr(sandbox.runner, "run", raising(sandbox.runner, broken, harmful))
        assert [second.step(), second.step()] == ["worked", "broken"]
    its.stop()
    third, its = other_worker(first)
    assert module._work([third], Stop()) == 0
    its.stop()
    trials = third.study.trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[0].user_attrs["reason"] == f"RuntimeError: {broken}"


def test_fault_14_a_mistake_is_tried_again_by_another_process_alone(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = a_worker(sandbox, presence)
    monkeypatch.setattr(sandbox.runner, "run", raising(sandbox.runner, ZeroDivisionError("no")))
    assert [first.step(), first.step()] == ["worked", "left"]
    assert [trial.state for trial in first.study.trials()] == [TrialState.WAITING]
    second, its = other_worker(first)
    assert [second.step(), second.step()] == ["worked", "done"]
    its.stop()
    [trial] = second.study.trials()
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "ZeroDivisionError: no")


def test_fault_14_memory_is_tried_as_often_as_the_sweep_says(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence, attempts=3)
    monkeypatch.setattr(sandbox.runner, "run", raising(sandbox.runner, MemoryError("no room")))
    assert [worker.step() for _ in range(4)] == ["worked"] * 3 + ["done"]
    [trial] = worker.study.trials()
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "MemoryError: no room")


def test_fault_14_a_final_without_memory_is_tried_as_often(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence, attempts=2, finalists=1, final_seeds=1)
    no_room = raising(sandbox.runner, MemoryError("no room"), "seed=1000")
    monkeypatch.setattr(sandbox.runner, "run", no_room)
    assert [worker.step() for _ in range(4)] == ["worked"] * 3 + ["done"]
    [final] = worker.finals.results().values()
    assert (final["state"], final["reason"]) == ("failed", "MemoryError: no room")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_fails_its_setting(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    worker = a_worker(sandbox, presence, repeats=2)
    run = sandbox.runner.run

    def second_diverges(prepared: Any, errand: Any) -> Outcome:
        outcome = run(prepared, errand)
        return replace(outcome, value=value) if "seed=1" in prepared[1] else outcome

    monkeypatch.setattr(sandbox.runner, "run", second_diverges)
    assert worker.step() == "worked"
    [trial] = worker.study.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == f"val/value is {value} with seed 1"
    assert len(trial.user_attrs["runs"]) == 2


def pruning(sandbox: Any, presence: Presence, upper: float, **fields: Any) -> Worker:
    path = sandbox.write(trials=1, finalists=0, repeats=2, pruner="PRUNER", **fields)
    text = path.read_text()
    path.write_text(text.replace("'PRUNER'", f"optuna.pruners.ThresholdPruner(upper={upper})"))
    path.write_text("import optuna\n" + path.read_text())
    study = create(sandbox.home, load_sweep(path))
    return Worker(study, sandbox.runner, presence, Peers(presence.folder), Stop())


def test_the_first_repeat_alone_reports_to_the_pruner_each_epoch_once(
    sandbox: Any, presence: Presence
) -> None:
    worker = pruning(sandbox, presence, upper=9.0, body="yield 'rate=0.2'")
    assert worker.step() == "worked"
    [trial] = worker.study.trials()
    runs = [sandbox.record(sandbox.home / run / "record.json") for run in trial.user_attrs["runs"]]
    assert trial.state == TrialState.COMPLETE
    assert trial.intermediate_values == dict(enumerate(runs[0]["values"]))
    assert runs[0]["values"] != runs[1]["values"]
    assert trial.value == pytest.approx((runs[0]["value"] + runs[1]["value"]) / 2, rel=1e-15)


def test_a_trial_that_is_pruned_is_not_repeated(sandbox: Any, presence: Presence) -> None:
    worker = pruning(sandbox, presence, upper=0.1, body="yield 'rate=0.01'")
    assert worker.step() == "worked"
    [trial] = worker.study.trials()
    assert trial.state == TrialState.PRUNED
    assert len(trial.user_attrs["runs"]) == 1
    assert list(trial.intermediate_values) == [0]
    assert trial.value is not None, "Optuna keeps the last one that was reported"
    asked = replace(worker.study.definition, sweep=replace(worker.sweep, finalists=2))
    assert finalists(asked, [trial]) == []


def test_what_is_no_number_is_not_reported_and_prunes_nothing(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = pruning(sandbox, presence, upper=0.1, body="yield 'rate=0.3'")
    told = []

    def odd(prepared: Any, errand: Any) -> Outcome:
        told.extend(errand.report(epoch, value) for epoch, value in enumerate([math.nan, 0.05]))
        told.append(errand.report(1, 0.05))  # once more, as after a checkpoint
        told.append(errand.report(2, 7.0))
        return Outcome(prepared[0], "finished", 0.5)

    monkeypatch.setattr(sandbox.runner, "run", odd)
    assert worker.step() == "worked"
    [trial] = worker.study.trials()
    assert told == [False, False, False, True] + [False] * 4, "the second repeat is only told"
    assert trial.intermediate_values == {1: 0.05, 2: 7.0}


def test_a_final_that_fails_in_two_processes_has_failed(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = a_worker(sandbox, presence, finalists=1, final_seeds=2)
    seed = first.sweep.fresh_seeds[0]
    assert first.step() == "worked"
    failing = raising(sandbox.runner, ZeroDivisionError("no"), f"seed={seed}")
    monkeypatch.setattr(sandbox.runner, "run", failing)
    assert [first.step() for _ in range(3)] == ["worked", "worked", "left"]
    second, its = other_worker(first)
    assert [second.step(), second.step()] == ["worked", "done"]
    its.stop()
    results = second.finals.results()
    assert sorted(one["state"] for one in results.values()) == ["failed", "finished"]
    [failed] = [one for one in results.values() if one["state"] == "failed"]
    assert (failed["seed"], failed["run_id"], failed["value"]) == (seed, None, None)
    assert failed["reason"] == "ZeroDivisionError: no"
    [good] = [one for one in results.values() if one["state"] == "finished"]
    assert good["value"] == sandbox.record(sandbox.home / good["run_id"] / "record.json")["value"]
    assert not list((second.study.folder / "leases").iterdir())


class Waiting:
    """A worker for whom nothing is left but to wait; and what it says after its steps."""

    name = "quick"

    def __init__(self, clock: Clock, states: list[str]) -> None:
        self.clock, self.states = clock, states
        self.polled_s: list[float] = []

    def step(self) -> str:
        self.polled_s.append(self.clock.now_s)
        return self.states.pop(0)


def test_a_worker_that_had_work_polls_often_again(clock: Clock) -> None:
    states = ["waiting"] * 5 + ["worked"] + ["waiting"] * 2 + ["stopped"]
    waiting = Waiting(clock, states)
    assert module._work([waiting], Stop()) == 0  # type: ignore[list-item]
    pauses = [b - a for a, b in zip(waiting.polled_s, waiting.polled_s[1:], strict=False)]
    wanted = [0.25, 0.375, 0.5625, 0.84375, 1.265625, 0.0, 0.25, 0.375]
    assert pauses == pytest.approx(wanted, abs=0.26)
    assert pauses[6] == pytest.approx(0.25, abs=0.01)


def test_a_worker_without_work_polls_with_growing_pauses(clock: Clock) -> None:
    waiting = Waiting(clock, ["waiting"] * 13 + ["stopped"])
    assert module._work([waiting], Stop()) == 0  # type: ignore[list-item]
    pauses = [b - a for a, b in zip(waiting.polled_s, waiting.polled_s[1:], strict=False)]
    wanted = [min(10.0, 0.25 * 1.5**power) for power in range(13)]
    assert pauses == pytest.approx(wanted, abs=0.26)
    assert max(clock.slept) <= 0.25, "a signal is answered at once"


@pytest.mark.parametrize("text", ["0", "soon", "-3"])
def test_a_time_to_wait_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_WAIT_S", text)
    with pytest.raises(ConfigError, match=f"LIGHTNING_SEP_WAIT_S = '{text}'"):
        wait_s()


def test_a_launchers_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_LAUNCHER_PID", "x")
    with pytest.raises(ConfigError, match="LIGHTNING_SEP_LAUNCHER_PID = 'x'"):
        Stop()


def test_a_final_that_is_interrupted_counts_no_crash_and_one_that_is_lost_says_so(
    sandbox: Any, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(sandbox, presence, finalists=1, final_seeds=1)
    assert worker.step() == "worked"
    with monkeypatch.context() as patch:
        patch.setattr(sandbox.runner, "run", raising(sandbox.runner, Interrupted("asked")))
        assert worker.step() == "stopped"
    [path] = (worker.study.folder / "leases").glob("final-*.json")
    content = json.loads(path.read_text())
    assert (content["token"], content["crashes"]) == ("", 0)
    work = worker._claim()
    assert isinstance(work, FinalWork)
    assert work.report(0, 0, 1.0) is False
    work.lease.drop()
    other, its = other_worker(worker)
    assert other._claim() is not None
    result = [Outcome("x", "finished", -9.0)]
    for action in (
        lambda: work.report(0, 1, 1.0),
        work.give_back,
        lambda: work.finish(result, None),
    ):
        with pytest.raises(LeaseLost):
            action()
    its.stop()
    assert worker.step() == "worked"
    [final] = worker.finals.results().values()
    assert (final["state"], final["value"] >= 0) == ("finished", True)


def test_a_trial_that_another_has_taken_over_is_told_by_him(
    sandbox: Any, presence: Presence
) -> None:
    worker = a_worker(sandbox, presence)
    work = worker._claim()
    assert work is not None
    work.lease.drop()
    other, its = other_worker(worker)
    taken = other._claim()
    assert taken is not None
    for action in (work.give_back, lambda: work.finish([Outcome("x", "finished", 1.0)], None)):
        with pytest.raises(LeaseLost):
            action()
        assert [trial.state for trial in worker.study.trials()] == [TrialState.RUNNING]
    taken.finish([Outcome("y", "finished", 2.0)], None)
    its.stop()
    [trial] = worker.study.trials()
    assert (trial.value, trial.user_attrs["runs"]) == (2.0, ["y"])


FAILS = """
import sys
from lightning_sep.errors import StorageError
from lightning_sep.sweep import worker

def fail(home, name):
    error = OSError({number}, "it fails")
    if {told}:
        raise StorageError("the disk refuses") from error
    raise error

worker.open_sweep = fail
sys.exit(worker.main("quick"))
"""


@pytest.mark.parametrize(
    ("number", "told", "code"),
    [
        (errno.ESTALE, False, 75),
        (errno.ENOSPC, True, 75),
        (errno.EACCES, True, 2),
        (errno.ELOOP, False, 1),
    ],
)
def test_how_a_worker_ends_says_whether_work_is_left(
    tmp_path: Path, number: int, told: bool, code: int
) -> None:
    environment = os.environ | {"LIGHTNING_SEP_HOME": str(tmp_path)}
    command = [sys.executable, "-c", FAILS.format(number=number, told=told)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == code, done.stderr.decode()
    assert (b"Traceback" in done.stderr) is (code == 1)


def test_a_sweep_that_is_not_there_ends_a_worker_with_2(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs").mkdir()
    code = "import sys; from lightning_sep.sweep.worker import main; sys.exit(main('none', None))"
    environment = os.environ | {"LIGHTNING_SEP_HOME": str(tmp_path / "runs")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 2
    assert b"no sweep 'none'" in done.stderr


@pytest.mark.parametrize(
    ("launched", "code", "said"),
    [
        (False, 2, b"runs is not there, so it holds no sweep: LIGHTNING_SEP_HOME"),
        (True, 75, b"the disk is waited for: No such file or directory"),
    ],
)
def test_fault_27_only_a_home_that_a_launcher_has_seen_is_waited_for(
    tmp_path: Path, launched: bool, code: int, said: bytes
) -> None:
    """One that was typed wrong by hand is refused at once, although a disk may take a while."""
    command = "import sys; from lightning_sep.sweep.worker import main; sys.exit(main('none'))"
    environment = os.environ | {"LIGHTNING_SEP_HOME": str(tmp_path / "runs")}
    if launched:
        environment |= {"LIGHTNING_SEP_LAUNCHER_PID": str(os.getpid())}
        environment |= {"LIGHTNING_SEP_WAIT_S": "0.2"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True)
    assert done.returncode == code, done.stderr.decode()
    assert said in done.stderr
    assert (b"waited for" in done.stderr) is launched


def test_a_trial_that_another_has_begun_and_lost_the_line_of_is_left_to_him(
    sandbox: Any, presence: Presence
) -> None:
    """He holds its lease: nobody begins the same number beside him."""
    with Presence(presence.folder, patience_s=15.0) as other:
        one = a_worker(sandbox, other, trials=2)
        lease = one.leases.claim(trial_key(0))
        assert lease is not None
        worker = Worker(one.study, sandbox.runner, presence, Peers(presence.folder), Stop())
        assert worker.study.claim(worker.leases) is None
        assert worker.study.trials() == []
        lease.finish()
        claimed = worker.study.claim(worker.leases)
        assert claimed is not None
        assert claimed.trial.number == 0
