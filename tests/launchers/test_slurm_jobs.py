"""What Slurm's answers mean, and when a worker's time is up; a cluster is asked in tests/slurm."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_sep.errors import ConfigError
from lightning_sep.launchers import slurm_jobs
from lightning_sep.launchers.base import Assignment
from lightning_sep.launchers.slurm import Slurm
from lightning_sep.launchers.slurm_jobs import Array, Jobs, Queue, asked
from lightning_sep.launchers.slurm_words import too_many
from lightning_sep.sweep import status, time_limit
from lightning_sep.sweep.time_limit import TimeLimit

# As `squeue --noheader --format=%F|%K|%T|%r|%N|%j` prints them (Slurm 22.05, and 24.11 beside it
# where it says something else).
LINES = """\
12|6-9,12%4|PENDING|JobArrayTaskLimit||lightning-sep-a-1
12|5|REQUEUE_HOLD|JobHoldMaxRequeue||lightning-sep-a-1
12|0|RUNNING|None|n1|lightning-sep-a-1
12|2|COMPLETING|None|n3|lightning-sep-a-1
"""


def queue(text: str) -> Queue:
    return Queue(tuple(slurm_jobs._task(line) for line in text.splitlines()))


def test_a_queue_is_counted_task_by_task() -> None:
    found = queue(LINES)
    assert [task.count for task in found.tasks] == [5, 1, 1, 1]
    assert [task.nodes for task in found.running] == ["n1", "n3"]
    assert [task.held for task in found.tasks] == [False, True, False, False]
    assert found.workers == 4  # its bound
    assert found.as_json()["waiting"] == 6
    line = found.line()
    assert line.startswith("job 12: 2 run on n1, n3, 5 wait (JobArrayTaskLimit: ")
    assert "1 wait (JobHoldMaxRequeue: held: it was requeued too often" in line


def test_what_is_held_among_those_that_wait_together_is_named() -> None:
    found = queue("12|0,2-5%2|PENDING|JobArrayTaskLimit,JobHeldUser||x\n12|1|RUNNING|None|n1|x")
    assert found.workers == 2
    line = found.line()
    assert "5 wait (JobArrayTaskLimit: as many as are wanted" in line
    assert "; JobHeldUser: held by its user" in line
    newer = "launch failure limit exceeded requeued held"
    assert f"1 wait ({newer}: JobHoldMaxRequeue: held: it was requeued too often" in (
        queue(f"12|3|REQUEUE_HOLD|{newer}||x").line()
    )
    assert "1 wait (ReqNodeNotAvail, UnavailableNodes:n1: the nodes" in (
        queue("12|3|PENDING|ReqNodeNotAvail, UnavailableNodes:n1||x").line()
    )


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("QOSMaxJobsPerUserLimit", "what the QOS gives of jobs at once is taken: it goes on when"),
        ("AssocGrpGRES", "what the account gives of GPUs at once is taken: .* less launcher.gpus"),
        ("MaxCpuPerAccount", "what the QOS gives of cores at once is taken"),
        ("AssocGrpCPUMinutesLimit", "budget of the account is used up.* lower launcher.time_min"),
        ("QOSGrpGRESRunMinutes", "what runs may use all that the QOS gives at a time"),
        ("QOSMaxWallDurationPerJobLimit", "more than the QOS gives of time: lower launcher.time_m"),
        ("AssocMaxCpuMinutesPerJobLimit", "more than the account gives of cores: lower .*time_min"),
        ("QOSMaxMemoryPerNode", "more than the QOS gives of memory: lower launcher.memory_gb"),
        ("QOSMinGRES", "a task asks for less than the QOS wants of GPUs: raise launcher.gpus"),
        ("AssocGrpSubmitJobsLimit", "the account takes no more jobs for now"),
        ("AssocGrpBilling", "what the account gives of resources at once is taken"),
    ],
)
def test_each_limit_of_accounts_is_told_in_words(limit: str, words: str) -> None:
    assert re.search(words, queue(f"12|3|PENDING|{limit}||x").line())
    refusal = f"{limit}; Job violates accounting/QOS policy (job submit limit, user's size and/or t"
    assert too_many(refusal) == ("Submit" in limit), "fewer tasks help"


def test_a_worker_whose_runs_train_on_several_devices_is_a_step_of_as_many_tasks(
    tmp_path: Path,
) -> None:
    work = Assignment(["a"], ["work"], [tmp_path], tmp_path, most=9, threads=3)
    alone = Slurm(gpus=1).plan(work)
    assert "--ntasks=1\n" in alone
    assert "srun" not in alone
    assert "; kill -TERM" in alone
    several = replace(work, devices=4, nodes=2)
    lines = Slurm(gpus=4).plan(several).splitlines()
    tasks = "--ntasks=8 --nodes=2 --ntasks-per-node=4 --cpus-per-task=3"
    for wanted in (*tasks.split(), "--gres=gpu:4"):
        assert f"#SBATCH {wanted}" in lines
    assert f"    srun --kill-on-bad-exit=1 --export=ALL {tasks} work &" in lines
    assert not any("kill -TERM" in line for line in lines), "srun would kill its tasks"
    with pytest.raises(ConfigError, match=r"launcher.gpus = 3: .* trainer.devices = 4"):
        Slurm(gpus=3).plan(several)
    with pytest.raises(ConfigError, match=r"runs_per_gpu = 2: .* trainer.devices = 4"):
        Slurm(gpus=4, runs_per_gpu=2).plan(several)


def test_small_runs_share_a_tasks_gpu(tmp_path: Path) -> None:
    work = Assignment(["a"], ["work"], [tmp_path], tmp_path, most=7, threads=2)
    script = Slurm(workers=4, gpus=1, runs_per_gpu=3, memory_gb=2, limit=9).plan(work)
    array, _, report = script.rpartition("#!/bin/bash")
    for wanted in ("--array=0-8%3", "--gres=gpu:1", "--cpus-per-task=6", "--mem=6144M"):
        assert f"#SBATCH {wanted}\n" in array, wanted
    assert "#SBATCH --mem=2048M\n" in report
    with pytest.raises(ConfigError, match=r"runs_per_gpu = 2: there is no GPU to share"):
        Slurm(runs_per_gpu=2)


# Each worker takes its own number, then does what is asked of it.
_TURN = (
    "for n in 0 1 2; do mkdir turn-$n 2>/dev/null && break; done; trap 'echo $n >> told; exit 75' "
    "TERM USR1; codes=(%s); [ ${codes[$n]} = wait ] || exit ${codes[$n]}; sleep 60 & wait"
)


@pytest.mark.parametrize(
    ("codes", "code"),
    [("75 0 75", 0), ("75 75 75", 75), ("2 75 2", 75), ("0 2 0", 0), ("1 2 2", 1)],
)
def test_nothing_is_left_as_soon_as_one_worker_of_a_task_found_nothing(
    tmp_path: Path, codes: str, code: int
) -> None:
    assert task(tmp_path, codes).wait(30) == code
    assert len(list(tmp_path.glob("turn-*"))) == 3
    assert len(list(tmp_path.glob("slurm/*.done"))) == (code == 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_tasks_signal_reaches_all_its_workers(tmp_path: Path, number: int) -> None:
    process = task(tmp_path, "wait 75 wait")
    until_s = time.monotonic() + 20
    while len(list(tmp_path.glob("turn-*"))) < 3 and time.monotonic() < until_s:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(20) == 75
    assert sorted((tmp_path / "told").read_text().split()) == ["0", "2"]


def task(folder: Path, codes: str) -> subprocess.Popen[bytes]:
    """A task of an array in which three workers end as ``codes`` say, by the very script."""
    (folder / "slurm").mkdir()
    work = Assignment(["a"], ["bash", "-c", _TURN % codes], [folder], folder, most=9)
    launcher = Slurm(gpus=1, runs_per_gpu=3)
    script = launcher.script(work, Array("a", workers=1, tasks=1, sweeps=("a",)))
    (folder / "task.sh").write_text(script)
    return subprocess.Popen(["bash", str(folder / "task.sh")], cwd=folder)


@pytest.mark.parametrize(
    ("text", "workers"),
    [
        ("", 0),
        ("12|0-31%8|PENDING|Priority||x", 8),
        ("12|30-31%8|PENDING|Priority||x", 2),
        ("12|3|RUNNING|None|n1|x\n15|0-9%2|PENDING|Resources||y", 3),
        ("12|5|PENDING|JobHeldUser||x", 0),
        ("12|1,3-5,...%2|PENDING|Priority||x", 2),
        ("12|0,2-5|PENDING|JobArrayTaskLimit,None||x\n12|1|RUNNING|None|n1|x", 1),
        ("12|0|COMPLETING|None|n1|x", 0),
    ],
)
def test_how_many_work_at_once_when_there_is_room(text: str, workers: int) -> None:
    assert queue(text).workers == workers


def test_what_was_submitted_is_kept_in_each_sweeps_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    jobs, first = Jobs(folders), Array("x-1", 2, 64, ("a", "b"))
    second = Array("x-2", 1, 32, ("a", "b"))
    jobs.add(first)
    jobs.add(second)
    for folder in folders:
        assert Jobs([folder]).arrays() == [first, second]
    jobs.forget(first)
    assert Jobs([folders[1]]).arrays() == [second]
    (folders[0] / "jobs.json").write_text(json.dumps({"arrays": [{"name": 1}]}))
    with pytest.raises(ConfigError, match=r"jobs\.json is damaged"):
        jobs.arrays()


def test_status_asks_the_queue_now_and_then_and_says_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches looks every second or so; a scheduler serves everybody."""
    program, calls = tmp_path / "bin" / "squeue", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho once >> {calls}\ncat <<'END'\n{LINES}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    Jobs([tmp_path]).add(Array("lightning-sep-a-1", 4, 64, ("a",)))
    now = [100.0]
    monkeypatch.setattr(status, "time", SimpleNamespace(monotonic=lambda: now[0]))
    queues = status._Queues()
    for seconds, count in [(0.0, 1), (19.0, 1), (2.0, 2)]:
        now[0] += seconds
        seen = queues.beside({"state": "queued"}, tmp_path)
        assert calls.read_text().count("once") == count
        assert (seen["state"], seen["jobs"]["running"]) == ("running", 2)
        assert seen["jobs"]["line"] == queue(LINES).line()
    assert queues.beside({"state": "done"}, tmp_path)["jobs"], "the report is still to come"
    (tmp_path / "trials.json").touch()
    assert queues.beside({"state": "done"}, tmp_path) == {"state": "done"}
    program.write_text("#!/bin/sh\nexit 0\n")
    assert status._Queues().beside({"state": "queued"}, tmp_path)["state"] == "stopped"
    monkeypatch.setattr(os, "getuid", lambda: -1)
    seen = status._Queues().beside({"state": "queued"}, tmp_path)
    assert seen["state"] == "queued", "a site may hide the jobs of other users"
    assert seen["jobs"] == {"unknown": "none is shown: they are another user's"}


