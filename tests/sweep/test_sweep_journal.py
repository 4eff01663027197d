"""The journal: a torn last line is cut off before anybody writes or reads on."""

import io
import json
import os
import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from lightning_sep.errors import StorageError
from lightning_sep.leases.lock import FileLock
from lightning_sep.sweep import inside_optuna
from lightning_sep.sweep.inside_optuna import Storage
from lightning_sep.sweep.journal import Journal
from lightning_sep.sweep.journal import mend as mend_open


def study(path: Path) -> optuna.Study:
    journal = Journal(path, FileLock(path.with_name("lock")))
    return optuna.create_study(storage=Storage(journal), study_name="one", load_if_exists=True)


def mend(path: Path) -> Path | None:
    with path.open("rb+") as file:
        return mend_open(file, path)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.log"
    made = study(path)
    for value in (1.0, 2.0, 3.0):
        trial = made.ask()
        trial.suggest_float("x", 0, 1)
        made.tell(trial, value)
    return path


def test_fault_7_a_last_record_torn_at_any_byte_is_mended_and_kept(
    journal: Path, tmp_path: Path
) -> None:
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last + 1, len(whole)):
        folder = tmp_path / str(end)
        folder.mkdir()
        path = folder / "journal.log"
        path.write_bytes(whole[:end])
        made = study(path)
        assert len(made.get_trials()) == 3
        assert made.get_trials()[2].state == TrialState.RUNNING  # its tell was torn off
        made.tell(2, 3.0)
        assert [t.value for t in study(path).get_trials()] == [1.0, 2.0, 3.0]
        (kept,) = folder.glob("*.torn-*")
        assert kept.read_bytes() == whole[last:end]


def test_fault_7_a_line_torn_while_others_have_the_study_open_is_mended_before_they_append(
    journal: Path,
) -> None:
    made = study(journal)
    assert len(made.get_trials()) == 3
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    made.tell(made.ask(), 4.0)
    assert [t.value for t in made.get_trials()] == [1.0, 2.0, 3.0, 4.0]
    assert [t.value for t in study(journal).get_trials()] == [1.0, 2.0, 3.0, 4.0]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_whole_journal_is_left_alone(journal: Path) -> None:
    before = journal.read_bytes()
    assert mend(journal) is None
    assert journal.read_bytes() == before


def test_blocks_of_zeros_at_the_end_are_cut_off_as_well(journal: Path) -> None:
    before = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b"\0" * 9000 + b"\n")
    assert mend(journal) is not None
    assert journal.read_bytes() == before


def test_an_empty_journal_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.touch()
    assert mend(path) is None


def test_a_record_longer_than_a_block_is_found_whole(journal: Path) -> None:
    made = study(journal)
    made.set_user_attr("long", "x" * 20_000)
    before = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b'{"torn')
    mend(journal)
    assert journal.read_bytes() == before


def test_a_running_trial_taken_up_again_keeps_its_number_and_parameters(journal: Path) -> None:
    made = study(journal)
    trial = made.ask()
    value = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 0)
    again = study(journal)
    heir = Trial(again, again.get_trials()[3]._trial_id)
    assert heir.suggest_float("x", 0, 1) == value
    heir.report(0.4, 1)
    again.tell(heir, 4.0)
    (frozen,) = [t for t in study(journal).get_trials() if t.number == 3]
    assert frozen.intermediate_values == {0: 0.5, 1: 0.4}
    with pytest.raises(ValueError, match="COMPLETE"):
        made.tell(trial, 5.0)


