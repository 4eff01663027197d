"""Kills, signals, frozen copies: nothing is lost, doubled or left running."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lightning_sep.fsio import PATIENCE
from lightning_sep.leases.presence import Peers, Presence
from lightning_sep.sweep import steer
from lightning_sep.sweep.finals import Finals
from lightning_sep.sweep.report import report
from lightning_sep.sweep.worker import WORK_LEFT, Stop, Worker
from tests.faults.harness import state

LONG = ["steps=25"]
SLOWLY = {"QUADRATIC_STEP_S": "0.03"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, quadratic: Any) -> dict[str, Any]:
    """The report of the same sweep when nothing happens to it."""
    import importlib.util

    path = Path(__file__).parent / "conftest.py"
    spec = importlib.util.spec_from_file_location("tests_sweep_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sandbox = module.Sandbox(tmp_path_factory.mktemp("undisturbed") / "runs", quadratic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(module.ROOT))
        patch.setenv("QUADRATIC_STEP_S", "0.001")
        assert sandbox.launch(sandbox.write(settings=LONG)) == 0
    return without_path(report(sandbox.open()))


def without_path(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "path"}


def test_fault_1_killed_workers_lose_nothing(
    sandbox: Any, undisturbed: dict[str, Any], wait_until: Any
) -> None:
    study = sandbox.begin(settings=LONG, attempts=50)
    generator = random.Random(1)
    slowest = {"QUADRATIC_STEP_S": "0.1"}
    workers = [sandbox.worker(**slowest) for _ in range(3)]
    wait_until(lambda: any(sandbox.home.glob("*/checkpoint.json")))
    for kill in range(24):
        time.sleep(generator.uniform(0.1, 0.4))
        assert not Finals(study).done(), f"done before kill {kill}: the sweep is too short"
        victim = kill % 3  # each lives for three kills, most of that beyond its imports
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = sandbox.worker(**slowest)
    for worker in workers:
        worker.kill()
        worker.wait()
    assert sandbox.worker().wait(60) == 0
    sandbox.check()
    assert without_path(report(sandbox.open())) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_fault_2_a_signal_saves_and_ends_the_worker(
    sandbox: Any, wait_until: Any, number: signal.Signals
) -> None:
    study = sandbox.begin(settings=["steps=400", "step_s=0.03"])
    worker = sandbox.worker()
    wait_until(lambda: any(sandbox.home.glob("*/checkpoint.json")))
    began_s = time.monotonic()
    worker.send_signal(number)
    assert worker.wait(10) == WORK_LEFT
    assert time.monotonic() - began_s < 5
    assert [trial.state for trial in study.trials()] == [TrialState.WAITING]
    assert not list((sandbox.home / "leases" / "workers").iterdir())


def test_fault_3_signals_in_the_middle_of_a_write_only_set_a_flag(
    sandbox: Any, undisturbed: dict[str, Any]
) -> None:
    study = sandbox.begin(settings=LONG)
    generator = random.Random(3)
    for _ in range(5):
        worker = sandbox.worker(**SLOWLY)
        time.sleep(generator.uniform(0.7, 1.0))
        for _ in range(50):
            if worker.poll() is None:
                worker.send_signal(generator.choice([signal.SIGTERM, signal.SIGUSR1]))
                time.sleep(0.001)
        # Before its handler is set, while it still imports, a signal simply ends the process.
        assert worker.wait(20) in (0, WORK_LEFT, -signal.SIGTERM, -signal.SIGUSR1)
    if not Finals(study).done():
        assert sandbox.worker().wait(60) == 0
    sandbox.check()
    assert without_path(report(sandbox.open())) == undisturbed


def test_fault_4_a_frozen_worker_that_wakes_up_writes_nothing_more(
    sandbox: Any, wait_until: Any
) -> None:
    sandbox.begin(trials=1, finalists=0, settings=["steps=30", "step_s=0.05"])
    frozen = sandbox.worker()
    wait_until(lambda: any(sandbox.home.glob("*/checkpoint.json")))
    frozen.send_signal(signal.SIGSTOP)
    heir = sandbox.worker()
    attempts = next(sandbox.home.glob("*/attempts.log"))
    wait_until(lambda: len(attempts.read_text().splitlines()) == 2)
    wait_until(lambda: len(sandbox.record(attempts.parent / "checkpoint.json")["epochs"]) > 12)
    reached = len(sandbox.record(attempts.parent / "checkpoint.json")["epochs"])
    frozen.send_signal(signal.SIGCONT)
    assert heir.wait(20) == 0
    assert frozen.wait(20) == 0
    sandbox.check()
    assert (attempts.parent / "records.log").read_text().split() == [str(heir.pid)]
    assert reached > 12
    assert "another worker has taken over" in (sandbox.home.parent / "worker-0.log").read_text()


def test_fault_6_a_kill_between_trained_and_told_tells_once(sandbox: Any) -> None:
    sandbox.begin(trials=1, finalists=0, settings=["fault=die_untold"])
    assert sandbox.worker().wait(20) == -signal.SIGKILL
    assert sandbox.open().trials()[0].state == TrialState.RUNNING
    assert sandbox.worker().wait(20) == 0
    sandbox.check()
    assert sandbox.open().trials()[0].state == TrialState.COMPLETE
    attempts = next(sandbox.home.glob("*/attempts.log"))
    assert len(attempts.read_text().splitlines()) == 1  # the record was used, not a second training


def test_fault_14_memory_is_tried_again_and_mistakes_are_not(sandbox: Any) -> None:
    body = (
        "yield f\"fault={trial.suggest_categorical('fault', "
        "['memory', 'always_memory', 'bug', 'diverge'])}\""
    )
    sandbox.begin(body=body, trials=4, finalists=0)
    assert sandbox.worker().wait(30) == WORK_LEFT  # a failure that no other process has repeated
    assert {t.state.name for t in sandbox.open().trials()} == {"COMPLETE", "FAIL", "WAITING"}
    assert sandbox.worker().wait(30) == 0
    sandbox.check()
    states = {t.params["fault"]: t.state.name for t in sandbox.open().trials()}
    assert states == {"memory": "COMPLETE", "always_memory": "FAIL", "bug": "FAIL"} | {
        "diverge": "FAIL"
    }
    counts = {
        t.params["fault"]: sum(
            len(path.read_text().splitlines())
            for path in sandbox.home.glob("*/attempts.log")
            if path.parent.name == run_of(sandbox, t)
        )
        for t in sandbox.open().trials()
    }
    assert counts == {"memory": 3, "always_memory": 3, "bug": 2, "diverge": 2}


def run_of(sandbox: Any, trial: Any) -> str:
    overrides = sandbox.open().definition.settings(trial.user_attrs["overrides"], 0)
    return str(sandbox.runner.prepare(overrides)[0])


def test_fault_17_a_setting_that_always_crashes_fails_and_the_sweep_goes_on(
    sandbox: Any,
) -> None:
    body = "yield f\"fault={trial.suggest_categorical('fault', ['none', 'abort'])}\""
    assert sandbox.launch(sandbox.write(body=body, finalists=1)) == 0
    sandbox.check()
    states = {t.params["fault"]: t.state.name for t in sandbox.open().trials()}
    assert states == {"none": "COMPLETE", "abort": "FAIL"}
    failed = next(t for t in sandbox.open().trials() if t.state == TrialState.FAIL)
    assert "died 3 times" in failed.user_attrs["reason"]


def test_a_sweep_that_is_killed_again_and_again_fails_none_of_its_trials(
    sandbox: Any, wait_until: Any
) -> None:
    path = sandbox.write(body="yield 'rate=0.3'", trials=1, finalists=0)
    sandbox.begin(body="yield 'rate=0.3'", trials=1, finalists=0)
    lease = sandbox.home / "sweeps" / "quick" / "leases" / "trial-0000.json"
    for _ in range(3):  # as many as make a setting fail under one launcher
        worker = sandbox.worker(QUADRATIC_STEP_S="30")
        wait_until(lambda pid=worker.pid: lease.exists() and str(pid) in lease.read_text())
        worker.kill()
        worker.wait()
    assert sandbox.launch(path, workers=1) == 0
    assert [trial.state for trial in sandbox.open().trials()] == [TrialState.COMPLETE]


def test_fault_29_a_worker_whose_lock_was_broken_within_a_claim_claims_anew(
    sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a long stop far away: somebody else has broken the lock and let go of it again."""
    study = sandbox.begin(trials=1, finalists=0)
    append = study.journal.append_logs

    def broken(logs: Any) -> None:
        study.lock.path.unlink()
        monkeypatch.setattr(study.journal, "append_logs", append)
        append(logs)

    workers = sandbox.home / "leases" / "workers"
    with Presence(workers, patience_s=15.0) as presence:
        worker = Worker(study, sandbox.runner, presence, Peers(workers), Stop())
        monkeypatch.setattr(study.journal, "append_logs", broken)
        assert worker.step() == "worked"
        assert study.trials() == []
        assert worker.step() == "worked"
        assert worker.step() == "done"
    assert [trial.state for trial in sandbox.open().trials()] == [TrialState.COMPLETE]
    sandbox.check()


