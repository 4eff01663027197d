"""Leases and locks: one holder, a bounded takeover, no clock compared with another."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError, Interrupted, LeaseLost
from lightning_sep.fsio import PATIENCE
from lightning_sep.leases import lease as lease_module
from lightning_sep.leases import lock as lock_module
from lightning_sep.leases.lease import Content, Leases, forget_crashes
from lightning_sep.leases.lock import FileLock
from lightning_sep.leases.presence import Peers, Presence, patience_s
from lightning_sep.leases.process import Owner, this_process

ROOT = Path(__file__).parents[2]
FORK = multiprocessing.get_context("fork")


def leases(
    folder: Path, *, patience: float = 15.0, progress: Callable[[Any], Any] | None = None
) -> Leases:
    workers = folder / "workers"
    presence = Presence(workers, patience_s=patience).start()
    more = {} if progress is None else {"progress": progress}
    (folder / "leases").mkdir(parents=True, exist_ok=True)
    return Leases(
        presence, Peers(workers), path=lambda key: folder / "leases" / f"{key}.json", **more
    )


def elsewhere(folder: Path, key: str) -> None:
    """Let a lease look as if its worker ran on another machine."""
    path = folder / "leases" / f"{key}.json"
    record = json.loads(path.read_text())
    record["owner"] |= {"host": "far", "world": "another boot"}
    path.write_text(json.dumps(record))


def until(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.02)
    return found


def claim_all(folder: Path, count: int, results: Any) -> None:
    mine = leases(folder)
    results.put([key for key in range(count) if mine.claim(f"run-{key}") is not None])
    time.sleep(1.5)  # alive until all have claimed


def test_fault_5_each_of_200_leases_is_won_by_one_of_8_processes(tmp_path: Path) -> None:
    results = FORK.Queue()
    processes = [FORK.Process(target=claim_all, args=(tmp_path, 200, results)) for _ in range(8)]
    for process in processes:
        process.start()
    won = [key for _ in processes for key in results.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(won) == list(range(200))


def hold(folder: Path, patience: float, results: Any) -> None:
    lease = leases(folder, patience=patience).claim("a")
    assert lease is not None
    results.put(lease.generation)
    while True:
        time.sleep(0.05)
        try:
            lease.guard()
        except LeaseLost:
            results.put("LeaseLost")
            return


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """Another process that holds the lease ``a``, with a patience of a second and a half."""
    results = FORK.Queue()
    process = FORK.Process(target=hold, args=(tmp_path, 1.5, results))
    process.start()
    assert results.get(timeout=20) == 1
    process.results = results
    yield process
    process.kill()
    process.join()


def test_a_lease_whose_process_is_gone_is_free_at_once(tmp_path: Path, holder: Any) -> None:
    mine = leases(tmp_path)
    assert mine.claim("a") is None
    holder.kill()
    holder.join()
    lease = mine.claim("a")
    assert lease is not None
    assert lease.crashes == 1
    assert lease.generation == 2


def test_fault_9_a_living_worker_far_away_keeps_its_lease(tmp_path: Path, holder: Any) -> None:
    elsewhere(tmp_path, "a")
    mine = leases(tmp_path)
    end_s = time.monotonic() + 4  # more than twice its patience
    while time.monotonic() < end_s:
        assert mine.claim("a") is None
        time.sleep(0.1)


def test_fault_9_a_worker_far_away_that_is_gone_loses_its_lease_after_its_patience(
    tmp_path: Path, holder: Any
) -> None:
    elsewhere(tmp_path, "a")
    mine = leases(tmp_path)
    holder.kill()
    holder.join()
    (sign,) = [path for path in (tmp_path / "workers").glob("*.alive") if mine_not(mine, path)]
    text = sign.read_text()
    sign.write_text(text.replace("host=", "host=far-"))  # nor can its process be looked up there
    began_s = time.monotonic()
    lease = until(lambda: mine.claim("a"))
    assert time.monotonic() - began_s > 1.4
    assert lease.crashes == 1
    assert lease.generation == 2


def mine_not(mine: Leases, path: Path) -> bool:
    return path.stem != mine.presence.worker


def test_fault_9_a_worker_far_away_that_has_left_is_gone_at_once(tmp_path: Path) -> None:
    theirs, mine = leases(tmp_path), leases(tmp_path)
    assert theirs.claim("a") is not None
    elsewhere(tmp_path, "a")
    assert mine.claim("a") is None
    theirs.presence.stop()
    taken = mine.claim("a")
    assert taken is not None
    assert (taken.crashes, taken.generation) == (1, 2)


@pytest.mark.parametrize("offset_s", [-600.0, 600.0])
def test_fault_9_clocks_apart_and_signs_of_any_age_say_nothing(
    tmp_path: Path, offset_s: float
) -> None:
    theirs, mine = leases(tmp_path, patience=1.0), leases(tmp_path)
    assert theirs.claim("a") is not None
    elsewhere(tmp_path, "a")
    theirs.presence._sign._stop_heartbeat()
    sign = tmp_path / "workers" / f"{theirs.presence.worker}.alive"
    sign.write_text(sign.read_text().replace("host=", "host=far-"))
    for beat in range(20):
        at_s = time.time() + offset_s + beat
        os.utime(sign, (at_s, at_s))
        assert mine.claim("a") is None
        time.sleep(0.1)


def test_a_frozen_process_is_taken_over_and_told_when_it_wakes(tmp_path: Path, holder: Any) -> None:
    mine = leases(tmp_path)
    os.kill(holder.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    taken = until(lambda: mine.claim("a"))
    assert time.monotonic() - began_s > 1.4
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.results.get(timeout=20) == "LeaseLost"
    taken.guard()
    holder.join()


def test_a_process_that_wakes_shows_life_again(tmp_path: Path, holder: Any) -> None:
    peers = Peers(tmp_path / "workers")
    (worker,) = peers.shown() or set()
    os.kill(holder.pid, signal.SIGSTOP)
    until(lambda: peers.probe(worker))
    assert peers.shown() == set()
    assert peers.read(worker) is None
    os.kill(holder.pid, signal.SIGCONT)
    until(lambda: peers.shown() == {worker})
    assert not peers.probe(worker)
    until(lambda: peers.read(worker) is not None)  # and says again what it works on


def test_somebody_looks_at_each_worker(tmp_path: Path, holder: Any) -> None:
    workers = tmp_path / "workers"
    presence, peers = Presence(workers, patience_s=1.0), Peers(workers)
    presence.chores.append(lambda: peers.look_after(presence))
    with presence:
        until(lambda: len(peers.shown() or ()) == 2)
        os.kill(holder.pid, signal.SIGSTOP)
        until(lambda: peers.shown() == {presence.worker})
    assert peers.shown() == set()


def test_every_claim_has_a_greater_generation(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    seen = []
    for above in (0, 0, 7, 0):
        lease = mine.claim("a", above=above)
        assert lease is not None
        seen.append(lease.generation)
        lease.finish(keep=True)
    assert seen == [1, 2, 8, 9]


def test_a_number_that_another_process_got_is_not_the_same_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = this_process()
    assert me.alive()
    assert Owner(me.host, me.world, me.pid, "1").alive() is False
    assert Owner(me.host, "another boot", me.pid, me.start).alive() is None

    def unreadable(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    assert me.alive() is None, "that says nothing of the process"


def test_a_process_that_has_ended_is_gone_though_nobody_has_asked_how() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        owner = replace(this_process(), pid=process.pid, start=started(process.pid))
        assert owner.alive()
        process.kill()
        until(lambda: owner.alive() is False)


def started(pid: int) -> str:
    """When a process of a plain name was started, as /proc has it."""
    return Path(f"/proc/{pid}/stat").read_text().split()[21]


def test_a_process_may_call_itself_what_it_likes() -> None:
    """Its name stands before its start in /proc, spaces, brackets and broken UTF-8 as they are."""
    command = "open('/proc/self/comm', 'wb').write(b') S 1 \\xff'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        name = Path(f"/proc/{process.pid}/comm").read_bytes()
        me = this_process()
        alive = Owner(me.host, me.world, process.pid, me.start).alive()
        process.communicate(b"\n")
    assert name == b") S 1 \xff\n"
    assert alive is False  # begun later than this process


def test_an_owner_is_read_by_name_whatever_else_is_said() -> None:
    me = this_process()
    assert Owner.read({**me.as_json(), "later": 1}) == me
    assert Owner.read({"host": "a"}) is None
    assert Owner.read(["a"]) is None


def test_a_read_error_shorter_than_the_patience_of_the_disk_is_no_lost_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = leases(tmp_path).claim("a")
    assert lease is not None
    errors = [OSError(116, "Stale file handle")] * 3
    read = Path.read_text

    def unreliable(self: Path, *rest: Any) -> str:
        if self == lease.path and errors:
            raise errors.pop()
        return read(self, *rest)

    monkeypatch.setattr(Path, "read_text", unreliable)
    monkeypatch.setattr(PATIENCE, "wait_s", 20.0)
    lease.guard()
    assert not errors


def test_a_lease_file_that_is_away_for_a_moment_is_no_lost_lease(tmp_path: Path) -> None:
    mine = leases(tmp_path, patience=2.0)
    lease = mine.claim("a")
    assert lease is not None
    away = lease.path.with_name("away")
    lease.path.rename(away)
    script = f"sleep 0.5; mv {away} {lease.path}"
    with subprocess.Popen(["sh", "-c", script]):
        lease.guard()
    lease.path.unlink()
    began_s = time.monotonic()
    with pytest.raises(LeaseLost):
        lease.guard()
    assert time.monotonic() - began_s > 1.9


def test_fault_27_a_lease_in_a_home_that_is_away_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home" / "a.json"
    assert Content.read(path) is None
    monkeypatch.setattr(PATIENCE, "home", path.parent)
    with pytest.raises(FileNotFoundError):
        Content.read(path)


def test_a_disk_that_does_not_say_who_lives_takes_nobody_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = leases(tmp_path), leases(tmp_path)
    assert theirs.claim("a") is not None
    elsewhere(tmp_path, "a")

    def unreadable(folder: Path) -> list[str]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", unreadable)
        assert mine.peers.shown() is None
        assert mine.claim("a") is None
        assert not mine.any_free(["a", "b"]), "nor does it say that there is work"
    away = tmp_path / "away"
    assert Peers(away / "workers").shown() == set()
    monkeypatch.setattr(PATIENCE, "home", away)
    assert Peers(away / "workers").shown() is None


def test_what_a_living_worker_has_dropped_is_free(tmp_path: Path) -> None:
    theirs, mine = leases(tmp_path), leases(tmp_path)
    lease = theirs.claim("a")
    assert lease is not None
    assert mine.claim("a") is None
    theirs.presence.note.write_text("{")  # what he says of himself cannot be read just now
    assert mine.claim("a") is None
    lease.drop()  # without a word in the lease's file, as after a disk that did not answer
    taken = mine.claim("a")
    assert taken is not None
    assert taken.generation == 2
    with pytest.raises(LeaseLost):
        lease.guard()


def test_a_worker_takes_up_again_what_it_has_dropped_itself(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    lease = mine.claim("a")
    assert lease is not None
    assert mine.claim("a") is None
    lease.drop()
    again = mine.claim("a")
    assert again is not None
    assert again.crashes == 0
    with pytest.raises(LeaseLost):
        lease.guard()


def test_who_has_lost_a_lease_cannot_release_or_finish_it_or_say_anything_of_it(
    tmp_path: Path,
) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    lost = first.claim("a")
    assert lost is not None
    lost.release()
    taken = second.claim("a")
    assert taken is not None
    lost.release()
    lost.is_about(run="x")
    lost.finish()
    taken.guard()
    assert Content.read(taken.path) == taken.content


def test_a_released_lease_is_free_and_counts_no_crash(tmp_path: Path) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    lease = first.claim("a")
    assert lease is not None
    assert second.claim("a") is None
    lease.release()
    assert not lease.ours(), "whoever has given it back writes no more"
    assert not first.presence.holds(lease.content.token)
    taken = second.claim("a")
    assert taken is not None
    assert taken.crashes == 0


def test_crashes_are_counted_until_the_work_gets_further(tmp_path: Path) -> None:
    reached: list[Any] = [None]
    mine = leases(tmp_path, progress=lambda about: reached[0])
    seen = []
    for mark in [None, None, [0, 1], [0, 1], [0, 2], [1, 0], [1, 0]]:
        lease = mine.claim("a")
        assert lease is not None
        seen.append(lease.crashes)
        reached[0] = mark
        lease.release(crashed=True)
    assert seen == [0, 1, 2, 1, 2, 1, 1]


def test_what_is_done_and_kept_begins_anew_under_a_greater_generation(tmp_path: Path) -> None:
    mine = leases(tmp_path, progress=lambda about: [3])
    path = tmp_path / "leases" / "a.json"
    first = mine.claim("a", above=6)
    assert first is not None
    first.is_about(run="x")
    first.release(crashed=True)
    again = mine.claim("a", above=2)
    assert again is not None
    seen = (again.generation, again.crashes, again.content.mark, again.content.about)
    assert seen == (8, 1, [3], {"run": "x"})
    assert Content.read(path) == again.content
    again.finish(keep=True)
    content = Content.read(path)
    assert content is not None
    assert (content.generation, content.token, content.crashes, content.mark) == (8, "", 0, None)
    third = mine.claim("a")
    assert third is not None
    assert (third.generation, third.crashes) == (9, 0)
    third.finish()
    assert not path.exists()


def test_a_claim_is_said_before_it_is_written_and_taken_back_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = leases(tmp_path)
    said = []

    def fails(lease: lease_module.Lease) -> None:
        note = mine.peers.read(mine.presence.worker)
        assert note is not None
        said.append(note["tokens"] == [lease.content.token])
        raise OSError("no")

    monkeypatch.setattr(lease_module.Lease, "write", fails)
    with pytest.raises(OSError, match="no"):
        mine.claim("a")
    assert said == [True]
    note = mine.peers.read(mine.presence.worker)
    assert note is not None
    assert note["tokens"] == []
    assert note["owner"] == this_process().as_json()


def test_forgotten_crashes_free_what_the_dead_held(tmp_path: Path, holder: Any) -> None:
    path = tmp_path / "leases" / "a.json"
    forget_crashes(path)
    assert Content.read(path).token  # its process lives
    holder.kill()
    holder.join()
    forget_crashes(path)
    content = Content.read(path)
    assert content is not None
    assert (content.token, content.crashes, content.generation) == ("", 0, 1)
    far = content.as_json() | {"token": "t", "crashes": 2}
    path.write_text(json.dumps(far))
    elsewhere(tmp_path, "a")
    forget_crashes(path)  # whoever holds it there may live
    content = Content.read(path)
    assert content is not None
    assert (content.token, content.crashes) == ("t", 0)


def test_a_poll_looks_at_few_leases_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = leases(tmp_path), leases(tmp_path)
    keys = [f"trial-{number}" for number in range(60)]
    for key in keys:
        assert theirs.claim(key) is not None
    assert not mine.any_free(keys)
    looked = []
    read = Content.read
    monkeypatch.setattr(
        lease_module.Content, "read", staticmethod(lambda path: looked.append(path) or read(path))
    )
    for _ in range(5):
        assert not mine.any_free(keys)
    assert len(looked) == 5
    notes = []
    note = Peers.read
    monkeypatch.setattr(
        Peers, "read", lambda self, worker: notes.append(worker) or note(self, worker)
    )
    for _ in range(5):
        assert not mine.any_free(keys)
    assert len(notes) == 5
    theirs.presence.stop()
    assert mine.any_free(keys)
    assert all(mine.maybe_free(key) for key in keys)


OPENED: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event in ("open", "os.listdir", "os.mkdir", "os.remove"):
        OPENED.append(str(arguments[0]))


def test_a_poll_opens_few_files_however_many_workers_there_are(tmp_path: Path) -> None:
    global OPENED
    mine = leases(tmp_path)
    keys = [f"trial-{number}" for number in range(12)]
    theirs = [leases(tmp_path) for _ in keys]
    for key, one in zip(keys, theirs, strict=True):
        assert one.claim(key) is not None
    for _ in range(3 * len(keys)):  # the first looks at a worker are close ones
        assert not mine.any_free(keys)
    sys.addaudithook(_note_opened)
    OPENED = []
    try:
        for _ in keys:
            assert not mine.any_free(keys)
    finally:
        here, OPENED = [name for name in OPENED if str(tmp_path) in name], None
    for one in [mine, *theirs]:
        one.presence.stop()
    assert len(keys) <= len(here) <= 4 * len(keys)


def test_what_a_living_worker_dropped_among_many_is_found_in_turn(tmp_path: Path) -> None:
    theirs, mine = leases(tmp_path), leases(tmp_path)
    keys = [f"trial-{number}" for number in range(6)]
    held = [theirs.claim(key) for key in keys]
    assert not mine.any_free(keys)
    assert held[4] is not None
    held[4].drop()
    assert sum(mine.any_free(keys) for _ in keys) == 1


def test_what_a_worker_dropped_itself_it_finds_at_once(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    keys = [f"trial-{number}" for number in range(6)]
    held = [mine.claim(key) for key in keys]
    assert not mine.any_free(keys)
    assert held[4] is not None
    held[4].drop()
    for _ in keys:
        assert mine.any_free(keys)
        assert [key for key in keys if mine.maybe_free(key)] == ["trial-4"]


def test_work_that_failed_in_a_process_waits_for_another_one(tmp_path: Path) -> None:
    first, second = leases(tmp_path), leases(tmp_path)
    lease = first.claim("a")
    assert lease is not None
    lease.is_about(failed_by=[first.presence.worker])
    lease.release()
    assert not first.any_free(["a"])
    assert first.for_others(["a"])
    assert second.any_free(["a"])
    assert not second.for_others(["a"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"token": 1}', '{"generation": "x"}'])
def test_a_lease_file_of_another_shape_is_nobodys_claim(tmp_path: Path, text: str) -> None:
    mine = leases(tmp_path)
    (tmp_path / "leases" / "a.json").write_text(text)
    lease = mine.claim("a")
    assert lease is not None
    lease.guard()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_a_patience_that_is_no_positive_number_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", text)
    with pytest.raises(ConfigError, match=f"LIGHTNING_SEP_LEASE_S = '{text}'"):
        patience_s()


def test_nothing_is_left_of_a_worker_that_leaves(tmp_path: Path) -> None:
    presence = Presence(tmp_path / "workers", patience_s=1.0).start()
    presence.hold("a")
    presence.stop()
    assert not list((tmp_path / "workers").iterdir())


def test_what_killed_workers_left_is_tidied_up(tmp_path: Path, holder: Any) -> None:
    holder.kill()
    holder.join()
    assert len(list((tmp_path / "workers").iterdir())) == 2
    Peers(tmp_path / "workers").tidy()
    assert not list((tmp_path / "workers").iterdir())


def test_a_note_without_a_sign_of_life_is_tidied_up_too(tmp_path: Path, holder: Any) -> None:
    holder.kill()
    holder.join()
    for sign in (tmp_path / "workers").glob("*.alive"):
        sign.unlink()
    with Presence(tmp_path / "workers", patience_s=5.0) as mine:
        far = Owner("far", "another boot", 1, "1")
        note = {"owner": far.as_json(), "tokens": [], "waits_for": None}
        (tmp_path / "workers" / "far.json").write_text(json.dumps(note))
        (tmp_path / "workers" / "torn.json").write_text("{")  # whose it is cannot be told
        Peers(tmp_path / "workers").tidy()
        left = {path.stem for path in (tmp_path / "workers").iterdir()}
        assert left == {mine.worker, "far", "torn"}


def test_a_worker_far_away_lives_while_its_sign_is_younger_than_twice_its_own_patience(
    tmp_path: Path,
) -> None:
    theirs = leases(tmp_path, patience=4.0).presence
    theirs._sign._stop_heartbeat()
    peers, far = Peers(tmp_path / "workers"), Owner("far", "another boot", 1, "1")
    sign = tmp_path / "workers" / f"{theirs.worker}.alive"
    for age_s, lives in [(0, True), (7, True), (9, False), (3600, False)]:
        os.utime(sign, (time.time() - age_s,) * 2)
        assert peers.shows_life(theirs.worker, far) is lives
    assert peers.shows_life(theirs.worker, theirs.owner), "here its process can be looked up"
    assert not peers.shows_life("nobody", far)
    os.utime(sign)
    assert peers.shows_life(theirs.worker, far)
    later = leases(tmp_path).presence.worker  # by the disk's clock it is ten minutes later
    os.utime(tmp_path / "workers" / f"{later}.alive", (time.time() + 600,) * 2)
    assert not peers.shows_life(theirs.worker, far)


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
    "import sys, time; from pathlib import Path; from lightning_sep.leases.lock import FileLock; "
    "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def lock_holder(tmp_path: Path) -> Any:
    def start() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    return start


def test_fault_8_a_lock_whose_holder_was_killed_goes_to_one_of_the_waiting(
    tmp_path: Path, lock_holder: Any
) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    for _ in range(3):
        holder = lock_holder()
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
    assert [one.name for one in tmp_path.iterdir()] == ["count"]


def test_fault_29_a_lock_whose_holder_stands_still_on_this_machine_is_never_broken(
    tmp_path: Path, lock_holder: Any
) -> None:
    holder = lock_holder()
    holder.send_signal(signal.SIGSTOP)
    waiting = FORK.Process(target=FileLock(tmp_path / "lock", grace_s=0.3).acquire)
    waiting.start()
    waiting.join(timeout=2)
    assert waiting.is_alive()
    holder.kill()
    waiting.join(timeout=10)
    assert waiting.exitcode == 0
    holder.communicate()


def test_fault_8_a_lock_from_another_machine_is_taken_over_after_its_grace(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    os.symlink("another boot|12|34|far|abc", path)
    began_s = time.monotonic()
    lock = FileLock(path, grace_s=0.5)
    with lock:
        assert time.monotonic() - began_s > 0.5
        assert lock.taken_over
    assert not path.is_symlink()


def test_each_holder_from_another_machine_has_its_own_grace(tmp_path: Path) -> None:
    """However long all of them together keep somebody waiting."""
    path = tmp_path / "lock"
    changed: list[float] = []

    def hold(number: int) -> None:
        os.symlink(f"another boot|12|34|far|{number}", tmp_path / "next")
        changed.append(time.monotonic())
        (tmp_path / "next").rename(path)

    hold(0)
    taken: list[float] = []
    lock = FileLock(path, grace_s=2.0)
    waiting = threading.Thread(
        target=lambda: lock.acquire() and taken.append(time.monotonic()), daemon=True
    )
    waiting.start()
    for number in range(1, 11):
        time.sleep(0.3)
        hold(number)
    assert taken == []
    waiting.join(timeout=20)
    assert taken[0] - changed[-1] > 2.0


def test_fault_29_a_holder_that_was_broken_is_remembered_until_somebody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the next one that is found gone was taken away by somebody else."""
    lock = FileLock(tmp_path / "lock", grace_s=0.0)
    assert lock.taken_over is False
    os.symlink("another boot|12|34|far|abc", lock.path)
    with lock:
        assert lock.taken_over is True
    os.symlink("another boot|12|34|far|abc", lock.path)
    monkeypatch.setattr(lock, "_break", lambda token: bool(lock.path.unlink()))
    with lock:
        assert lock.taken_over is True


