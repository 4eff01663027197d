"""Workers that stand still within a claim, with a lock in their hand or just before it."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_sep.leases.lock import GRACE_S
from tests.faults.harness import (
    PLUGIN,
    Lab,
    Process,
    at,
    frozen_below,
    invariants,
    same,
    trials_of,
    until,
    write_sweep,
)

MakeLab = Callable[..., Lab]
APART = ["unshare", "--pid", "--fork", "--mount-proc"]


def frozen_in_its_second_claim(lab: Lab, tiny: Path) -> dict[str, object]:
    """A fault: stopped before it appends its second trial to the journal, the lock in its hand."""
    lab.begin(tiny)
    return at("write", r"/leases/\.trial-0001\.json", signal=signal.SIGSTOP)


def test_fault_29_whoever_stands_still_with_the_lock_in_its_hand_is_waited_for(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """Its process lives on this very machine: nobody breaks its lock, and nothing is claimed."""
    held = lab.worker(fault=frozen_in_its_second_claim(lab, tiny))
    held.until(held.frozen)
    before = len(trials_of(lab.home, "tiny"))
    other = lab.worker()
    other.until(lambda: len(list((lab.home / "leases" / "workers").glob("*.alive"))) == 2)
    time.sleep(3)
    assert other.running()
    assert len(trials_of(lab.home, "tiny")) == before
    held.wake()
    held.end()
    other.end()
    same(lab, undisturbed, tiny)


def namespaces() -> bool:
    """Whether this user may start processes that others cannot look up."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*APART, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fault_29_a_lock_broken_far_away_is_no_lock_any_more(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """Two workers that cannot look each other up; the one stands still for longer than the grace.

    Woken, it finds out before it appends; the trial that it was about to begin is not begun twice.
    """
    if not namespaces():
        pytest.skip("pid namespaces are not permitted")
    within = [*APART, "sh", "-c", '"$@" || exit $?', "sh"]  # the first process cannot stop itself
    fault = at("write", r"/journal\.log$", 5, signal=signal.SIGSTOP)
    lab.begin(tiny)
    held = lab.worker(fault=fault, within=within)
    held.until(lambda: frozen_below(held.pid))
    lock = lab.home / "sweeps" / "tiny" / "sweep.lock"
    text = os.readlink(lock)
    other = lab.worker(within=within)
    other.until(lambda: not lock.is_symlink() or os.readlink(lock) != text, GRACE_S + 120)
    other.end()
    for pid in frozen_below(held.pid):
        os.kill(pid, signal.SIGCONT)
    held.end(0, 75)
    same(lab, undisturbed, tiny)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fault_29_stops_of_45_seconds_at_twenty_random_moments_of_claims_double_nothing(
    lab: Lab, sweeps: Path
) -> None:
    """Eight workers, forty settings; some stop with the lock in their hand, some just before it."""
    body = (
        "yield 'head=faulty'; "
        "yield f\"head.amount={trial.suggest_categorical('amount', list(range(40)))}\""
    )
    sweep = write_sweep(sweeps / "forty.py", body, ["trainer.epochs=1"], trials=40, finalists=0)
    plugged = lab.plug_in()
    lab.begin(sweep, config_dir=PLUGIN / "conf")
    generator = random.Random(45)
    moments = [
        ("link", r"/sweep\.lock$"),
        ("write", r"/leases/\.trial-\d+\.json"),
        ("rename", r"/leases/trial-\d+\.json"),
        ("write", r"/journal\.log$"),
    ]
    workers = []
    for _ in range(8):
        event, path = generator.choice(moments)
        stops = sorted(generator.sample(range(1, 9), 4))
        fault = at(event, path, stops, signal=signal.SIGSTOP)
        workers.append(lab.worker("forty", fault=fault, STEPPING="0.2"))
    stopped = stand_still(workers, 45.0, most=20)
    for worker in workers:
        worker.end()
    assert stopped == 20
    report = lab.conclude(sweep, *plugged)
    assert [trial["state"] for trial in report["trials"]] == ["finished"] * 40
    assert len({tuple(trial["overrides"]) for trial in report["trials"]}) == 40
    assert [len((run / "attempts.jsonl").read_text().splitlines()) for run in lab.runs()] == [
        1
    ] * 40
    invariants(lab, "forty")


def stand_still(workers: list[Process], each_s: float, most: int) -> int:
    """Let those that stop stand still for so long, the first so many of them; how many did."""
    since_s: dict[int, float] = {}
    count = 0
    end_s = time.monotonic() + 3000
    while any(worker.running() for worker in workers):
        assert time.monotonic() < end_s, "waited too long"
        for worker in workers:
            if not worker.frozen():
                continue
            now_s = time.monotonic()
            if worker.pid not in since_s:
                since_s[worker.pid] = now_s if count < most else now_s - each_s
                count += count < most
            if now_s - since_s[worker.pid] >= each_s:
                del since_s[worker.pid]
                worker.wake()
                until(lambda worker=worker: not worker.frozen())
        time.sleep(0.01)
    return count