def test_fault_11_a_full_disk_leaves_the_journal_whole(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(journal)
    before = journal.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            made.ask()
    assert journal.read_bytes()[: len(before)] == before
    made.tell(made.ask(), 5.0)
    assert study(journal).get_trials()[-1].value == 5.0


ODD = [
    (b"[1, 2]", "it is no object"),
    (b'{"op_code": 4}', "worker_id is missing"),
    (b'{"op_code": 77, "worker_id": "a"}', "op_code 77 is unknown"),
    (b'{"op_code": 4, "worker_id": "a", "study_id": "0"}', "study_id is missing"),
    (b"{", "it is no JSON"),
]


@pytest.mark.parametrize(("line", "wrong"), ODD, ids=[wrong for _, wrong in ODD])
def test_a_line_that_is_no_record_is_named_once_kept_and_passed_over(
    journal: Path, line: bytes, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:6], line + b"\n", *lines[6:]]))
    before = journal.read_bytes()
    made = study(journal)
    assert [trial.value for trial in made.get_trials()] == [1.0, 2.0, 3.0]
    made.tell(made.ask(), 4.0)
    assert [trial.value for trial in study(journal).get_trials()] == [1.0, 2.0, 3.0, 4.0]
    assert journal.read_bytes().startswith(before), "what is there stays as it is"
    (kept,) = journal.parent.glob("journal.log.damaged-*")
    assert kept.read_bytes() == line + b"\n"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2, "each process names it once"
    assert wrong in said[0]
    assert f"kept in {kept.name}" in said[0]


def test_who_only_looks_writes_nothing_and_makes_nothing(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:6], b"[]\n", *lines[6:], b'{"torn']))
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    looked = Journal(journal, None)
    for _ in range(2):
        assert len(list(looked.read_logs(0))) == len(lines)
    said = capsys.readouterr().err
    assert said.count("it is no object; it is passed over") == 1, "it is named once"
    with pytest.raises(StorageError, match="opened to be looked at"):
        looked.append_logs([{"op_code": 4}])
    assert list(Journal(tmp_path / "none" / "journal.log", None).read_logs(0)) == []
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_records_are_read_from_any_one_on(journal: Path) -> None:
    made = Journal(journal, FileLock(journal.with_name("lock")))
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for first in [0, 3, len(records), 1, 5, 2]:
        assert list(made.read_logs(first)) == records[first:]
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert list(made.read_logs(4)) == records[4:]


