"""The journal: a torn last line is cut off before anybody writes or reads on."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import Trial, TrialState

from lightning_sep.errors import StorageError
from lightning_sep.leases.lock import FileLock
from lightning_sep.sweep.journal import Journal
from lightning_sep.sweep.journal import mend as mend_open


def study(path: Path) -> optuna.Study:
    journal = Journal(path, FileLock(path.with_name("lock")))
    return optuna.create_study(
        storage=JournalStorage(journal), study_name="one", load_if_exists=True
    )


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
    import os

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
