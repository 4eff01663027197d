"""Processes of a run on two devices that are killed, stopped or interrupted from outside."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lightning_sep import experiment, ranks
from lightning_sep.settings import compose
from tests.faults.harness import (
    TINY,
    Lab,
    Process,
    descendants,
    history,
    invariants,
    record_of,
    state,
    steps,
    until,
    write_sweep,
)

TWO = ["trainer.devices=2", "trainer.device=cpu", "trainer.epochs=7"]


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> experiment.Result:
    """The run of both tests, by two processes to which nothing happens."""
    home = tmp_path_factory.mktemp("undisturbed")
    result = experiment.run(compose([*TINY, *TWO]), home=home, purpose="search", sweep="s")
    ranks.dismiss()
    return result


def others(process: Process) -> list[int]:
    """The processes below one that train what it says."""
    found = []
    for pid in descendants(process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lightning_sep.cli.follow" in words:
            found.append(pid)
    return found


def gone(pids: list[int]) -> bool:
    return all(state(pid) in "ZX" for pid in pids)


def within(folder: Path, epoch: int) -> bool:
    """Whether a run has a checkpoint in the middle of an epoch."""
    return any(step > 10 * epoch and step % 10 for step in steps(folder))


def same(folder: Path, result: experiment.Result) -> None:
    record: Any = record_of(folder)
    assert history(folder) == history(result.folder)
    assert record["metrics"] == result.record["metrics"]
    assert record["hashes"]["weights"] == result.record["hashes"]["weights"]


def test_fault_15_a_rank_that_dies_is_one_retry_and_changes_no_number(
    lab: Lab, sweeps: Path, undisturbed: experiment.Result
) -> None:
    sweep = write_sweep(sweeps / "two.py", "yield 'head=clip_at_eval'", TWO, finalists=0)
    process = lab.start("sweep", str(sweep), "--workers", "1")
    folder = lab.home / undisturbed.run_id
    process.until(lambda: within(folder, 1))
    [other] = others(process)
    os.kill(other, signal.SIGKILL)
    process.end(limit_s=120)
    assert "rank 1 ended by signal 9" in lab.logs("two")
    assert lab.logs("two").count("trial 0: head=") == 2
    record: Any = record_of(folder)
    assert [one["generation"] for one in record["attempted"]] == [1, 2]
    same(folder, undisturbed)
    invariants(lab, "two")


def test_an_interrupted_run_ends_all_its_processes_and_goes_on(
    lab: Lab, undisturbed: experiment.Result
) -> None:
    folder = lab.home / undisturbed.run_id
    first = lab.train(*TWO)
    first.until(lambda: within(folder, 1))
    mine = others(first)
    assert len(mine) == 1
    first.send(signal.SIGINT)
    first.end(130, limit_s=60)
    told = [line for line in first.text().splitlines() if "gives way to" not in line]
    assert len(told) == 2, "no word of any other process"
    until(lambda: gone(mine), 60)

    second = lab.train(*TWO)
    second.until(lambda: within(folder, 4))
    mine = others(second)
    second.send(signal.SIGKILL)
    second.end(-signal.SIGKILL)
    until(lambda: gone(mine), 60)

    lab.train(*TWO).end()
    same(folder, undisturbed)