def test_fault_21_duplicates_share_one_run_and_count_once_each(sandbox: Any) -> None:
    body = "trial.suggest_float('unused', 0, 1)\n    yield 'rate=0.3'"
    sandbox.begin(body=body, trials=8, finalists=2, final_seeds=2, settings=["step_s=0.1"])
    workers = [sandbox.worker() for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    sandbox.check()
    trials = sandbox.open().trials()
    assert len(trials) == 8
    assert len({t.user_attrs["runs"][0] for t in trials}) == 1
    assert len(list(sandbox.home.glob("*/record.json"))) == 1 + 2  # and one finalist's two seeds


def test_fault_22_after_all_workers_died_one_goes_on(
    sandbox: Any, undisturbed: dict[str, Any], wait_until: Any
) -> None:
    sandbox.begin(settings=LONG)
    workers = [sandbox.worker(**SLOWLY) for _ in range(3)]
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 3)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.wait()
    assert sandbox.worker().wait(60) == 0
    sandbox.check()
    assert without_path(report(sandbox.open())) == undisturbed


def test_a_launcher_killed_with_its_workers_is_resumed_by_the_same_command(
    sandbox: Any, undisturbed: dict[str, Any], wait_until: Any
) -> None:
    path = sandbox.write(settings=LONG)
    launcher = start_launcher(sandbox, path)
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 3)
    for pid in [launcher.pid, *children(launcher.pid)]:
        os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert sandbox.launch(path) == 0
    sandbox.check()
    assert without_path(report(sandbox.open())) == undisturbed


