"""A disk that is full or does not answer is waited for; what else is wrong is told at once."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lightning_sep import fsio
from lightning_sep.fsio import Patience, append_line, link_first, link_over, make_folder


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, time_s: float) -> None:
        self.now_s += time_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(fsio, "time", made)
    return made


class Failing:
    """Fails so many times."""

    def __init__(self, times: float, number: int = errno.ESTALE) -> None:
        self.times, self.number, self.asked_s = times, number, list[float]()

    def __call__(self) -> str:
        self.asked_s.append(fsio.time.monotonic())
        if len(self.asked_s) <= self.times:
            raise OSError(self.number, os.strerror(self.number), "file")
        return "read"


WAITED_FOR = [errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.ENOSPC, errno.EDQUOT]


@pytest.mark.parametrize("number", WAITED_FOR, ids=errno.errorcode.get)
def test_fault_27_and_11_what_fails_for_a_while_is_tried_again(clock: Clock, number: int) -> None:
    action = Failing(9, number)
    assert Patience(wait_s=600).until_back(action) == "read"
    pauses = [b - a for a, b in zip(action.asked_s, action.asked_s[1:], strict=False)]
    wanted = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert pauses == pytest.approx(wanted, abs=0.21)
    assert pauses[:2] == pytest.approx(wanted[:2])


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EROFS])
def test_what_will_not_come_back_is_told_at_once(clock: Clock, number: int) -> None:
    action = Failing(9, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        Patience(wait_s=600).until_back(action)
    assert len(action.asked_s) == 1


def test_without_patience_nothing_is_waited_for(clock: Clock) -> None:
    with pytest.raises(OSError, match="Stale"):
        Patience().until_back(Failing(1))
    assert clock.now_s == 0


def test_patience_ends(clock: Clock) -> None:
    with pytest.raises(OSError, match="Stale"):
        Patience(wait_s=60).until_back(Failing(float("inf")))
    assert 60 <= clock.now_s < 66


def test_whoever_is_asked_to_end_waits_no_longer(clock: Clock) -> None:
    with pytest.raises(OSError, match="Stale"):
        Patience(wait_s=600, stop=lambda: clock.now_s > 7).until_back(Failing(float("inf")))
    assert 7 < clock.now_s < 7.5, "within a pause too"


def test_what_is_waited_for_is_told_and_life_is_shown(clock: Clock) -> None:
    told: list[str | None] = []
    pulses: list[float] = []
    waiting = Patience(wait_s=600, tell=told.append, pulse=lambda: pulses.append(clock.now_s))
    waiting.until_back(Failing(3))
    assert told == ["Stale file handle: file"] * 3 + [None]
    assert len(pulses) >= 3
    told.clear()
    waiting.until_back(Failing(0))
    assert told == []


def test_fault_27_a_home_that_is_away_is_waited_for_and_never_made_anew(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "runs"
    waiting = Patience(wait_s=600, home=home)
    monkeypatch.setattr(fsio, "PATIENCE", waiting)
    assert waiting.away()
    with pytest.raises(FileNotFoundError):
        make_folder(home / "a" / "b")
    assert not home.exists()

    def read() -> str:
        if clock.now_s > 3:
            home.mkdir(exist_ok=True)
            (home / "file").write_text("back")
        return (home / "file").read_text()

    assert waiting.until_back(read) == "back"
    assert not waiting.away()
    make_folder(home / "a" / "b")
    assert (home / "a" / "b").is_dir()
    with pytest.raises(FileNotFoundError):  # the home is there: the file is missing for good
        waiting.until_back((home / "none").read_text)


def test_of_several_writers_the_first_wins(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert link_first(path, "first")
    assert not link_first(path, "second")
    assert link_first(path, "first"), "its own text, as after an answer that was lost"
    assert path.read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_disk_without_links_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    path, source = tmp_path / "a", tmp_path / "b"
    assert link_first(path, "first")
    assert not link_first(path, "second")
    assert path.read_text() == "first"
    source.write_text("new")
    link_over(source, path)
    assert path.read_text() == "new"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


def test_other_errors_of_a_link_are_no_lack_of_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "b").write_text("new")
    with pytest.raises(OSError, match="cross-device"):
        link_first(tmp_path / "a", "first")
    with pytest.raises(OSError, match="cross-device"):
        link_over(tmp_path / "b", tmp_path / "a")
    assert [one.name for one in tmp_path.iterdir()] == ["b"]


def test_fault_26_a_guard_is_asked_when_the_file_is_open_already(tmp_path: Path) -> None:
    """Whoever takes over puts another file there; this line goes to the old one."""
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n')

    def taken_over() -> None:
        path.rename(tmp_path / "old")
        path.write_text('{"b": 2}\n')

    append_line(path, '{"c": 3}', taken_over)
    assert path.read_text() == '{"b": 2}\n'
    assert (tmp_path / "old").read_text() == '{"a": 1}\n{"c": 3}\n'


def test_a_line_that_did_not_reach_the_disk_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    path, sync, failed = tmp_path / "lines", os.fsync, list[int]()

    def full(handle: int) -> None:
        if len(failed) < 2:
            failed.append(handle)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(fsio, "PATIENCE", Patience(wait_s=60))
    append_line(path, '{"a": 1}')
    assert path.read_text() == '{"a": 1}\n'
    assert len(failed) == 2
