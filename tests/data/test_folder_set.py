"""Any folder of audio files."""

import os

import numpy as np
import pytest
import soundfile

from lightning_sep.data.folder import Folder
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path, tone):
    """Two classes in subfolders, ten files each."""
    for number in range(20):
        path = tmp_path / "sounds" / ["dog", "rain"][number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(number, 0.1), 8000)
    return tmp_path / "sounds"


def files(prepared, split):
    return {cut.recording.id for cut in prepared.cuts(split)}


def test_subfolders_are_classes_and_no_file_is_in_two_splits(folder, tmp_path):
    prepared = Folder(str(folder)).open(tmp_path / "home")
    found = [files(prepared, split) for split in SPLITS]
    assert prepared.class_names == ["dog", "rain"]
    assert sum(map(len, found)) == len(set().union(*found)) == 20


def test_both_classes_are_in_every_split(folder, tmp_path):
    prepared = Folder(str(folder)).open(tmp_path / "home")
    assert all(set(prepared.table(split).label.tolist()) == {0, 1} for split in SPLITS)


def test_another_seed_gives_another_split(folder, tmp_path):
    one = Folder(str(folder), seed=0).open(tmp_path / "home")
    other = Folder(str(folder), seed=1).open(tmp_path / "home")
    assert files(one, "test") != files(other, "test")


def test_speakers_of_a_table_are_not_torn_apart(folder, tmp_path):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))
    rows = [f"{name},s{number // 3}" for number, name in enumerate(names)]
    (folder / "metadata.csv").write_text("filename,speaker\n" + "\n".join(rows))
    prepared = Folder(str(folder)).open(tmp_path / "home")
    speakers = [set(prepared.table(split).speaker.tolist()) for split in SPLITS]
    assert sum(map(len, speakers)) == len(prepared.speaker_names) == 7
    assert prepared.group_names == ["speech"]


def test_the_splits_and_groups_of_a_table_are_kept(folder, tmp_path):
    (folder / "metadata.csv").write_text(
        "filename,class,split,group\n"
        "dog/0.wav,a,train,noise\ndog/2.wav,b,val,music\ndog/4.wav,a,test,music\n"
    )
    prepared = Folder(str(folder)).open(tmp_path / "home")
    assert [files(prepared, s) for s in SPLITS] == [{"dog/0.wav"}, {"dog/2.wav"}, {"dog/4.wav"}]
    assert prepared.group_names == ["music", "noise"]


def test_a_table_may_name_files_below_audio(folder, tmp_path):
    folder.rename(tmp_path / "audio")
    (tmp_path / "metadata.csv").write_text(
        "filename\n" + "\n".join(f"dog/{n}.wav" for n in (0, 2, 4))
    )
    prepared = Folder(str(tmp_path)).open(tmp_path / "home")
    assert prepared.source["counts"]["files"] == 3


def test_one_recording_is_split_in_time(tmp_path, tone):
    (tmp_path / "one").mkdir()
    soundfile.write(tmp_path / "one" / "a.wav", tone(1, 1.0), 8000)
    prepared = Folder(str(tmp_path / "one")).open(tmp_path / "home")
    assert [int(prepared.table(split).samples.sum()) for split in SPLITS] == [6400, 800, 800]


def test_most_files_decide_the_rate(tmp_path, tone):
    (tmp_path / "rates").mkdir()
    for number, rate in enumerate([8000, 16000, 16000, 44100]):
        soundfile.write(tmp_path / "rates" / f"{number}.wav", tone(number, 0.1, rate), rate)
    prepared = Folder(str(tmp_path / "rates")).open(tmp_path / "home")
    assert prepared.sample_rate == 16000
    assert prepared.source["counts"]["resampled"] == 2


def test_a_changed_file_makes_it_another_set(folder, tmp_path, tone):
    before = Folder(str(folder)).open(tmp_path / "home").hash
    soundfile.write(folder / "dog" / "0.wav", tone(99, 0.1), 8000)
    os.utime(folder / "dog" / "0.wav", (1, 1))
    assert Folder(str(folder)).open(tmp_path / "home").hash != before


def test_the_hash_does_not_depend_on_where_the_folder_lies(folder, tmp_path):
    before = Folder(str(folder)).open(tmp_path / "home").hash
    folder.rename(tmp_path / "elsewhere")
    assert Folder(str(tmp_path / "elsewhere")).open(tmp_path / "home").hash == before


def test_all_bad_files_are_named_in_one_error(folder, tmp_path):
    for number in range(0, 20, 2):
        path = folder / "dog" / f"{number}.wav"
        path.write_bytes(path.read_bytes()[:20])
    soundfile.write(folder / "rain" / "1.wav", np.array([np.nan]), 8000, subtype="FLOAT")
    soundfile.write(folder / "rain" / "3.wav", np.zeros(0), 8000)
    with pytest.raises(DataError) as caught:
        Folder(str(folder)).open(tmp_path / "home")
    lines = str(caught.value).splitlines()
    assert "12 of 20 files" in lines[0]
    assert len(lines) == 12
    assert lines[-1].strip() == "and 2 more"


def test_nothing_is_left_behind_by_a_refused_set(folder, tmp_path):
    (folder / "dog" / "0.wav").write_bytes(b"")
    with pytest.raises(DataError):
        Folder(str(folder)).open(tmp_path / "home")
    assert {path.name for path in (tmp_path / "home").iterdir()} == {".lock-folder"}


def test_a_file_that_the_table_names_must_be_there(folder, tmp_path):
    (folder / "metadata.csv").write_text("filename\ndog/0.wav\ndog/2.wav\ndog/none.wav\n")
    with pytest.raises(DataError, match=r"none.wav: is not there, though the table lists it"):
        Folder(str(folder)).open(tmp_path / "home")


@pytest.mark.parametrize("name", ["/etc/passwd", "../other.wav"])
def test_a_table_cannot_reach_out_of_its_folder(folder, tmp_path, name):
    (folder / "metadata.csv").write_text(f"filename\n{name}\n")
    with pytest.raises(DataError, match="no file of this folder"):
        Folder(str(folder)).open(tmp_path / "home")


def test_a_file_listed_twice_is_refused(folder, tmp_path):
    (folder / "metadata.csv").write_text("filename\ndog/0.wav\ndog/0.wav\ndog/2.wav\n")
    with pytest.raises(DataError, match=r"'dog/0.wav' is listed 2 times"):
        Folder(str(folder)).open(tmp_path / "home")


def test_an_unknown_split_is_named_with_its_line(folder, tmp_path):
    (folder / "metadata.csv").write_text("filename,split\ndog/0.wav,train\ndog/2.wav,extra\n")
    with pytest.raises(DataError, match=r"line 3: split 'extra' is none of train, val, test"):
        Folder(str(folder)).open(tmp_path / "home")


def test_a_split_that_nothing_fills_is_named(folder, tmp_path):
    (folder / "metadata.csv").write_text("filename,split\ndog/0.wav,train\ndog/2.wav,val\n")
    with pytest.raises(DataError, match="nothing is left for test"):
        Folder(str(folder)).open(tmp_path / "home")


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no audio file \(\.wav, \.flac, \.mp3, "):
        Folder(str(tmp_path)).open(tmp_path / "home")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        Folder(str(tmp_path / "nowhere")).open(tmp_path / "home")


def test_no_folder_at_all_is_answered_with_the_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path=FOLDER"):
        Folder().open(tmp_path)
