"""Disks that fail for a while, are full, are read-only, or hand back something else."""

import errno
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
    failing,
    fill,
    frozen_below,
    same,
    same_run,
    until,
)
from tests.mounts import mounted

MakeLab = Callable[..., Lab]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def renamed_away(lab: Lab, wake: Callable[[], object]) -> None:
    """Take the home away for two seconds, while somebody works in it."""
    away = lab.home.with_name("away")
    lab.home.rename(away)
    wake()
    time.sleep(2)
    if lab.home.exists():  # somebody has begun another home in its place
        shutil.rmtree(lab.home)
        pytest.fail("a worker wrote into a home that was not there")
    away.rename(lab.home)


IN_THE_MIDDLE = at("write", r"/metrics", 2, signal=signal.SIGSTOP)


def test_fault_27_a_home_renamed_away_for_two_seconds_is_waited_for(
    lab: Lab, undisturbed: Lab, one: Path
) -> None:
    lab.begin(one)
    worker = lab.worker("one", fault=IN_THE_MIDDLE)
    worker.until(worker.frozen)
    renamed_away(lab, worker.wake)
    worker.end()
    same_run(lab, undisturbed, one)


@pytest.mark.slow
def test_fault_27_a_home_renamed_away_is_waited_for_by_the_one_command(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    sweep = lab.start("sweep", str(tiny), "--workers", "2", fault=IN_THE_MIDDLE)
    sweep.until(lambda: len(frozen_below(sweep.pid)) == 2)

    def wake() -> None:
        for pid in frozen_below(sweep.pid):
            os.kill(pid, signal.SIGCONT)

    renamed_away(lab, wake)
    sweep.end()
    same(lab, undisturbed, tiny)


@needs_strace
@pytest.mark.slow
def test_fault_27_and_9_reads_that_fail_for_two_seconds_are_waited_out(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """They begin to fail between two writes of a run, where its lease is asked for next."""
    lab.begin(tiny)
    worker = lab.worker(fault=IN_THE_MIDDLE)
    worker.until(worker.frozen)
    with failing(worker, "openat", "ESTALE") as trace:
        worker.wake()
        time.sleep(2)
    assert str(lab.home) in "".join(re.findall(r".*INJECTED.*", trace.read_text()))
    worker.end()
    same(lab, undisturbed, tiny)


@pytest.mark.slow
def test_fault_27_and_9_reads_that_fail_are_waited_out_by_the_one_command(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """In each of its processes five reads in a row fail, once they are at work."""
    read = re.escape(f"{lab.home}/")
    stale = at("read", read, list(range(40, 45)), errno=errno.ESTALE)
    lab.start("sweep", str(tiny), "--workers", "2", fault=stale).end()
    same(lab, undisturbed, tiny)


@pytest.mark.slow
def test_fault_11_a_home_full_for_ten_seconds_is_waited_for_by_the_one_command(
    make_lab: MakeLab, undisturbed: Lab, tiny: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as folder:
        lab = make_lab(home=folder / "runs")
        sweep = lab.start("sweep", str(tiny), "--workers", "4")
        sweep.until(lambda: list(lab.home.glob("*/checkpoints/step-*")))
        ballast = fill(folder)
        time.sleep(10)
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


IN_THE_THIRD_EPOCH = at(
    "write", r"/checkpoints/\.?step-000000025[^/]*ckpt", 0, signal=signal.SIGSTOP
)


@pytest.mark.parametrize(
    "harm",
    [
        harm_best,
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in (harm_history, harm_all_checkpoints, harm_record)
        ),
    ],
)
def test_fault_13_what_is_damaged_while_a_sweep_runs_fails_no_trial(
    harm: Callable[[Path], None], lab: Lab, undisturbed: Lab, one: Path
) -> None:
    """It is done when the third epoch is half over."""
    lab.begin(one)
    code, harmed = 75, False
    while code == 75:  # what fails in one process is tried once more by a fresh one
        worker = lab.worker("one", fault=IN_THE_THIRD_EPOCH)
        while worker.running():
            if not worker.frozen():
                time.sleep(0.01)
                continue
            if not harmed:
                harm(lab.runs()[0])
                harmed = True
            worker.wake()
            until(lambda worker=worker: not worker.frozen() or not worker.running())
        code = worker.end(0, 75)
    assert harmed
    same_run(lab, undisturbed, one)