def test_why_tasks_of_the_latest_array_could_not_work_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    folder.mkdir()
    refusal = "10:00:01 ConfigError: trainer.device = 'cuda': torch finds no GPU here\n"
    logs = {
        "7_0": refusal,  # of an array before
        "9_0": "10:00:00 a: trial 0: head=tanh\n" + refusal + "srun: error: Exited with 2\n",
        "9_1": "x" * 9000 + "\n" + refusal,
        "9_2": "10:00:00 StorageError: no space\n10:00:09 a: done\n9_1: No error\n",
        "9_3": "",
    }
    for name, text in logs.items():
        (folder / f"{name}.log").write_text(text)
        os.utime(folder / f"{name}.log", (200, 200) if name < "8" else (300, 300))
    jobs = Jobs([tmp_path])
    assert jobs.refusals() == {}
    for name in ("old", "new"):
        jobs.add(Array(name, 2, 64, ("a",)))
        (folder / f"{name}.sh").touch()
        os.utime(folder / f"{name}.sh", (150, 150) if name == "old" else (250, 250))
    why = "ConfigError: trainer.device = 'cuda': torch finds no GPU here"
    assert jobs.refusals() == {why: 2}
    shown = {"sweep": "a", "state": "stopped", "question": "", "trials": {"total": 1}}
    shown |= {"finals": {"total": 0}, "best": None, "running": [], "waiting": [], "failed": []}
    lines = list(status._status_lines(shown | {"jobs": {"line": "", "refused": {why: 2}}}))
    assert lines[-2:] == ["    jobs: none waits or runs", f"    2 tasks could not work: {why}"]


