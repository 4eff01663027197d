"""Disks that fail for a while, are full, are read-only, or hand back something else."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import (
    Lab,
    at,
    equal,
    failing,
    fill,
    invariants,
    mounted,
    until,
)

MakeLab = Callable[..., Lab]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def same(lab: Lab, undisturbed: Lab, tiny: Path) -> None:
    lab.conclude(tiny)
    equal(undisturbed.home, lab.home)
    assert lab.report_bytes() == undisturbed.report_bytes()
    invariants(lab)


@needs_strace
def test_fault_27_and_9_reads_that_fail_for_two_seconds_are_waited_out(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """They begin to fail between two writes of a run, where its lease is asked for next."""
    lab.begin(tiny)
    worker = lab.worker(fault=at("write", r"/metrics", 2, signal=signal.SIGSTOP))
    worker.until(worker.frozen)
    with failing(worker, "openat", "ESTALE") as trace:
        worker.wake()
        time.sleep(2)
    assert str(lab.home) in "".join(re.findall(r".*INJECTED.*", trace.read_text()))
    worker.end()
    same(lab, undisturbed, tiny)


def test_fault_27_a_home_renamed_away_for_two_seconds_is_waited_for(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    lab.begin(tiny)
    workers = [lab.worker(), lab.worker()]
    workers[0].until(lambda: list(lab.home.glob("*/metrics.jsonl")))
    away = lab.home.with_name("away")
    lab.home.rename(away)
    time.sleep(2)
    if lab.home.exists():  # somebody has begun another home in its place
        shutil.rmtree(lab.home)
        pytest.fail("a worker wrote into a home that was not there")
    away.rename(lab.home)
    for worker in workers:
        worker.end()
    same(lab, undisturbed, tiny)


@pytest.mark.parametrize(
    ("workers", "full_s"),
    [(2, 3.0), pytest.param(4, 10.0, marks=pytest.mark.slow)],
    ids=["two workers", "four workers"],
)
def test_fault_11_a_full_home_is_waited_for_by_the_one_command(
    workers: int, full_s: float, make_lab: MakeLab, undisturbed: Lab, tiny: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as folder:
        lab = make_lab(home=folder / "runs")
        sweep = lab.start("sweep", str(tiny), "--workers", str(workers))
        sweep.until(lambda: list(lab.home.glob("*/checkpoints/step-*")))
        ballast = fill(folder)
        time.sleep(full_s)
        assert sweep.running(), sweep.text()
        ballast.unlink()
        sweep.end()
        same(lab, undisturbed, tiny)


def listing(folder: Path) -> list[tuple[str, int, int, int]]:
    """Everything in a folder, with sizes, kinds and times of the last change."""
    found = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        told = path.lstat()
        found.append((str(path), told.st_mode, told.st_size, told.st_mtime_ns))
    return found


def test_fault_12_a_read_only_home_can_be_looked_at_and_nothing_is_written(
    make_lab: MakeLab, undisturbed: Lab, tmp_path: Path
) -> None:
    before = listing(undisturbed.home)
    with mounted(tmp_path / "looked at", "--bind", "-o", "ro", str(undisturbed.home)) as home:
        lab = make_lab(home=home)
        looking = [lab.start("status", "--json"), lab.start("leaderboard", "--json")]
        for process in looking:
            process.end()
        assert '"sweep": "tiny"' in looking[0].text()
    assert listing(undisturbed.home) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def harm_best(run: Path) -> None:
    for path in (run / "checkpoints").glob("best*.ckpt"):
        flip(path)


def harm_history(run: Path) -> None:
    (run / "metrics.jsonl").unlink()


def harm_all_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def harm_record(run: Path) -> None:
    """Somebody's garbage where the record will be, and the newest checkpoint cut in half."""
    (run / "record.json").write_text('{"format": 2, "state": "finished"}')
    newest = max((run / "checkpoints").glob("step-*.ckpt"))
    os.truncate(newest, newest.stat().st_size // 2)


def test_fault_13_what_is_damaged_while_a_sweep_runs_fails_no_trial(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """Each run is harmed in another way when its third epoch is half over."""
    lab.begin(tiny)
    fault = at("write", r"/checkpoints/\.?step-000000025[^/]*ckpt", 0, signal=signal.SIGSTOP)
    harms = [harm_best, harm_history, harm_all_checkpoints, harm_record]
    harmed: list[Path] = []
    code = 75
    while code == 75:  # what fails in one process is tried once more by a fresh one
        worker = lab.worker(fault=fault)
        while worker.running():
            if not worker.frozen():
                time.sleep(0.01)
                continue
            run = lab.runs()[-1]
            if run not in harmed:
                harms[len(harmed)](run)
                harmed.append(run)
            worker.wake()
            until(lambda worker=worker: not worker.frozen() or not worker.running(), 5)
        code = worker.end(0, 75)
    assert len(harmed) == len(harms)
    same(lab, undisturbed, tiny)