@pytest.fixture
def long(journal: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """130 trials, and a snapshot of the first hundred."""
    made = study(journal)
    space = {"x": FloatDistribution(0, 1)}
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        for number in range(3, 130):
            made.add_trial(
                create_trial(params={"x": 0.5}, distributions=space, value=float(number))
            )
    return journal


def read(path: Path) -> tuple[int, list[FrozenTrial]]:
    """How many records a process that opens a study reads, and the trials that it sees."""
    numbers: list[int] = []

    class Counted(Journal):
        def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
            for record in super().read_logs(log_number_from):
                numbers.append(log_number_from)
                yield record

    made = Counted(path, FileLock(path.with_name("lock")))
    trials = optuna.load_study(storage=Storage(made), study_name="one").get_trials()
    return len(numbers), trials


def test_who_opens_a_study_of_many_trials_reads_what_came_after_its_snapshot(long: Path) -> None:
    count, trials = read(long)
    snapshot = long.with_name("journal.snapshot")
    kept = snapshot.read_bytes()
    snapshot.unlink()
    every, same = read(long)
    assert trials == same
    assert [trial.value for trial in trials[3:]] == [float(n) for n in range(3, 130)]
    assert every == len(long.read_bytes().splitlines())
    begun = [
        n for n, line in enumerate(long.read_bytes().splitlines(), 1) if b'"op_code":4' in line
    ]
    assert count == every - begun[100]
    snapshot.write_bytes(kept)
    made = study(long)  # goes on, and lays the next one
    made.add_trials(trials[30:])
    made.tell(made.ask(), 5.0)
    assert [trial.value for trial in made.get_trials()[-2:]] == [129.0, 5.0]
    assert snapshot.read_bytes() != kept
    count, trials = read(long)
    assert count == 29 + 2, "what came after trial 200"
    assert trials == made.get_trials()
    assert sorted(one.name for one in long.parent.iterdir()) == ["journal.log", "journal.snapshot"]


def test_a_snapshot_that_does_not_fit_is_not_used(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = long.with_name("journal.snapshot")
    whole, kept = long.read_bytes(), snapshot.read_bytes()
    every = len(whole.splitlines())
    first = b'"values":[1.0]'
    assert first in whole
    long.write_bytes(whole.replace(first, b'"values":[7.0]', 1))
    count, trials = read(long)
    assert (count, trials[0].value) == (every, 7.0), "another journal is in its place"
    long.write_bytes(whole)
    for place in (3, len(kept) // 2, len(kept) - 9):
        snapshot.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        assert read(long)[0] == every, f"damaged at byte {place}"
    for content in (b"", b"[]\n", kept[:-1], kept + b"x"):
        snapshot.write_bytes(content)
        assert read(long)[0] == every
    snapshot.write_bytes(kept)
    monkeypatch.setattr(optuna, "__version__", "5.99")
    assert read(long)[0] == every, "another Optuna may write it in another way"


class Hostile:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_a_snapshot_that_holds_anything_but_a_study_is_not_loaded(
    long: Path, tmp_path: Path
) -> None:
    """Its checksums fit: whoever can write the home can make them."""
    place = tmp_path / "made"
    with_it = Journal(long, FileLock(long.with_name("lock")))
    every = len(list(with_it.read_logs(0)))
    with_it.save_snapshot(pickle.dumps([Hostile(place)]))
    assert read(long)[0] == every
    assert not place.exists()


class Got:
    """A pickle that gets something of something when it is loaded."""

    def __init__(self, *what: object) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.what


def test_of_an_enumeration_its_members_are_got_and_of_others_nothing() -> None:
    """Python up to 3.11.3 writes a member so."""

    def loaded(*what: object) -> Any:
        return inside_optuna._Snapshot(io.BytesIO(pickle.dumps(Got(*what)))).load()

    assert loaded(TrialState, "COMPLETE") is TrialState.COMPLETE
    for what in [(FrozenTrial, "__init__"), (TrialState, "__init__"), ("text", "format")]:
        with pytest.raises((pickle.UnpicklingError, KeyError)):
            loaded(*what)


def test_who_only_looks_opens_no_pickle(long: Path) -> None:
    assert Journal(long, FileLock(long.with_name("lock"))).load_snapshot() is not None
    assert Journal(long, None).load_snapshot() is None


def test_fault_29_whoever_breaks_a_lock_lets_nobody_append_to_the_old_journal(
    journal: Path,
) -> None:
    """A far holder that has opened the journal before it was frozen writes into nothing."""
    frozen = journal.open("ab")
    lock = FileLock(journal.with_name("lock"), grace_s=0.2)
    os.symlink("another boot|12|34|far|abc", lock.path)
    made = Journal(journal, lock)
    before, inode = journal.read_bytes(), journal.stat().st_ino
    record = json.loads(before.splitlines()[-1])
    made.append_logs([record])
    assert journal.stat().st_ino != inode
    frozen.write(b"what was decided long ago\n")
    frozen.close()
    whole = journal.read_bytes()
    assert whole.startswith(before)
    assert json.loads(whole[len(before) :]) == record
    inode = journal.stat().st_ino
    made.append_logs([record])
    assert journal.stat().st_ino == inode, "once is enough"
    assert sorted(path.name for path in journal.parent.iterdir()) == ["journal.log"]


def test_a_record_is_on_the_disk_when_it_is_said_to_be(
    journal: Path, synced: list[tuple[Path, bytes | None]]
) -> None:
    made = Journal(journal, FileLock(journal.with_name("lock")))
    before = journal.read_bytes()
    record = json.loads(before.splitlines()[-1])
    synced.clear()
    made.append_logs([record, record])
    assert synced == [(journal, journal.read_bytes())]
    whole = journal.read_bytes()
    assert whole.startswith(before)
    with journal.open("ab") as file:
        file.write(b'{"torn')
    synced.clear()
    mend(journal)
    assert [path.name.partition(".torn-")[0] for path, _ in synced[:1]] == [".journal.log"]
    assert synced[-1] == (journal, whole), "its end is cut off for good"


def test_a_copy_in_the_place_of_the_journal_is_on_the_disk_first(
    journal: Path, synced: list[tuple[Path, bytes | None]]
) -> None:
    lock = FileLock(journal.with_name("lock"))
    made = Journal(journal, lock)
    before = journal.read_bytes()
    lock.taken_over = True
    synced.clear()
    made.append_logs([json.loads(before.splitlines()[-1])])
    (aside, copied), folder, (path, _) = synced
    assert aside.name.startswith(".journal.log.aside-")
    assert (copied, folder, path) == (before, (journal.parent, None), journal)
    assert lock.taken_over is False