def test_fault_29_a_holder_far_away_that_was_broken_finds_out_before_it_writes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    slow = FileLock(path)
    with slow:
        slow.check()
        path.unlink()
        with FileLock(path), pytest.raises(LeaseLost, match="stood still"):
            slow.check()


def test_a_thread_that_gave_up_waiting_for_a_lock_keeps_no_other_thread_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    with FileLock(path), monkeypatch.context() as asked:
        asked.setattr(PATIENCE, "stop", lambda: True)
        asked.setattr(lock_module, "_STOP_S", 0.0)
        with pytest.raises(Interrupted, match=f"held by process {os.getpid()}"):
            lock.acquire()
    taken: list[bool] = []
    other = threading.Thread(target=lambda: taken.append(lock.acquire()), daemon=True)
    other.start()
    other.join(timeout=20)
    assert taken == [True]


def test_a_lock_that_was_made_though_the_disk_says_otherwise_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk whose answer is lost is asked again, and then there is a link."""
    make = os.symlink

    def asked_twice(text: str, path: Path) -> None:
        make(text, path)
        raise FileExistsError

    lock = FileLock(tmp_path / "lock")
    monkeypatch.setattr(os, "symlink", asked_twice)
    monkeypatch.setattr(PATIENCE, "stop", lambda: True)
    monkeypatch.setattr(lock_module, "_STOP_S", 0.0)
    with lock:
        lock.check()
    assert not lock.path.is_symlink()


def test_who_holds_a_lock_may_take_it_again(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    with lock, lock:
        pass
    assert not lock.path.is_symlink()
    with lock:
        with lock:
            pass
        assert lock.path.is_symlink()


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


@given(
    content=st.builds(
        Content,
        generation=st.integers(0),
        token=st.text(),
        worker=st.text(),
        owner=st.sampled_from([None, this_process()]),
        crashes=st.integers(0),
        mark=st.none() | st.lists(st.integers(), max_size=3),
        about=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())),
    )
)
def test_what_is_written_of_a_lease_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, content: Content
) -> None:
    path = tmp_path_factory.getbasetemp() / "lease.json"
    path.write_text(json.dumps(content.as_json()))
    assert Content.read(path) == content
