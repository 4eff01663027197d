"""What runs and idle workers take of a disk that many share."""

import itertools
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.harness import Lab, at, record_of, write_sweep


def test_a_search_run_leaves_few_files_and_no_audio(lab: Lab, sweeps: Path) -> None:
    """Mirrored as by default; its final has audio to listen to."""
    body = "yield f\"head={trial.suggest_categorical('head', ['tanh'])}\""
    sweep = write_sweep(sweeps / "mirrored.py", body, ["tracking=wandb", "trainer.epochs=1"])
    lab.start("sweep", str(sweep), "--workers", "1").end()
    files = {
        (record_of(run) or {})["purpose"]: [path for path in run.rglob("*") if path.is_file()]
        for run in lab.runs()
    }
    assert len(files["search"]) <= 16
    assert [path.suffix for path in files["search"]].count(".flac") == 0
    assert [path.suffix for path in files["final"]].count(".flac") > 0
    for kept in files.values():
        assert [path.name for path in kept if path.suffix == ".ckpt"] == ["best.1.ckpt"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.slow
def test_an_idle_worker_asks_the_disk_little_whatever_runs(lab: Lab, sweeps: Path) -> None:
    """Six others each hold a trial; a poll begins by asking whether the sweep was stopped."""
    rates = "[0.001 * k for k in range(1, 7)]"
    body = "yield f\"optimizer.learning_rate={trial.suggest_categorical('r', " + rates + ')}"'
    sweep = write_sweep(sweeps / "held.py", body, finalists=0)
    lab.begin(sweep, patience_s=600.0)
    first = at("write", r"/metrics", signal=signal.SIGSTOP)
    held = [lab.worker("held", fault=first) for _ in range(6)]
    for worker in held:
        worker.until(worker.frozen)
    idle = lab.worker("held")
    idle.until(lambda: len(list((lab.home / "leases" / "workers").glob("*.alive"))) == 7)
    time.sleep(5)
    calls = lab.root / "calls"
    tracer = subprocess.Popen(
        ["strace", "-p", str(idle.pid), "-o", str(calls), "-e", "trace=file,getdents64,fsync"],
        stderr=subprocess.DEVNULL,
    )
    time.sleep(25)
    tracer.terminate()
    tracer.wait()
    here = [line for line in calls.read_text().splitlines() if str(lab.home) in line]
    starts = [number for number, line in enumerate(here) if re.search(r"/held/stop", line)]
    polls = [b - a for a, b in itertools.pairwise(starts)]
    assert len(polls) >= 2
    assert max(polls) <= 20, "\n".join(here)