def test_workers_whose_launcher_was_killed_save_and_end(sandbox: Any, wait_until: Any) -> None:
    path = sandbox.write(settings=["steps=400", "step_s=0.03"])
    launcher = start_launcher(sandbox, path)
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 2)
    workers = children(launcher.pid)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: all(state(pid) in "ZX" for pid in workers), 10)
    assert {t.state for t in sandbox.open().trials()} == {TrialState.WAITING}


def test_fault_24_a_stopped_sweep_is_not_begun_again_by_dying_workers(
    sandbox: Any, wait_until: Any
) -> None:
    path = sandbox.write(settings=["steps=400", "step_s=0.03"])
    launcher = start_launcher(sandbox, path)
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 2)
    steer.stop("quick", sandbox.home)
    for pid in children(launcher.pid):
        os.kill(pid, signal.SIGKILL)  # restarted by the launcher, they find the stop
    assert launcher.wait(20) == 1
    assert len(sandbox.open().trials()) == 2


def test_fault_27_the_one_command_waits_for_a_home_that_is_away(
    sandbox: Any, wait_until: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sandbox.write(settings=["steps=40", "step_s=0.05"], trials=2, finalists=0)
    away = sandbox.home.with_name("away")
    anew = []

    def take_away() -> None:
        wait_until(lambda: any(sandbox.home.glob("*/checkpoint.json")))
        sandbox.home.rename(away)
        time.sleep(1.5)
        anew.extend(sandbox.home.glob("*"))
        away.rename(sandbox.home)

    taker = threading.Thread(target=take_away)
    taker.start()
    try:
        assert sandbox.launch(path) == 0
    finally:
        taker.join()
    assert anew == []
    assert "the disk is waited for" in capsys.readouterr().err
    assert PATIENCE.wait_s == 0.0, "only as long as its workers do"
    assert [trial.state for trial in sandbox.open().trials()] == [TrialState.COMPLETE] * 2


def test_interrupting_the_launcher_saves_and_exits_130(sandbox: Any, wait_until: Any) -> None:
    path = sandbox.write(settings=["steps=400", "step_s=0.03"])
    launcher = start_launcher(sandbox, path)
    wait_until(lambda: len(list(sandbox.home.glob("*/checkpoint.json"))) >= 2)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(20) == 130
    assert {t.state for t in sandbox.open().trials()} == {TrialState.WAITING}


def start_launcher(sandbox: Any, path: Path) -> subprocess.Popen[bytes]:
    """The launch command in a process of its own."""
    script = (
        "import importlib.util, sys\n"
        "from pathlib import Path\n"
        "from lightning_sep.errors import LightningSepError\n"
        f"spec = importlib.util.spec_from_file_location('conf', {str(CONFTEST)!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"spec = importlib.util.spec_from_file_location('quad', {str(QUADRATIC)!r})\n"
        "quadratic = importlib.util.module_from_spec(spec); spec.loader.exec_module(quadratic)\n"
        f"sandbox = module.Sandbox(Path({str(sandbox.home)!r}), quadratic)\n"
        "try:\n"
        f"    sys.exit(sandbox.launch(Path({str(path)!r})))\n"
        "except LightningSepError as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | SLOWLY)
    sandbox.processes.append(process)
    return process


CONFTEST = Path(__file__).parent / "conftest.py"
QUADRATIC = Path(__file__).parent / "quadratic.py"


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