def test_a_refusal_is_one_line_without_the_programs_prefix(tmp_path: Path) -> None:
    said = "echo 'sbatch: error: no such thing' >&2; echo 'sbatch: error: refused' >&2; exit 1"
    with pytest.raises(ConfigError, match=r"^sh: no such thing; refused$"):
        asked(["sh", "-c", said])
    with pytest.raises(ConfigError, match="there is no `not-a-program` on PATH"):
        asked(["not-a-program"])
    ended = "echo 'Job has already finished' >&2; exit 1"
    assert asked(["sh", "-c", ended], late=True) == ""
    full = "echo 'sbatch: error: temporarily unable to accept job, sleeping and retrying' >&2"
    with pytest.raises(ConfigError, match="unable to accept job"):
        asked(["sh", "-c", f"{full}; exec sleep 50"])
    with pytest.raises(ConfigError, match="already finished"):
        asked(["sh", "-c", ended])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "workers = 0"),
        ({"gpus": -1}, "gpus = -1"),
        ({"time_min": 0}, "time_min = 0"),
        ({"memory_gb": 0.0}, "memory_gb = 0"),
        ({"lease_s": 0.5}, r"lease_s = 0\.5"),
        ({"setup": ["a\nb"]}, "one line of text is needed"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Slurm(**settings)  # type: ignore[arg-type]


class Clock:
    """The two clocks that a time limit reads."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def time(self) -> float:
        return 1_700_000_000 + self.now_s

    def monotonic(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("job_s", "pause_s", "stops_s"),
    [
        (1000, 1, 978),  # two pauses and 20 s before the end
        (1000, 50, 880),
        (1000, 300, 750),  # never more than a quarter of the job
        (60, 1, 45),
    ],
)
def test_a_worker_saves_before_its_job_ends(
    monkeypatch: pytest.MonkeyPatch, job_s: int, pause_s: int, stops_s: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(time_limit, "time", clock)
    limit = TimeLimit({"SLURM_JOB_END_TIME": str(1_700_000_000 + job_s)})
    clock.now_s = float(pause_s)
    assert not limit.near()
    while not limit.near():
        clock.now_s += 0.5
    assert clock.now_s == stops_s + 0.5
    assert limit.ends() == (job_s - clock.now_s < 150), "by itself, or told by Slurm"
    clock.now_s = 0.5 * job_s
    assert not limit.ends()


def test_without_a_time_limit_a_worker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time_limit, "time", clock)
    limit = TimeLimit({})
    clock.now_s = 1e9
    assert not limit.near()
