"""Real processes on real, tiny training, and what can be done to them from outside.

Nothing here stands in for a part of the package: a test starts ``lightning-sep`` as a user does,
kills, freezes or starves it through the system, and compares what lies on the disk afterwards.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lightning_sep import cli
from lightning_sep.launchers.base import Assignment, Launcher
from lightning_sep.sweep import commands

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
PLUGIN = Path(__file__).parent / "plugin"

# Ten steps an epoch, a checkpoint in the middle of each and one at its end; half a second in all.
# The learning rate is so high that the best epoch is not the last one.
TINY = [
    "task=separation",
    "tracking=none",
    "net.levels=2",
    "net.filters=4",
    "examples.segment_s=0.25",
    "examples.train=40",
    "examples.val=4",
    "examples.test=4",
    "examples.batch_size=4",
    "optimizer.learning_rate=0.05",
    "trainer.epochs=4",
    "trainer.checkpoint_every_steps=5",
    "trainer.progress=false",
]
HEADS = "yield f\"head={trial.suggest_categorical('head', ['tanh', 'sine', 'hard_clip'])}\""

SOURCE = '''"""A sweep that takes seconds."""

import optuna

from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(metric="val/si_sdr_improvement_db", direction="maximize", {fields})


def overrides(trial):
    {body}
'''


class Raw(str):
    """A value that goes into a sweep's file as it is, as an expression."""

    def __repr__(self) -> str:
        return str(self)


def write_sweep(path: Path, body: str = HEADS, more: Sequence[str] = (), **fields: Any) -> Path:
    """A sweep's file: three heads, the best of them once more on a fresh seed."""
    values: dict[str, Any] = {"settings": [*TINY, *more], "trials": 20} | fields
    values = {"finalists": 1, "final_seeds": 1} | values
    text = ", ".join(f"{key}={value!r}" for key, value in values.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(fields=text, body=body))
    return path


# Nothing is waited for as long as this on any machine that is not standing still.
LIMIT_S = 300.0


