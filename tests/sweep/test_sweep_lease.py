"""Leases and locks: one holder, a bounded takeover, no clock compared with another."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_sep.errors import ConfigError, LeaseLost
from lightning_sep.sweep.lease import Leases, Pulse, Watcher, holders, read_bytes, stale_s
from lightning_sep.sweep.lock import FileLock
from lightning_sep.sweep.process import Owner, this_process

FORK = multiprocessing.get_context("fork")


def leases(folder: Path, **options: Any) -> Leases:
    pulse = Pulse(folder / "workers", refresh_s=0.1).start()
    return Leases(folder / "leases", pulse, Watcher(folder / "workers", **options))


def elsewhere(folder: Path, key: str) -> Path:
    """Let a lease look as if its worker ran on another machine; gives the worker's counter."""
    path = folder / "leases" / f"{key}.json"
    record = json.loads(path.read_text())
    record["owner"] |= {"host": "far", "world": "another boot"}
    path.write_text(json.dumps(record))
    return folder / "workers" / f"{record['worker']}.json"


class Disk:
    """Reads files as a bad network disk does."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.frozen: dict[Path, bytes] | None = None

    def __call__(self, path: Path) -> bytes:
        if self.error is not None:
            raise self.error
        if self.frozen is not None:
            return self.frozen.setdefault(path, read_bytes(path))
        return read_bytes(path)


def claim_all(folder: Path, count: int, results: Any) -> None:
    mine = leases(folder)
    results.put([key for key in range(count) if mine.claim(f"run-{key}") is not None])
    time.sleep(0.5)  # alive until all have claimed


def test_fault_5_each_of_200_leases_is_won_by_one_of_8_processes(tmp_path: Path) -> None:
    results = FORK.Queue()
    processes = [FORK.Process(target=claim_all, args=(tmp_path, 200, results)) for _ in range(8)]
    for process in processes:
        process.start()
    won = [key for _ in processes for key in results.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(won) == list(range(200))


def test_a_lease_whose_process_is_gone_is_free_at_once(tmp_path: Path) -> None:
    results = FORK.Queue()
    other = FORK.Process(target=claim_all, args=(tmp_path, 1, results))
    other.start()
    assert results.get(timeout=20) == [0]
    mine = leases(tmp_path)
    assert mine.claim("run-0") is None
    other.kill()
    other.join()
    lease = mine.claim("run-0")
    assert lease is not None
    assert lease.crashes == 1


def test_a_number_that_another_process_got_is_not_the_same_process() -> None:
    me = this_process()
    assert me.alive()
    assert Owner(me.host, me.world, me.pid, "1").alive() is False
    assert Owner(me.host, "another boot", me.pid, me.start).alive() is None


def test_fault_9_a_counter_that_stands_still_frees_a_lease_on_the_readers_clock(
    tmp_path: Path,
) -> None:
    now = [1000.0]
    theirs = leases(tmp_path)
    theirs.pulse.stop()
    assert theirs.claim("a") is not None
    counter = elsewhere(tmp_path, "a")
    counter.write_text('{"counter": 1}')
    mine = leases(tmp_path, patience_s=10, clock=lambda: now[0])
    for _ in range(11):
        assert mine.claim("a") is None
        now[0] += 1
    assert mine.claim("a") is not None


@pytest.mark.parametrize("offset_s", [-600.0, 600.0])
def test_fault_9_clocks_apart_and_files_of_any_age_say_nothing(
    tmp_path: Path, offset_s: float
) -> None:
    now = [1000.0]
    theirs = leases(tmp_path)
    theirs.pulse.stop()
    assert theirs.claim("a") is not None
    counter = elsewhere(tmp_path, "a")
    mine = leases(tmp_path, patience_s=10, clock=lambda: now[0])
    for beat in range(30):
        counter.write_text(json.dumps({"counter": beat}))
        os.utime(counter, (time.time() + offset_s, time.time() + offset_s))
        assert mine.claim("a") is None
        now[0] += 5


def test_fault_9_a_disk_that_gives_errors_frees_no_lease(tmp_path: Path) -> None:
    now, disk = [1000.0], Disk()
    theirs = leases(tmp_path)
    theirs.pulse.stop()
    assert theirs.claim("a") is not None
    elsewhere(tmp_path, "a").write_text('{"counter": 1}')
    mine = leases(tmp_path, patience_s=10, clock=lambda: now[0], read=disk)
    for _ in range(20):
        disk.error = OSError(116, "Stale file handle")
        assert mine.claim("a") is None
        now[0] += 3
        disk.error = None
        assert mine.claim("a") is None  # the errors in between begin the count anew
        now[0] += 3


def test_fault_9_a_stale_read_shorter_than_the_patience_frees_no_lease(tmp_path: Path) -> None:
    now, disk = [1000.0], Disk()
    theirs = leases(tmp_path)
    theirs.pulse.stop()
    assert theirs.claim("a") is not None
    counter = elsewhere(tmp_path, "a")
    mine = leases(tmp_path, patience_s=10, clock=lambda: now[0], read=disk)
    for beat in range(40):
        counter.write_text(json.dumps({"counter": beat}))
        disk.frozen = {} if beat % 8 == 1 else None if beat % 8 == 0 else disk.frozen
        assert mine.claim("a") is None
        now[0] += 1


def test_fault_23_a_reader_that_was_frozen_itself_does_not_count_that_time(
    tmp_path: Path,
) -> None:
    now = [1000.0]
    theirs = leases(tmp_path)
    theirs.pulse.stop()
    assert theirs.claim("a") is not None
    elsewhere(tmp_path, "a").write_text('{"counter": 1}')
    mine = leases(tmp_path, patience_s=10, clock=lambda: now[0])
    assert mine.claim("a") is None
    now[0] += 3600
    assert mine.claim("a") is None


def test_who_has_lost_a_lease_is_told_at_the_next_guard(tmp_path: Path) -> None:
    theirs = leases(tmp_path)
    lost = theirs.claim("a")
    assert lost is not None
    theirs.pulse.stop()
    elsewhere(tmp_path, "a")
    now = [0.0]
    mine = leases(tmp_path, patience_s=1, clock=lambda: now[0])
    while (taken := mine.claim("a")) is None:
        now[0] += 0.4
    taken.guard()
    with pytest.raises(LeaseLost, match="taken over"):
        lost.guard()


def test_who_has_lost_a_lease_cannot_release_or_finish_it(tmp_path: Path) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    lost = first.claim("a")
    assert lost is not None
    lost.release()
    taken = second.claim("a")
    assert taken is not None
    lost.release()
    lost.finish()
    taken.guard()


def test_a_released_lease_is_free_and_counts_no_crash(tmp_path: Path) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    lease = first.claim("a")
    assert lease is not None
    assert second.claim("a") is None
    lease.release()
    taken = second.claim("a")
    assert taken is not None
    assert taken.crashes == 0


def test_crashes_are_counted_until_the_work_gets_further(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    seen = []
    for mark in [None, None, (0, 1), None, (0, 2), None]:
        lease = mine.claim("a")
        assert lease is not None
        seen.append(lease.crashes)
        if mark is not None:
            lease.reached(*mark)
        lease.release(crashed=True)
    assert seen == [0, 1, 2, 1, 2, 1]


def test_a_guard_that_the_disk_does_not_answer_stops_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    lease = leases(tmp_path, read=disk).claim("a")
    assert lease is not None
    monkeypatch.setattr(time, "sleep", lambda s: None)
    disk.error = OSError(5, "Input/output error")
    with pytest.raises(LeaseLost):
        lease.guard()


def test_a_frozen_process_is_judged_by_its_counter(tmp_path: Path) -> None:
    results = FORK.Queue()
    other = FORK.Process(target=claim_and_wait, args=(tmp_path, results))
    other.start()
    results.get(timeout=20)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGSTOP)
    mine = leases(tmp_path, patience_s=1.0)
    began_s = time.monotonic()
    while mine.claim("a") is None:
        time.sleep(0.1)
        assert time.monotonic() - began_s < 10
    assert time.monotonic() - began_s > 0.9
    os.kill(other.pid, signal.SIGCONT)
    assert results.get(timeout=20) == "LeaseLost"
    other.join()


def claim_and_wait(folder: Path, results: Any) -> None:
    lease = leases(folder).claim("a")
    assert lease is not None
    results.put("claimed")
    while True:
        time.sleep(0.05)
        try:
            lease.guard()
        except LeaseLost:
            results.put("LeaseLost")
            return


def test_holders_lists_what_is_held(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    kept, given = mine.claim("kept"), mine.claim("given")
    assert kept is not None
    assert given is not None
    given.release()
    assert holders(tmp_path / "leases") == {"kept": this_process()}


@pytest.mark.parametrize("text", ["0", "-1", "soon"])
def test_a_patience_that_is_no_positive_number_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", text)
    with pytest.raises(ConfigError, match=f"LIGHTNING_SEP_LEASE_S = '{text}'"):
        stale_s()


def count_up(path: Path, times: int) -> None:
    lock = FileLock(path.with_name("lock"))
    for _ in range(times):
        with lock:
            value = int(path.read_text())
            path.write_text(str(value + 1))


def test_a_lock_keeps_8_processes_apart(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    processes = [FORK.Process(target=count_up, args=(path, 40)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert path.read_text() == "320"


HOLD = (
    "import sys, time; from pathlib import Path; from lightning_sep.sweep.lock import FileLock; "
    "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
)


def test_fault_8_a_lock_whose_holder_was_killed_goes_to_one_of_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    for _ in range(3):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        processes = [FORK.Process(target=count_up, args=(path, 5)) for _ in range(8)]
        for process in processes:
            process.start()
        holder.kill()
        holder.communicate()
        began_s = time.monotonic()
        for process in processes:
            process.join()
        assert time.monotonic() - began_s < 10
    assert path.read_text() == "120"


def test_fault_8_a_lock_from_another_machine_is_taken_over_after_its_grace(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    os.symlink("another boot|12|34|far|abc", path)
    began_s = time.monotonic()
    with FileLock(path, grace_s=0.5):
        assert time.monotonic() - began_s > 0.5
    assert not path.is_symlink()


def test_a_holder_that_was_taken_over_does_not_release_its_heirs_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    slow = FileLock(path)
    slow.acquire()
    path.unlink()
    heir = FileLock(path)
    heir.acquire()
    slow.release()
    assert heir.holder()
    heir.release()
    assert not path.is_symlink()
