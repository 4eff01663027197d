"""Published sets: whatever part of one a user has, by what its table says."""

import hashlib
import shutil
from collections import defaultdict

import numpy as np
import pytest
import soundfile

from lightning_sep.data.arabic_commands import ArabicCommands
from lightning_sep.data.esc10 import Esc10
from lightning_sep.data.fsdd import Fsdd
from lightning_sep.data.kitchen20 import Kitchen20
from lightning_sep.data.librispeech import Librispeech
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.piano import Piano
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError


def clips(folds=("1", "2", "3"), per_fold=8):
    """Rows like those of ESC-10: two takes of each source, two classes."""
    return [
        {
            "filename": f"{fold}-{number}.flac",
            "fold": fold,
            "src_file": f"{fold}{number // 2}",
            "category": ["dog", "rain"][number // 4 % 2],
            "licence": "CC0",
        }
        for fold in folds
        for number in range(per_fold)
    ]


def splits_by(prepared, rows, column):
    """Splits in which each value of a column occurs."""
    value = {row["filename"]: row[column] for row in rows}
    found = defaultdict(set)
    for split in SPLITS:
        for cut in prepared.cuts(split):
            found[value[cut.recording.id]].add(split)
    return dict(found)


def test_folds_become_splits(published, tmp_path):
    rows = clips()
    prepared = Esc10().prepare_from(published(rows), tmp_path / "home")
    assert splits_by(prepared, rows, "fold") == {"1": {"train"}, "2": {"val"}, "3": {"test"}}


@pytest.mark.parametrize("folds", [["5"], ["4", "5"], ["1", "2", "3", "4", "5"]])
def test_another_part_of_a_set_is_accepted_and_shares_no_source(published, tmp_path, folds):
    rows = clips(folds, per_fold=24)
    prepared = Esc10().prepare_from(published(rows), tmp_path / "home")
    assert all(len(splits) == 1 for splits in splits_by(prepared, rows, "src_file").values())
    for split in SPLITS:
        assert next(iter(Mixtures(segment_s=0.2).loader(prepared, split, seed=0))).active.all()
        if len(folds) == 1:  # each class gives its share
            assert np.bincount(prepared.table(split).label).tolist() == [4, 4]


def test_a_single_fold_is_split_by_author(published, tmp_path):
    rows = [
        {
            "filename": f"{number}.flac",
            "fold": "7",
            "category": ["plates", "eat"][number % 2],
            "source_group": f"author{number // 3}",
        }
        for number in range(30)
    ]
    prepared = Kitchen20().prepare_from(published(rows), tmp_path / "home")
    assert all(len(splits) == 1 for splits in splits_by(prepared, rows, "source_group").values())


def words(of_split):
    return [
        {"filename": f"{who}/{n}.flac", "speaker": who, "word": f"w{n}", "split": split}
        for who, split in of_split.items()
        for n in range(2)
    ]


def test_test_speakers_are_carved_out_of_the_validation_speakers(published, tmp_path):
    upstream = {f"t{n}": "train" for n in range(5)} | {f"v{n}": "val" for n in range(4)}
    rows = words(upstream)
    prepared = ArabicCommands().prepare_from(published(rows), tmp_path / "home")
    found = splits_by(prepared, rows, "speaker")
    assert all(found[who] == {"train"} for who, split in upstream.items() if split == "train")
    assert sorted(min(found[f"v{n}"]) for n in range(4)) == ["test", "test", "val", "val"]
    assert prepared.source["split_rule"].startswith("by speaker: those published for training")


def test_a_part_with_one_upstream_split_is_still_speaker_disjoint(published, tmp_path):
    rows = words({f"t{n}": "test" for n in range(7)})
    prepared = ArabicCommands().prepare_from(published(rows), tmp_path / "home")
    assert prepared.source["split_rule"].startswith("by speaker, drawn: the published splits")
    assert all(len(splits) == 1 for splits in splits_by(prepared, rows, "speaker").values())


def test_validation_and_test_need_two_speakers_each(published, tmp_path):
    rows = words({f"t{n}": "train" for n in range(6)} | {f"v{n}": "val" for n in range(3)})
    prepared = ArabicCommands().prepare_from(published(rows), tmp_path / "home")
    assert prepared.source["split_rule"].startswith("by speaker, drawn: the published splits leave")
    assert len(set(prepared.table("test").speaker.tolist())) == 2


def test_what_can_be_heard_and_is_no_good_recording_is_kept_on_request(published, tmp_path):
    source = published(clips(per_fold=2), rate=900)
    with pytest.raises(DataError, match=r"its header says 900 Hz"):
        Esc10().prepare_from(source, tmp_path / "home")
    kept = Esc10(keep=True).prepare_from(source, tmp_path / "home").source["kept"]
    assert len(kept) == 6


def test_upstreams_test_speakers_are_kept(published, tmp_path):
    rows = words({"a": "train", "b": "val", "c": "test"})
    prepared = ArabicCommands().prepare_from(published(rows), tmp_path / "home")
    assert splits_by(prepared, rows, "speaker") == {"a": {"train"}, "b": {"val"}, "c": {"test"}}
    assert prepared.source["split_rule"] == "by speaker: as published"


def test_speakers_of_the_train_part_train(published, tmp_path):
    rows = [
        {
            "filename": f"{part}/{n}-{take}.flac",
            "part": part,
            "speaker": f"{part}{n}",
            "chapter": f"{n}{take // 2}",
        }
        for part, takes in {"train-clean-100": 1, "test-other": 3}.items()
        for n in range(5)
        for take in range(takes)
    ]
    prepared = Librispeech().prepare_from(published(rows), tmp_path / "home")
    assert all(len(splits) == 1 for splits in splits_by(prepared, rows, "speaker").values())
    assert splits_by(prepared, rows, "part") == {
        "train-clean-100": {"train"},
        "test-other": {"val", "test"},
    }
    assert prepared.source["split_rule"].startswith("by speaker: those of the train parts train")
    chapters = {row["filename"]: row["chapter"] for row in rows}
    for split in SPLITS:
        for cut in prepared.cuts(split):
            assert cut.supervisions[0].custom["session"] == chapters[cut.recording.id]


def test_too_few_speakers_outside_the_train_part_are_drawn_over_all_and_said_so(
    published, tmp_path
):
    rows = [
        {"filename": f"{part}/{n}.flac", "part": part, "speaker": f"{part}{n}"}
        for part, speakers in {"train-clean-100": 9, "test-other": 3}.items()
        for n in range(speakers)
    ]
    prepared = Librispeech().prepare_from(published(rows), tmp_path / "home")
    assert splits_by(prepared, rows, "part")["train-clean-100"] == set(SPLITS)
    assert prepared.source["split_rule"].startswith("by speaker, drawn over all parts")


def test_a_published_split_that_tears_a_speaker_is_refused(published, tmp_path):
    rows = words({"a": "train", "b": "val", "c": "test"})
    rows[1]["split"] = "test"
    with pytest.raises(DataError, match=r"speaker 'a' \('a/0.flac' in train, 'a/1.flac' in test\)"):
        ArabicCommands().prepare_from(published(rows), tmp_path / "home")


def test_a_source_in_two_folds_is_refused(published, tmp_path):
    rows = clips()
    rows[-1]["src_file"] = rows[0]["src_file"]
    with pytest.raises(DataError, match=r"source '10' \('1-0.flac' in train, '3-7.flac' in test\)"):
        Esc10().prepare_from(published(rows), tmp_path / "home")


@pytest.fixture
def digits(published):
    return published(
        [
            {"filename": f"{who}/{n}.flac", "speaker": who, "digit": str(n)}
            for who in ("ann", "ben", "cy", "dee", "eve")
            for n in range(6)
        ]
    )


def test_five_speakers_are_too_few_to_compare_held_out_ones(digits, tmp_path):
    prepared = Fsdd().prepare_from(digits, tmp_path / "home")
    with pytest.raises(DataError, match=r"has 1 speakers.*data.held_out=shared"):
        Snippets(segment_s=0.2).loader(prepared, "test", seed=0)


def test_shared_held_out_speakers_share_no_file_and_were_not_trained_on(digits, tmp_path):
    prepared = Fsdd(held_out="shared").prepare_from(digits, tmp_path / "home")
    speakers = {split: set(prepared.table(split).speaker.tolist()) for split in SPLITS}
    assert speakers["val"] == speakers["test"]
    assert not speakers["train"] & speakers["test"]
    recordings = [set(prepared.table(split).recording.tolist()) for split in SPLITS]
    assert sum(map(len, recordings)) == 30
    halves = [np.bincount(prepared.table(split).speaker) for split in ("val", "test")]
    assert np.array_equal(*halves)  # of each speaker as many
    assert Fsdd(held_out="shared").key() != Fsdd().key()


def test_pieces_are_split_in_time(published, tmp_path):
    source = published([{"filename": "a.flac", "piece": "Aria"}], seconds=1.0)
    prepared = Piano().prepare_from(source, tmp_path / "home")
    places = [(cut.start, cut.end) for split in SPLITS for cut in prepared.cuts(split)]
    assert places == [(0.0, 0.8), (0.8, 0.9), (0.9, 1.0)]


def test_a_prepared_set_opens_without_its_source(published, tmp_path):
    source = published(clips())
    digest = Esc10().prepare_from(source, tmp_path / "home").hash
    source.rename(tmp_path / "away")
    prepared = Esc10().open(tmp_path / "home")
    assert prepared.hash == digest
    assert len(next(iter(Mixtures(segment_s=0.2).loader(prepared, "train", seed=0))))


def test_another_rate_is_made_from_the_same_source(published, tmp_path):
    Esc10().prepare_from(published(clips()), tmp_path / "home")
    prepared = Esc10(sample_rate=4000).open(tmp_path / "home")
    assert prepared.sample_rate == 4000


def test_another_folder_does_not_take_the_name_of_a_prepared_one(published, tmp_path):
    home = tmp_path / "home"
    first = Esc10().prepare_from(published(clips()), home)
    other = published([row | {"filename": f"x-{row['filename']}"} for row in clips()])
    for corpus in (Esc10(), Esc10(sample_rate=4000), Esc10(test_only=True)):
        with pytest.raises(DataError, match=r"esc10 is prepared from .*1, and .*2 holds"):
            corpus.prepare_from(other, home)
    assert Esc10().open(home).hash == first.hash
    assert len(list(home.glob("esc10-*"))) == 1
    shutil.rmtree(first.folder)  # as the message says
    assert Esc10().prepare_from(other, home).hash != first.hash


def test_another_table_of_the_same_files_is_another_set(published, tmp_path):
    home = tmp_path / "home"
    first = Esc10().prepare_from(published(clips()), home)
    rows = [row | {"fold": 6 - int(row["fold"])} for row in clips()]
    with pytest.raises(DataError, match="holds other files"):
        Esc10().prepare_from(published(rows), home)
    assert Esc10().open(home).hash == first.hash


def test_a_copy_and_a_changed_folder_are_prepared_again(published, tmp_path):
    home, source = tmp_path / "home", published(clips())
    first = Esc10().prepare_from(source, home)
    assert Esc10().prepare_from(published(clips()), home).hash == first.hash
    shutil.rmtree(source)
    published(clips()[:-1]).rename(source)
    shutil.rmtree(first.folder)
    Esc10().prepare_from(source, home)
    table = (source / "metadata.csv").read_text().replace("CC0", "CC BY")
    (source / "metadata.csv").write_text(table)
    sums = (source / "SHA256SUMS").read_text().splitlines()
    sums[-1] = f"{hashlib.sha256(table.encode()).hexdigest()}  metadata.csv"
    (source / "SHA256SUMS").write_text("\n".join(sums))
    assert "CC BY" in Esc10().prepare_from(source, home).licence


def test_a_set_that_was_never_prepared_says_how(tmp_path):
    with pytest.raises(DataError, match="lightning-sep data prepare esc10 --source FOLDER"):
        Esc10().open(tmp_path)


def test_another_rate_without_the_source_says_what_is_gone(published, tmp_path):
    source = published(clips())
    Esc10().prepare_from(source, tmp_path / "home")
    source.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(DataError, match=r"esc10-4000.*is gone: lightning-sep data prepare"):
            Esc10(sample_rate=4000).open(tmp_path / "home")
        source.mkdir(exist_ok=True)  # a folder of its name is not it


def test_a_file_that_differs_from_its_checksum_is_named(published, tmp_path):
    source = published(clips())
    soundfile.write(source / "audio" / "2-3.flac", np.ones(100), 8000)
    with pytest.raises(DataError, match=r"1 of 24 files(.|\n)*2-3.flac: differs from its line"):
        Esc10().prepare_from(source, tmp_path / "home")


def test_a_table_that_differs_from_its_checksum_is_refused(published, tmp_path):
    source = published(clips())
    with (source / "metadata.csv").open("a") as file:
        file.write("x.flac,1,9,dog,CC0\n")
    with pytest.raises(DataError, match=r"metadata.csv differs"):
        Esc10().prepare_from(source, tmp_path / "home")


@pytest.mark.parametrize("name", ["metadata.csv", "SHA256SUMS"])
def test_a_folder_without_its_papers_is_refused(published, tmp_path, name):
    source = published(clips())
    (source / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}"):
        Esc10().prepare_from(source, tmp_path / "home")


def test_a_table_of_another_set_is_refused(published, tmp_path):
    source = published([{"filename": "a.flac", "colour": "red"}])
    with pytest.raises(DataError, match=r"has no column fold, src_file, category: it has filename"):
        Esc10().prepare_from(source, tmp_path / "home")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        Esc10().prepare_from(tmp_path / "nowhere", tmp_path / "home")


def test_no_folder_at_all_is_answered_with_the_command(tmp_path):
    with pytest.raises(ConfigError, match="--source FOLDER"):
        Esc10().prepare_from(None, tmp_path)


def test_progress_is_told_file_by_file(published, tmp_path):
    told = []
    Esc10().prepare_from(
        published(clips()), tmp_path / "home", lambda done, total, text: told.append((done, total))
    )
    assert told == [(n, 24) for n in range(25)]


def test_licences_of_the_files_are_counted(published, tmp_path):
    prepared = Esc10().prepare_from(published(clips()), tmp_path / "home")
    assert prepared.licence.endswith("Files: 24 CC0")


def test_a_set_of_one_speaker_can_be_prepared_for_testing_only(published, tmp_path):
    rows = [
        {"filename": f"ann/{number}.wav", "speaker": "ann", "digit": number} for number in range(4)
    ]
    source = published(rows)
    with pytest.raises(DataError, match=r"nothing is left for val and test.*data.test_only=true"):
        Fsdd().prepare_from(source, tmp_path / "home")
    prepared = Fsdd(test_only=True).prepare_from(source, tmp_path / "home")
    assert [len(prepared.table(split)) for split in SPLITS] == [0, 0, 4]
    assert prepared.test_only
    assert prepared.source["split_rule"] == "all of it is for testing (data.test_only)"
    with pytest.raises(DataError, match="fsdd has no train part"):
        _ = prepared.statistics
    assert Fsdd().key() != Fsdd(test_only=True).key()