def until(condition: Callable[[], Any], limit_s: float = LIMIT_S, why: object = "") -> None:
    """Poll until something holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited too long {why}"
        time.sleep(0.01)


class Process:
    """A ``lightning-sep`` process in the background.

    Args:
        command: what to start.
        environment: all of its environment.
        log: where its output goes.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,  # Python looks for packages there first
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def text(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    def frozen(self) -> bool:
        """Whether it is stopped."""
        return state(self.pid) == "T"

    def send(self, number: signal.Signals) -> None:
        if self.running():
            os.kill(self.pid, number)

    def wake(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        for pid in [self.pid, *descendants(self.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.popen.wait()

    def until(self, condition: Callable[[], Any], limit_s: float = LIMIT_S) -> None:
        """Poll until something holds that this process brings about."""
        until(lambda: condition() or not self.running(), limit_s, self.text())
        assert condition(), f"it ended with {self.popen.returncode}:\n{self.text()}"

    def end(self, *codes: int, limit_s: float = LIMIT_S) -> int:
        """Wait for its end; its exit code must be one of these (0 when none is given)."""
        try:
            code = self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {limit_s} s:\n{self.text()}") from None
        assert code in (codes or (0,)), f"it ended with {code}:\n{self.text()}"
        return code


def state(pid: int) -> str:
    """The letter that proc(5) gives a process: Z a zombie, T stopped; X here where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def frozen_below(pid: int) -> list[int]:
    """The processes that a process has started and that are stopped."""
    return [one for one in descendants(pid) if state(one) == "T"]


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, and those that these have."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


class Nobody(Launcher):
    """A launcher that starts no worker: the test starts them itself, each with its own fate."""

    def plan(self, work: Assignment) -> str:
        return ""

    def start(self, work: Assignment) -> str:
        return ""


class Lab:
    """One home, and the processes that a test starts on it.

    Args:
        root: a folder of its own.
        data: where prepared data lie, for all labs.
        home: where runs lie, if not in ``root``.
    """

    def __init__(self, root: Path, data: Path, home: Path | None = None) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self.home = home or root / "runs"
        self.data = data
        self.processes: list[Process] = []
        self.extra: dict[str, str] = {}

    def environment(self, **more: str) -> dict[str, str]:
        """What a user's shell would have: no number of threads is set."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OMP_", "MKL_", "LIGHTNING_SEP_"))
        }
        path = os.pathsep.join([*self.extra.get("PYTHONPATH", "").split(), str(HOOK), str(ROOT)])
        return {
            **kept,
            "LIGHTNING_SEP_HOME": str(self.home),
            "LIGHTNING_SEP_DATA": str(self.data),
            **self.extra,
            "PYTHONPATH": path,
            **more,
        }

    def start(
        self,
        *arguments: str,
        fault: Mapping[str, Any] | None = None,
        within: Sequence[str] = (),
        **environment: str,
    ) -> Process:
        """Start ``lightning-sep`` with these arguments.

        Args:
            arguments: the command line.
            fault: what is to happen at one of its file operations; see ``at``.
            within: a command that starts it.
            environment: variables besides those of ``environment``.
        """
        if fault is not None:
            environment["FAULT"] = json.dumps(fault)
        process = Process(
            [*within, sys.executable, "-m", "lightning_sep", *map(str, arguments)],
            self.environment(**environment),
            self.root / f"process-{len(self.processes)}.log",
        )
        self.processes.append(process)
        return process

    def worker(self, name: str = "tiny", **options: Any) -> Process:
        return self.start("worker", name, **options)

    def train(self, *more: str, **options: Any) -> Process:
        return self.start("train", *TINY, *more, **options)

    def say(self, *arguments: str) -> int:
        """The same command within this process, where it starts no other and trains nothing."""
        with patched(self.environment()):
            return cli.main([*map(str, arguments)])

    def plug_in(self) -> list[str]:
        """Let processes find the head that misbehaves; what a command must say besides."""
        self.extra |= {"PYTHONPATH": str(PLUGIN), "LIGHTNING_SEP_PLUGINS": "faulty_heads"}
        return ["--config-dir", str(PLUGIN / "conf")]

    def begin(
        self, path: Path, patience_s: float | None = None, config_dir: Path | None = None
    ) -> None:
        """Put a sweep on disk that no worker has touched.

        Args:
            path: the sweep's file.
            patience_s: seconds without a sign of life after which others take work over.
            config_dir: a folder of settings besides ``conf/``.
        """
        more = {} if patience_s is None else {"LIGHTNING_SEP_LEASE_S": str(patience_s)}
        with patched(self.environment(**more)):
            commands.launch([path], home=self.home, launcher=Nobody(), config_dir=config_dir)

    def conclude(self, path: Path, *more: str) -> dict[str, Any]:
        """Say the sweep's command again when all its work is done, and return its report."""
        before = self.logs(path.stem)
        assert self.say("sweep", str(path), *more) in (0, 1)
        assert self.logs(path.stem) == before, "there was work left for workers"
        return self.report(path.stem)

    def report(self, name: str = "tiny") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report_bytes(name))
        return found

    def report_bytes(self, name: str = "tiny") -> bytes:
        return (self.home / "sweeps" / name / "trials.json").read_bytes()

    def logs(self, name: str = "tiny") -> str:
        """What the workers of a launched sweep have said."""
        folder = self.home / "sweeps" / name
        return "".join(path.read_text() for path in sorted(folder.glob("worker-*.log")))

    def runs(self) -> list[Path]:
        """Folders of runs, oldest first."""
        found = [path.parent for path in self.home.glob("*/settings.yaml")]
        return sorted(found, key=lambda path: path.joinpath("settings.yaml").stat().st_mtime_ns)

    def close(self) -> None:
        for process in self.processes:
            if process.running():
                process.kill()


@contextmanager
def patched(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's environment as another one, and where it looks for packages."""
    before, path = dict(os.environ), list(sys.path)
    os.environ.clear()
    os.environ.update(environment)
    sys.path += environment["PYTHONPATH"].split(os.pathsep)
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(before)


# --- what lies on the disk ------------------------------------------------------------------


def record_of(folder: Path) -> dict[str, Any] | None:
    path = folder / "record.json"
    return json.loads(path.read_text()) if path.exists() else None


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history without the times; a torn line is an error."""
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in row.items() if key != "time_s"} for row in rows]


def epochs(folder: Path) -> list[int]:
    return [row["epoch"] for row in history(folder)]


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that are there, of whichever attempt."""
    found = (folder / "checkpoints").glob("step-*.ckpt")
    return sorted({int(re.findall(r"\d{9}", path.name)[0]) for path in found})


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of the newest generation."""

    def generation(path: Path) -> int:
        return int((re.findall(r"\.(\d+)\.ckpt$", path.name) or ["0"])[0])

    return max((folder / "checkpoints").glob("best*.ckpt"), key=generation)


def trials_of(home: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    """What Optuna itself reads from a sweep's journal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(home / "sweeps" / name / "journal.log")))
    [study] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=study, storage=storage, sampler=None).trials


def leftovers(home: Path) -> list[str]:
    """Temporary files, locks and leases: nothing of that may outlive the work."""
    patterns = ("**/.*.aside-*", "**/*.lock", "**/*.lock.*", "**/leases/**/*.json")
    return sorted(
        str(path.relative_to(home)) for pattern in patterns for path in home.glob(pattern)
    )


def invariants(lab: Lab, name: str = "tiny") -> None:
    """What holds at the end of a sweep, whatever has happened on the way."""
    report = lab.report(name)
    trials = trials_of(lab.home, name)
    assert [trial.number for trial in trials] == list(range(len(report["trials"])))
    assert [trial.number for trial in trials if not trial.state.is_finished()] == []
    settings = [tuple(trial["overrides"]) for trial in report["trials"]]
    assert len(set(settings)) == len(settings), "one setting has two trials"
    accepted = [
        (trial["number"], run) for trial in report["trials"] for run in trial["runs"] if run
    ] + [(final["key"], final["run_id"]) for final in report["finals"] if final["run_id"]]
    assert len({run for _, run in accepted}) == len(accepted), "one run counts twice"
    for _, run in accepted:
        whole(lab.home / run)
    left = leftovers(lab.home)
    assert left == [], left


def whole(folder: Path) -> None:
    """What holds of a run that has ended: history without gaps, the best epoch's weights."""
    record = record_of(folder)
    assert record is not None, folder
    assert epochs(folder) == list(range(len(epochs(folder)))), folder
    if record["state"] == "finished":
        best = record["monitor"]["epoch"]
        [row] = [row for row in history(folder) if row["epoch"] == best]
        state = torch.load(best_checkpoint(folder), weights_only=True)
        assert state["global_step"] == row["step"], folder


def equal(one: Path, other: Path) -> None:
    """Whether two homes hold the same runs with the same numbers."""
    ids = [
        {path.parent.name for path in home.glob("*/record.json") if record_of(path.parent)}
        for home in (one, other)
    ]
    assert ids[0] == ids[1]
    for run in sorted(ids[0]):
        equal_runs(one / run, other / run)


def equal_runs(one: Path, other: Path) -> None:
    first, second = record_of(one), record_of(other)
    assert first is not None
    assert second is not None
    assert first["state"] == second["state"]
    assert first["metrics"] == second["metrics"], one.name
    assert history(one) == history(other), one.name


def same_run(lab: Lab, undisturbed: Lab, one: Path) -> None:
    """Whether a sweep of a single run ends with what an undisturbed one has of it."""
    [trial] = lab.conclude(one)["trials"]
    assert trial["state"] == "finished"
    [run] = lab.runs()
    equal_runs(undisturbed.home / run.name, run)
    invariants(lab, one.stem)


def same(lab: Lab, undisturbed: Lab, tiny: Path) -> None:
    """Whether the tiny sweep ends like an undisturbed one, to the last byte of its report."""
    lab.conclude(tiny)
    equal(undisturbed.home, lab.home)
    assert lab.report_bytes() == undisturbed.report_bytes()
    invariants(lab)


def no_worker(home: Path) -> bool:
    """Whether no process has this home in its environment any more."""
    wanted = f"LIGHTNING_SEP_HOME={home}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                return False
        except OSError:
            continue
    return True


# --- what is done to them -------------------------------------------------------------------


def at(
    event: str,
    path: str,
    when: int | list[int] = 1,
    *,
    signal: int | None = None,
    errno: int | None = None,
    gate: Path | None = None,
    pause_s: float | None = None,
) -> dict[str, Any]:
    """A fault that meets a process's main thread just before a file operation.

    Args:
        event: ``write`` or ``read`` (an open), ``rename``, ``link``, ``mkdir`` or ``remove``.
        path: a regular expression that is searched in the path.
        when: at the how manieth of these, from 1, or at several; 0 is each of them.
        signal: is sent to the process.
        errno: or the operation fails with it.
        gate: or the process waits until this file is gone; ``gate.<host>.<pid>`` says that it does.
        pause_s: or it waits so many seconds, which takes no core.
    """
    what = {
        "signal": signal if signal is None else int(signal),
        "errno": errno,
        "gate": gate if gate is None else str(gate),
        "pause_s": pause_s,
    }
    given = {key: value for key, value in what.items() if value is not None}
    return {"event": event, "path": path, "when": when, **given}


@contextmanager
def failing(process: Process, call: str, error: str) -> Iterator[Path]:
    """While this holds, a system call of a running process fails; yields what strace has seen."""
    done = process.log.with_suffix(".failing")
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-p", str(process.pid), "-o", str(done)),
            *("-e", f"trace={call}", "-e", f"inject={call}:error={error}"),
        ],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    assert b"attached" in tracer.stderr.readline()
    try:
        yield done
    finally:
        tracer.terminate()
        tracer.wait()


def fill(folder: Path) -> Path:
    """Leave no byte free on a small disk; returns the file that takes the room."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert shutil.disk_usage(folder).free == 0
    return ballast
