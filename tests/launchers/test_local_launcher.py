"""Workers as local processes: their environment, their restarts, their end."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.launchers import local
from lightning_sep.launchers.base import Assignment, worker_command
from lightning_sep.launchers.local import Local, Processes, _quota, gpus


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def started(
    launcher: Local, command: list[str], folder: Path, *, most: int, threads: int = 1
) -> Processes:
    return launcher.start(Assignment(["quick"], command, [folder], folder, most, threads))


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_workers_get_their_threads_before_they_start(tmp_path: Path) -> None:
    launcher = Local(workers=2)
    code = (
        "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'], "
        "os.environ['OMP_WAIT_POLICY'], os.environ['LIGHTNING_SEP_LAUNCHER_PID'], "
        "os.getsid(0) == os.getpid())"
    )
    crew = started(launcher, python(code), tmp_path, most=9, threads=3)
    assert crew.count == 2
    until(lambda: crew.poll() == 0)
    expected = f"3 3 passive {os.getpid()} True"  # Ctrl-C reaches the launcher alone
    for number in (0, 1):
        assert (tmp_path / f"worker-{number}.log").read_text().strip() == expected


def test_fault_30_threads_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    for workers in (1, 2, 3):
        launcher = Local(workers=workers)
        folder = tmp_path / str(workers)
        crew = started(launcher, python(code), folder, most=9)
        until(lambda crew=crew: crew.poll() == 0)
        assert {log.read_text().strip() for log in folder.iterdir()} == {"1"}


def test_cores_that_stay_idle_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_sep.launchers.local.cores", lambda: 8)
    launcher = Local(workers=2)
    crew = started(launcher, python("pass"), tmp_path, most=9, threads=3)
    idle = crew.idle()
    assert idle is not None
    assert idle.startswith("2 of 8 cores stay idle: a run takes trainer.threads=3")
    crew.terminate(5)
    launcher = Local()
    crew = started(launcher, python("pass"), tmp_path, most=9, threads=3)
    assert crew.count == 2
    crew.terminate(5)
    launcher = Local(workers=8)
    crew = started(launcher, python("pass"), tmp_path, most=9)
    assert crew.idle() is None
    crew.terminate(5)


def test_a_worker_has_as_many_cores_or_gpus_as_its_runs_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_sep.launchers.local.cores", lambda: 8)
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    work = Assignment(["quick"], python(code), [tmp_path], tmp_path, most=9, threads=2, devices=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Local().plan(work).startswith("2 x ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    crew = Local().start(work)
    until(lambda: crew.poll() == 0)
    logs = sorted(tmp_path.glob("worker-*.log"))
    assert [log.read_text().strip() for log in logs] == ["0,1", "2,3"]
    with pytest.raises(ConfigError, match=r"runs_per_gpu = 2: .* trainer.devices = 2"):
        Local(runs_per_gpu=2).plan(work)
    folder = tmp_path / "shared"
    crew = Local(runs_per_gpu=2).start(replace(work, devices=1, folders=[folder]))
    until(lambda: crew.poll() == 0)
    found = [(folder / f"worker-{n}.log").read_text().strip() for n in range(crew.count)]
    assert found == list("0123401234"[:9]), "nine runs are all there is"
    with pytest.raises(ConfigError, match=r"trainer.nodes = 2: .*launcher=slurm"):
        Local().plan(replace(work, nodes=2))


def test_there_are_no_more_workers_than_work(tmp_path: Path) -> None:
    launcher = Local(workers=4)
    crew = started(launcher, python("pass"), tmp_path, most=1)
    assert crew.count == 1
    crew.terminate(5)


def test_a_worker_that_dies_is_started_again_three_times(tmp_path: Path) -> None:
    launcher = Local(workers=1)
    code = "import os, signal; print('life', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    crew = started(launcher, python(code), tmp_path, most=1)
    until(lambda: crew.poll() == 0)
    assert (tmp_path / "worker-0.log").read_text().count("life") == 4
    ((code_, line),) = crew.troubles()
    assert code_ == -signal.SIGKILL
    assert "signal 9" in line


def test_deaths_before_progress_are_forgiven(tmp_path: Path) -> None:
    launcher = Local(workers=1)
    code = "import os, signal; print('life', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    crew = started(launcher, python(code), tmp_path, most=1)
    log = tmp_path / "worker-0.log"
    until(lambda: crew.poll() == 1 and log.read_text().count("life") == 3)
    crew.forgive()
    until(lambda: crew.poll() == 0)
    assert log.read_text().count("life") > 4


@pytest.mark.parametrize("code", [0, 2])
def test_a_worker_that_is_done_or_cannot_work_is_not_started_again(
    tmp_path: Path, code: int
) -> None:
    launcher = Local(workers=1)
    crew = started(launcher, python(f"print('life'); raise SystemExit({code})"), tmp_path, most=1)
    until(lambda: crew.poll() == 0)
    assert (tmp_path / "worker-0.log").read_text().count("life") == 1
    assert [one for one, _ in crew.troubles()] == ([2] if code else [])


def test_terminate_asks_first_and_kills_after_the_grace(tmp_path: Path) -> None:
    launcher = Local(workers=1)
    code = (
        "import signal, time; signal.signal(15, lambda *a: print('asked', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)"
    )
    crew = started(launcher, python(code), tmp_path, most=1)
    log = tmp_path / "worker-0.log"
    until(lambda: "ready" in log.read_text())
    began_s = time.monotonic()
    crew.terminate(0.5)
    assert 0.4 < time.monotonic() - began_s < 5
    assert "asked" in log.read_text()
    assert crew.poll() == 0


def test_terminate_in_a_hurry_does_not_wait(tmp_path: Path) -> None:
    launcher = Local(workers=1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True)\n"
    crew = started(launcher, python(code + "while True: time.sleep(1)"), tmp_path, most=1)
    until(lambda: "x" in (tmp_path / "worker-0.log").read_text())
    began_s = time.monotonic()
    crew.terminate(60, hurry=lambda: True)
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=r"^workers = "):
        Local(workers=workers)


@pytest.mark.parametrize(
    ("text", "granted"), [("max 100000", None), ("150000 100000", 1.5), ("garbage", None)]
)
def test_the_quota_of_a_control_group_bounds_the_cores(
    tmp_path: Path, text: str, granted: float | None
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert _quota(tmp_path) == granted


def test_gpus_are_counted_without_torch(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus({}, tmp_path) == ["0", "1"]
    assert gpus({"CUDA_VISIBLE_DEVICES": "3,5"}, tmp_path) == ["3", "5"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": " 3 ,, -1"}, tmp_path) == ["3"]


def test_one_worker_a_gpu_each_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    for workers, expected in [(None, ["3", "5"]), (3, ["3", "5", "3"])]:
        launcher, folder = Local(workers), tmp_path / str(workers)
        crew = started(launcher, python(code), folder, most=9)
        assert crew.count == len(expected)
        assert crew.idle() is None
        until(lambda crew=crew: crew.poll() == 0)
        logs = [folder / f"worker-{number}.log" for number in range(len(expected))]
        assert [log.read_text().strip() for log in logs] == expected


def test_an_older_control_groups_quota_counts_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, granted in [("250000", 2.5), ("-1", None), ("garbage", None)]:
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert _quota(tmp_path) == granted
    assert _quota(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("allowed", "granted", "expected"),
    [(4, None, 4), (4, 2.9, 2), (4, 9.0, 4), (4, 0.5, 1), (1, 3.0, 1)],
)
def test_cores_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, allowed: int, granted: float | None, expected: int
) -> None:
    monkeypatch.setattr(local, "_quota", lambda root: granted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)))
    assert local.cores() == expected


def test_the_last_line_of_a_log_says_why_a_worker_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert local.last_line(log) == "no log"
    log.write_text("\n  \n")
    assert local.last_line(log) == "no output"
    log.write_bytes(b"first\n  the reason \xff \n\n \n")
    assert local.last_line(log) == "the reason \ufffd"


def test_a_workers_command_names_its_sweeps() -> None:
    expected = [sys.executable, "-m", "lightning_sep", "worker", "a,b"]
    assert worker_command(["a", "b"]) == expected


def test_a_worker_that_hung_is_told_by_its_last_words_not_by_its_stacks(tmp_path: Path) -> None:
    code = (
        "import faulthandler, sys, time; print('took trial 3', flush=True); "
        "faulthandler.dump_traceback_later(0.1, exit=True, file=sys.stderr); time.sleep(60)"
    )
    launcher = Local(workers=1)
    crew = started(launcher, python(code), tmp_path, most=1)
    until(lambda: crew.poll() == 0)
    [(status, told)] = crew.troubles()
    assert status == 1
    assert told.startswith("Timeout (0:00:00.100000)! (log: ")
