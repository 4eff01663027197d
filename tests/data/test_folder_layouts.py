"""What folders look like that people have, and that no file is lost, torn or misread."""

import ctypes
import json
import os
import stat
import subprocess
import sys
import unicodedata
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lightning_sep.data.audio_files import to_int16
from lightning_sep.data.folder import Folder, FolderSplit
from lightning_sep.data.scan import holds, scan, stamp
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import DataError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    return folder


@pytest.fixture
def fill(root, tone):
    """Writes a file for each name, each another sound; a number names the sound."""

    numbers = count(100)

    def write(*names, number=None, rate=8000, **form):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = tone(next(numbers) if number is None else number, 0.1)
            soundfile.write(path, to_int16(sound)[0], rate, **form)

    return write


@pytest.fixture
def prepare(root, tmp_path):
    def make(**settings):
        return Folder(str(root), **settings).open(tmp_path / "home")

    return make


def files(prepared, split):
    return {cut.recording.id for cut in prepared.cuts(split)}


def everything(prepared):
    return [files(prepared, split) for split in SPLITS]


def left_out(prepared):
    return {reason: found["files"] for reason, found in prepared.source["left_out"].items()}


# --- every file is prepared, refused or counted


def test_all_suffixes_that_libsndfile_reads_are_read_in_any_case(fill, prepare):
    fill("a.wav", "b.WAV", "c.Flac", "d.aiff", "e.AIFF", "f.au", "g.caf", "h.w64", "i.mp3")
    fill("j.oga", "k.ogg", format="OGG", subtype="VORBIS")
    fill("l.opus", format="OGG", subtype="OPUS")
    fill("m.sph", "n.SPH", format="NIST", subtype="PCM_16")
    prepared = prepare()
    assert sum(map(len, everything(prepared))) == prepared.source["found"] == 14
    assert prepared.source["left_out"] == {}


def test_what_is_left_out_is_counted_by_its_reason_with_examples(root, fill, prepare):
    fill("dog/0.wav", "dog/1.wav", "dog/2.wav", ".hidden/3.wav", "__MACOSX/dog/4.wav")
    for name in ("notes.txt", "dog/a.txt", "dog/README", "song.m4a", "dog/._0.wav", ".DS_Store"):
        (root / name).write_bytes(b"x")
    system = ["__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir"]
    fill(*(f"{name}/5.wav" for name in system[1:]))
    prepared = prepare()
    others = {".txt": 2, "no suffix": 1, ".m4a": 1, "hidden": 3}
    assert left_out(prepared) == {**others, **dict.fromkeys(system, 1)}
    assert prepared.source["left_out"][".txt"]["examples"] == ["dog/a.txt", "notes.txt"]
    counts = prepared.source["counts"]
    assert prepared.source["found"] == 14 == counts["files"] + sum(left_out(prepared).values())
    assert prepared.class_names == ["dog"]


def test_what_is_no_regular_file_is_counted(root, fill, prepare):
    fill("0.wav", "1.wav", "2.wav")
    os.mkfifo(root / "pipe.wav")
    prepared = prepare()
    assert left_out(prepared) == {"no regular file": 1}
    assert prepared.source["found"] == 4


def test_files_that_the_table_does_not_list_are_counted(root, fill, prepare):
    fill(*(f"{n}.wav" for n in range(8)))
    rows = "\n".join(f"{n}.wav" for n in range(4))
    (root / "metadata.csv").write_text(f"filename\n{rows}\n")
    prepared = prepare()
    assert left_out(prepared) == {"not in metadata.csv": 4}
    assert prepared.source["found"] == 8


def test_links_to_folders_and_files_are_followed(root, fill, prepare, tmp_path):
    fill("dog/0.wav", "dog/1.wav", "rain/2.wav", "rain/3.wav")
    (root / "rain").rename(tmp_path / "elsewhere")
    (root / "rain").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "1.wav").rename(tmp_path / "one.wav")
    (root / "dog" / "1.wav").symlink_to(tmp_path / "one.wav")
    prepared = prepare()
    assert set().union(*everything(prepared)) == {
        *("dog/0.wav", "dog/1.wav", "rain/2.wav", "rain/3.wav")
    }
    assert prepared.class_names == ["dog", "rain"]


def test_a_link_that_leads_back_is_left_out_by_name(root, fill, prepare):
    fill("dog/0.wav", "dog/1.wav", "dog/2.wav")
    (root / "dog" / "again").symlink_to(root)
    assert prepare().source["left_out"] == {
        "link back to a folder above": {"files": 1, "examples": ["dog/again"]}
    }


@pytest.mark.parametrize("target", ["nothing.wav", "loop.wav"])
def test_a_link_to_audio_that_leads_nowhere_is_refused(root, fill, prepare, target):
    fill("0.wav", "1.wav", "2.wav")
    (root / "loop.wav").symlink_to(root / target)
    with pytest.raises(DataError, match=r"1 links to audio lead nowhere: .*loop\.wav"):
        prepare()


def _drop_rights():
    """Root reads and writes everything, unless these two capabilities do not survive the exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; other users have nothing to drop


def command(*arguments):
    """The command in a process of its own that file permissions bind."""
    return subprocess.run(
        [sys.executable, "-m", "lightning_sep", *map(str, arguments)],
        preexec_fn=_drop_rights,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def closed():
    """Takes all rights on a folder away, and gives them back at the end."""
    folders = []

    def close(folder, mode=0o000):
        folder.chmod(mode)
        folders.append(folder)

    yield close
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize("place", [".", "rain"])
def test_a_folder_that_cannot_be_listed_is_an_error_of_one_line(root, fill, closed, place):
    fill(*(f"{name}/{n}.wav" for name in ("dog", "rain") for n in range(4)))
    closed(root / place)
    done = command("data", "prepare", "folder", "--source", root)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{root / place} cannot be listed (Permission denied)" in done.stderr


def test_a_path_within_a_closed_folder_is_an_error_of_one_line(root, fill, closed):
    fill("within/a.wav")
    closed(root)
    done = command("data", "prepare", "folder", "--source", root / "within")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr


def test_a_data_home_that_cannot_be_written_names_its_variable(
    root, fill, closed, tmp_path, monkeypatch
):
    fill("0.wav", "1.wav", "2.wav")
    home = tmp_path / "home"
    home.mkdir()
    closed(home, 0o555)
    monkeypatch.setenv("LIGHTNING_SEP_DATA", str(home))
    done = command("data", "prepare", "folder", "--source", root)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "set LIGHTNING_SEP_DATA to a folder of your own" in done.stderr


def test_a_data_home_within_the_folder_is_no_part_of_it(root, fill):
    fill("0.ogg", "1.ogg", "2.ogg")  # stored as FLAC below the data home
    home = root / "data"
    first = Folder(str(root)).open(home)
    again = Folder(str(root)).prepare_from(None, home)
    assert again.source["found"] == 3
    assert again.hash == first.hash


# --- names


def test_a_name_that_is_no_text_is_refused_in_one_line(root, fill, prepare):
    fill("0.wav", "1.wav", "2.wav")
    os.rename(os.fsencode(root / "1.wav"), os.fsencode(root) + b"/caf\xe9.wav")
    with pytest.raises(DataError, match=r"1 names of files are not UTF-8: caf\\xe9\.wav") as caught:
        prepare()
    assert "\n" not in str(caught.value)


def test_a_folder_whose_own_name_is_no_text_is_prepared(root, fill, tmp_path):
    fill("0.wav", "1.wav", "2.wav")
    place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.rename(root, place)
    prepared = Folder(place).open(tmp_path / "home")
    assert prepared.source["counts"]["stored as FLAC"] == 3
    assert prepared.reader.whole(0, 0, 800).shape == (1, 800)


def test_a_bad_file_with_a_line_break_in_its_name_takes_one_line(root, fill, prepare):
    fill("a.wav", "b.wav", "c.wav")
    (root / "two\nlines\u202e.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"two\\nlines\\u202e\.wav: is an empty file") as caught:
        prepare()
    assert "\n" not in str(caught.value)


def test_names_in_other_unicode_forms_are_the_same_file(root, fill, prepare):
    composed = unicodedata.normalize("NFC", "café.wav")
    fill(unicodedata.normalize("NFD", composed), "b.wav", "c.wav")
    (root / "metadata.csv").write_text(f"filename\n{composed}\nb.wav\nc.wav\n")
    prepared = prepare()
    assert composed in set().union(*everything(prepared))
    assert prepared.source["left_out"] == {}
    assert "1 names of metadata.csv are written with other Unicode" in prepared.source["notes"][0]


def test_a_class_and_a_speaker_in_two_unicode_forms_are_one(root, fill, prepare):
    forms = [unicodedata.normalize(form, "Vögel") for form in ("NFC", "NFD")]
    fill(*(f"{forms[n % 2]}/{n}.wav" for n in range(6)))
    assert prepare().class_names == [forms[0]]
    rows = [f"{forms[n % 2]}/{n}.wav,{forms[n % 2]}{n // 2}" for n in range(6)]
    (root / "metadata.csv").write_text("filename,speaker\n" + "\n".join(rows))
    assert prepare().speaker_names == [f"{forms[0]}{number}" for number in range(3)]


def test_copies_have_places_of_their_own_whatever_the_files_are_called(root, tone, tmp_path):
    names = ["a.wav", "a.wav.flac", "b.flac", "c.wav", "c.wav.flac/d.wav", f"{'e' * 250}.wav"]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True)
        soundfile.write(root / name, tone(number, 0.1), 8000, subtype="PCM_24")
    copied = Folder(str(root), cache_limit_mb=0).open(tmp_path / "home")
    for number, name in enumerate(names):
        sound = copied.reader.whole(number, 0, 800)[0]
        assert np.array_equal(sound, to_int16(soundfile.read(root / name)[0])[0]), name


def test_one_file_under_two_spellings_is_listed_twice(root, fill, prepare):
    fill("dog/0.wav", "dog/1.wav", "dog/2.wav")
    (root / "metadata.csv").write_text(
        "filename,class\n./dog/0.wav,a\ndog/0.wav,b\ndog//1.wav,a\ndog/2.wav,a\n"
    )
    with pytest.raises(DataError, match=r"'dog/0.wav' is listed 2 times"):
        prepare()


def test_rows_listed_several_times_are_counted_right(root, fill, prepare):
    fill("a.wav", "b.wav", "c.wav")
    (root / "metadata.csv").write_text("filename\na.wav\na.wav\na.wav\nb.wav\nb.wav\nc.wav\n")
    with pytest.raises(DataError, match=r"'a.wav' is listed 3 times, 'b.wav' is listed 2 times\."):
        prepare()


def test_unused_columns_are_named(root, fill, prepare):
    fill("a.wav", "b.wav", "c.wav")
    (root / "metadata.csv").write_text(
        "filename,class,start,licence\na.wav,x,0,y\nb.wav,x,1,y\nc.wav,x,2,y\n"
    )
    assert prepare().source["notes"] == [
        "columns of metadata.csv that are not used: 'start', 'licence'"
    ]


@pytest.mark.parametrize(
    ("column", "near"),
    [("speeker", "speaker"), ("clas", "class"), ("Split", "split"), ("speaker_id", "speaker")],
)
def test_a_misspelt_column_is_refused_with_the_nearest(root, fill, prepare, column, near):
    fill("a.wav", "b.wav", "c.wav")
    (root / "metadata.csv").write_text(f"filename,{column}\na.wav,x\nb.wav,y\nc.wav,z\n")
    with pytest.raises(DataError, match=rf"column '{column}': did you mean '{near}'"):
        prepare()


# --- splits


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "Validation", "TEST"),
        ("training", "dev", "eval"),
        ("tr", "cv", "tt"),
        ("train", "valid", "evaluation"),
    ],
)
def test_folders_on_top_that_are_called_like_splits_are_the_splits(fill, prepare, names):
    placed = [{f"{top}/{c}/{c}{n}.wav" for c in ("dog", "rain") for n in range(2)} for top in names]
    for own in placed:
        fill(*own)
    prepared = prepare()
    assert everything(prepared) == placed
    assert prepared.class_names == ["dog", "rain"]
    assert prepared.source["split_rule"] == f"the folders {', '.join(sorted(names))}"


def test_split_folders_hold_where_a_table_names_the_files(root, fill, prepare):
    names = [f"{split}/{n}.wav" for split in SPLITS for n in range(2)]
    fill(*names)
    rows = "\n".join(f"{name},w{n}" for n, name in enumerate(names))
    (root / "metadata.csv").write_text(f"filename,text\n{rows}\n")
    prepared = prepare()
    assert everything(prepared) == [{f"{s}/0.wav", f"{s}/1.wav"} for s in SPLITS]
    assert prepared.class_names == ["sound"]


def test_a_column_of_splits_takes_their_other_names(root, fill, prepare):
    fill("a.wav", "b.wav", "c.wav")
    (root / "metadata.csv").write_text("filename,split\na.wav,TR\nb.wav,Validation\nc.wav,eval\n")
    assert everything(prepare()) == [{"a.wav"}, {"b.wav"}, {"c.wav"}]


def test_a_single_folder_called_train_is_a_class_among_others(fill, prepare):
    fill(*(f"{name}/{n}.wav" for name in ("train", "siren", "rain") for n in range(4)))
    assert prepare().class_names == ["rain", "siren", "train"]


def test_files_in_no_subfolder_are_sounds_and_deeper_ones_have_the_uppermost_class(fill, prepare):
    fill("a.wav", "b.wav", "dog/c.wav", "dog/small/d.wav", "rain/e.wav", "rain/f.wav")
    prepared = prepare()
    classes = {
        cut.recording.id: cut.supervisions[0].custom["class_name"]
        for split in SPLITS
        for cut in prepared.cuts(split)
    }
    assert classes == {
        **{"a.wav": "sound", "b.wav": "sound", "dog/c.wav": "dog", "dog/small/d.wav": "dog"},
        **{"rain/e.wav": "rain", "rain/f.wav": "rain"},
    }


def test_val_is_drawn_from_train_where_it_is_not_given(fill, prepare):
    training = {f"train/{'dog' if n < 7 else 'rain'}/{n}.wav" for n in range(10)}
    fill(*sorted(training), *(f"test/{n}.wav" for n in range(3)))
    prepared = prepare()
    train, val, test = everything(prepared)
    assert test == {f"test/{n}.wav" for n in range(3)}
    assert train | val == training
    assert sorted(name.split("/")[1] for name in val) == ["dog", "dog", "rain"]
    assert prepared.source["split_rule"].startswith(
        "the folders test, train; val is drawn from train, by file"
    )
    assert len({frozenset(everything(prepare(seed=seed))[1]) for seed in range(4)}) > 1


def test_files_beside_split_folders_are_refused(fill, prepare):
    fill("train/a.wav", "val/b.wav", "test/c.wav", "more/d.wav", "e.wav")
    with pytest.raises(DataError, match=r"folders test, train, val, .* beside them more, e\.wav"):
        prepare()


@pytest.mark.parametrize("form", ["set/{split}/{n}.wav", "dog/{split}/{n}.wav"])
def test_split_folders_within_others_are_refused(fill, prepare, form):
    fill(*(form.format(split=split, n=n) for split in SPLITS for n in range(2)))
    fill("rain/0.wav", "rain/1.wav")  # beside most files, not all
    with pytest.raises(DataError, match=r"folders test, train, val, which are splits, lie within"):
        prepare()


@pytest.mark.parametrize("column", ["speaker", "source"])
def test_a_given_split_that_tears_is_refused_with_three_examples(root, fill, prepare, column):
    fill(*(f"{n}.wav" for n in range(10)))
    rows = "\n".join(f"{n}.wav,{SPLITS[n // 4]},k{n % 5}" for n in range(10))
    (root / "metadata.csv").write_text(f"filename,split,{column}\n{rows}\n")
    with pytest.raises(DataError) as caught:
        prepare()
    assert f"{column} 'k0' ('0.wav' in train, '5.wav' in val), 'k1'" in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_copies_in_two_given_splits_are_refused(root, fill, prepare):
    fill("train/a.wav", "val/b.wav", "test/c.wav")
    (root / "test" / "copy of a.wav").write_bytes((root / "train" / "a.wav").read_bytes())
    with pytest.raises(
        DataError, match=r"same sound \('train/a.wav' in train, 'test/copy of a.wav' in test\)"
    ):
        prepare()


def test_copies_stay_together_where_the_split_is_drawn(root, fill, prepare):
    for number in range(12):
        fill(f"{number}.wav", f"copy of {number}.wav", number=number)
    fill("0 again.flac", number=0)  # the same samples in another format
    prepared = prepare()
    found = everything(prepared)
    assert all(found)
    for names in found:
        numbers = [name.split(".")[0].replace("copy of ", "").split()[0] for name in names]
        assert all(numbers.count(n) == (3 if n == "0" else 2) for n in numbers)
    assert "13 copies stay with what they are copies of" in prepared.source["split_rule"]


def test_silent_files_are_no_copies_of_one_another(root, fill, prepare):
    for number, split in enumerate(SPLITS):
        fill(f"{split}/{number}.wav")
        soundfile.write(root / split / "silent.wav", np.zeros(800), 8000)
    assert [len(names) for names in everything(prepare())] == [2, 2, 2]


def test_a_speaker_of_two_sources_and_a_source_of_two_speakers_stay_together(root, fill, prepare):
    fill(*(f"{n}.wav" for n in range(12)))
    rows = [(n, f"s{n // 2}", f"b{(n + 1) // 2}" if n < 4 else f"b{9 + n // 2}") for n in range(12)]
    (root / "metadata.csv").write_text(
        "filename,speaker,source\n" + "\n".join(f"{n}.wav,{who},{book}" for n, who, book in rows)
    )
    prepared = prepare()
    places = {cut.recording.id: split for split in SPLITS for cut in prepared.cuts(split)}
    assert len({places[f"{n}.wav"] for n in range(4)}) == 1
    assert all(places[f"{n}.wav"] == places[f"{n + 1}.wav"] for n in range(0, 12, 2))
    assert prepared.source["split_rule"].startswith("by source and speaker, in an order seeded")
    row = {"filename": "1.wav", "speaker": "s0", "source": "b1"}
    assert FolderSplit(root, [row], 0).keys == {"1.wav": "b1"}  # what orders the files


def test_too_few_speakers_for_three_splits_are_refused(root, fill, prepare):
    fill(*(f"{n}.wav" for n in range(6)))
    rows = "\n".join(f"{n}.wav,s{n % 2}" for n in range(6))
    (root / "metadata.csv").write_text(f"filename,speaker\n{rows}\n")
    with pytest.raises(DataError, match=r"need a speaker each .*the 6 files have 2\. .*'speaker'"):
        prepare()


def test_nothing_but_copies_cannot_be_split(fill, prepare):
    for name in ("a.wav", "b.wav", "c.wav"):
        fill(name, number=1)
    with pytest.raises(DataError, match=r"need a sound each .*the 3 files have 1"):
        prepare()


# --- trees of published sets


TREES = {
    "MUSDB": [
        f"{part}/Song {n}/{stem}.wav"
        for part in ("train", "test")
        for n in range(2)
        for stem in ("mixture", "drums", "bass", "other", "vocals")
    ],
    "LibriMix": [
        f"Libri2Mix/wav8k/min/{part}/{kind}/{n}.wav"
        for part in ("train-100", "dev", "test")
        for kind in ("mix_clean", "s1", "s2")
        for n in range(2)
    ],
    "WSJ0-mix": [
        f"2speakers/wav8k/min/{part}/{kind}/{n}.wav"
        for part in ("tr", "cv", "tt")
        for kind in ("mix", "s1", "s2")
        for n in range(2)
    ],
    "ESC-50": [f"audio/{n % 5 + 1}-{100 + n}-A-{n}.wav" for n in range(10)],
    "VoxCeleb": [f"wav/id1000{n}/1zcIwhmdeo4/0000{m}.wav" for n in range(3) for m in range(2)],
    "LibriSpeech": [
        f"LibriSpeech/{part}/{n}/{n + 5}/{n}-{n + 5}-000{m}.flac"
        for part, n in (("train-clean-100", 103), ("dev-clean", 84), ("test-clean", 61))
        for m in range(2)
    ],
    "TIMIT": [
        f"{part}/DR{n}/F{part[:1]}KS{n}/S{kind}{n}.WAV"
        for part in ("TRAIN", "TEST")
        for n in range(1, 3)
        for kind in ("A", "I", "X")
    ],
}


@pytest.mark.parametrize("title", TREES)
def test_a_tree_of_a_published_set_is_refused_with_what_to_do(root, fill, prepare, title):
    fill(*TREES[title], "notes.wav")  # most of the files tell, not all
    with pytest.raises(DataError, match=rf"looks like {title}: .*metadata\.csv") as caught:
        prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("title", [t for t in TREES if t not in ("MUSDB",)])
def test_the_same_tree_with_a_table_that_says_what_is_what_is_taken(root, fill, prepare, title):
    fill(*TREES[title])
    rows = [f"{name},c,{SPLITS[n % 3]}" for n, name in enumerate(TREES[title])]
    (root / "metadata.csv").write_text("filename,class,split\n" + "\n".join(rows))
    assert prepare().source["counts"]["files"] == len(TREES[title])


def test_musdb_as_it_is_published_is_known_by_its_suffix(root, prepare):
    (root / "train").mkdir()
    (root / "train" / "Song.stem.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="looks like MUSDB"):
        prepare()


# --- levels


def test_bad_levels_are_named_together_and_kept_on_request(root, fill, prepare, tone, tmp_path):
    fill(*(f"{n}.wav" for n in range(4)))
    soundfile.write(root / "loud.wav", 10 * tone(5), 8000, subtype="PCM_16")
    soundfile.write(root / "range.wav", 30000 * tone(6), 8000, subtype="FLOAT")
    soundfile.write(root / "anti.wav", np.stack([tone(7), -tone(7)], axis=1), 8000)
    soundfile.write(root / "slow.wav", tone(8), 100)
    with pytest.raises(DataError) as caught:
        prepare()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("4 of 8 files")
    assert [Path(line.split(": ")[0].strip()).name for line in lines[1:5]] == [
        *("anti.wav", "loud.wav", "range.wav", "slow.wav")
    ]
    assert "data.keep=true" in lines[5]
    prepared = prepare(keep=True)
    assert sorted(prepared.source["kept"]) == ["anti.wav", "loud.wav", "range.wav", "slow.wav"]
    assert prepared.source["counts"]["files"] == 8


def test_keeping_counts_as_a_part_of_the_set_only_where_it_kept_something(root, fill, prepare):
    fill(*(f"{n}.wav" for n in range(4)))
    plain = prepare()
    assert prepare(keep=True).hash == plain.hash
    sound = np.ones(100)
    soundfile.write(root / "3.wav", sound, 8000, subtype="PCM_16")
    os.utime(root / "3.wav", (1, 1))
    with pytest.raises(DataError, match="clipped"):
        prepare()
    kept = prepare(keep=True)
    assert kept.source["kept"] == {"3.wav": ["100.0% of its samples are clipped"]}
    facts = json.loads((kept.folder / "items.json").read_text())
    assert kept.hash != plain.hash
    assert facts["recordings"][3]["samples"] == 100


def test_a_set_of_nothing_but_silence_is_refused_unless_kept(root, prepare):
    for number in range(3):
        soundfile.write(root / f"{number}.wav", np.zeros(800 + number), 8000)
    with pytest.raises(DataError, match=r"all 3 files are silent \(below -80 dBFS\)"):
        prepare()
    kept = prepare(keep=True)
    assert kept.source["kept"] == {f"{n}.wav": ["is silent"] for n in range(3)}
    assert kept.hash.startswith("ea95d86e307a")


# --- opening again


def test_what_was_prepared_before_gives_the_same_hash(root, tmp_path):
    for number in range(6):
        samples = (np.arange(400) * 37 + number * 1000) % 20000 - 10000
        path = root / ["dog", "rain"][number % 2] / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples.astype(np.int16), 8000)
    assert Folder(str(root)).open(tmp_path / "home").hash == HASH


HASH = "fb94b9ab946e07dda5924e7a3d96132cd46744fc9cb46e0d9da8eaca754913dd"


def test_a_prepared_folder_is_opened_without_listing_it(root, fill, prepare, monkeypatch):
    fill(*(f"dog/{n}.wav" for n in range(4)))
    before = prepare().hash
    monkeypatch.setattr("lightning_sep.data.folder.scan", None)
    assert prepare().hash == before


@pytest.mark.parametrize("change", ["add", "remove", "rename", "overwrite", "size", "table"])
def test_a_folder_that_changed_is_prepared_again(root, fill, prepare, tone, change):
    fill(*(f"dog/{n}.wav" for n in range(4)))
    before = prepare().hash
    if change == "add":
        fill("dog/4.wav")
    elif change == "remove":
        (root / "dog" / "3.wav").unlink()
    elif change == "rename":
        (root / "dog" / "3.wav").rename(root / "dog" / "5.wav")
    elif change == "overwrite":
        soundfile.write(root / "dog" / "3.wav", tone(77, 0.2), 8000)
    elif change == "size":
        path = root / "dog" / "3.wav"
        about = path.stat()
        soundfile.write(path, tone(77, 0.3), 8000)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    else:
        (root / "metadata.csv").write_text("filename\ndog/0.wav\ndog/1.wav\ndog/2.wav\n")
    assert prepare().hash != before


def test_what_another_version_has_prepared_is_prepared_again(fill, prepare):
    fill(*(f"{n}.wav" for n in range(4)))
    place = prepare().folder / "source.json"
    told = place.read_text()
    place.write_text(told.replace('"format": 1', '"format": 2'))
    assert place.read_text() != told
    assert prepare().source["format"] == 1


def test_a_file_that_is_no_audio_does_not_make_it_another_set(root, fill, prepare, monkeypatch):
    fill(*(f"dog/{n}.wav" for n in range(4)))
    before = prepare().folder.stat().st_ino
    (root / "dog" / "notes.txt").write_text("x")
    assert prepare().folder.stat().st_ino == before
    monkeypatch.setattr("lightning_sep.data.folder.scan", None)  # the stamp was renewed
    assert prepare().folder.stat().st_ino == before


def test_a_stamp_looks_at_a_bounded_number_of_places(tmp_path):
    for number in range(1200):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "a.wav").touch()
    found = scan(tmp_path, "metadata.csv", tmp_path / "home")
    made = stamp(tmp_path, found, "metadata.csv")
    assert len(found.audio()) == 1200
    assert len(found.folders) == 1201
    assert [len(made["folders"]), len(made["files"])] == [1000, 1000]
    assert made["files"][-1][0] == found.audio()[1198]  # evenly spaced over all of them
    assert holds(tmp_path, json.loads(json.dumps(made)))
    os.chmod(tmp_path, stat.S_IRWXU)
    (tmp_path / "x.wav").touch()
    assert not holds(tmp_path, made)


# --- tables as programs write them, samples as they are stored

ROWS = "filename,class\n" + "".join(f"{n}.wav,c{n % 2}\n" for n in range(6))


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("\n", "\n\n").encode(),
        ROWS.replace("\n", ",,\n").encode(),
    ],
    ids=["CRLF and BOM", "blank lines", "extra commas"],
)
def test_tables_as_spreadsheets_write_them_are_read(root, fill, prepare, table):
    fill(*(f"{number}.wav" for number in range(6)))
    (root / "metadata.csv").write_bytes(table)
    prepared = prepare()
    assert prepared.class_names == ["c0", "c1"]
    assert sum(map(len, everything(prepared))) == 6


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ROWS.replace(",", ";").encode(), r"no column filename: it has filename;class"),
        (ROWS.replace(",", "\t").encode(), r"no column filename: it has filename\tclass"),
        (ROWS.encode("utf-16"), r"metadata.csv cannot be read as a table"),
        (ROWS.replace("filename", "Filename").encode(), r"no column filename: it has Filename"),
        (ROWS.replace("c1", '"c1').encode(), r"cannot be read as a table"),
        (ROWS.replace("5.wav,c1", '5.wav,"c1').encode(), r"cannot be read as a table \(unexpected"),
        (ROWS.replace("c1", "c1,d1").encode(), r"line 3: 'd1' is in no column. A value with a"),
        (ROWS.replace("class", "class,class").encode(), r"has several columns class: which"),
    ],
    ids=["semicolons", "tabs", "UTF-16", "upper case", "quotes", "a quote", "commas", "columns"],
)
def test_tables_in_another_form_are_refused(root, fill, prepare, table, message):
    fill(*(f"{number}.wav" for number in range(6)))
    (root / "metadata.csv").write_bytes(table)
    with pytest.raises(DataError, match=message):
        prepare()


@pytest.mark.parametrize("there", ["Metadata.CSV", "a link", "a folder"])
def test_a_table_that_would_be_passed_over_is_refused(root, fill, prepare, there):
    fill(*(f"{number}.wav" for number in range(6)))
    if there == "a link":
        (root / "metadata.csv").symlink_to("nowhere.csv")
    elif there == "a folder":
        (root / "metadata.csv").mkdir()
    else:
        (root / there).write_text(ROWS)
    with pytest.raises(DataError, match=r"Metadata.CSV: call it metadata.csv|csv is no file"):
        prepare()


def test_names_and_classes_may_hold_any_character(root, fill, prepare):
    names = ["an 'apostrophe'.wav", 'a "quote".wav', "caf\u00e9 \U0001f415.wav", "a, b.wav"]
    fill(*names)
    quoted = [name.replace('"', '""') for name in names]
    (root / "metadata.csv").write_text(
        "filename,class\n" + "".join(f'"{name}","\U0001f415, {name}"\n' for name in quoted)
    )
    prepared = prepare()
    assert set().union(*everything(prepared)) == set(names)
    assert prepared.class_names == sorted(f"\U0001f415, {name}" for name in names)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_of_any_width_become_the_nearest_16_bits(root, prepare, tone, subtype):
    for number in range(3):
        soundfile.write(root / f"{number}.wav", tone(number, 0.1), 8000, subtype=subtype)
    prepared = prepare()
    for number in range(3):
        stored, _ = soundfile.read(root / f"{number}.wav", dtype="float64")
        found = prepared.reader.whole(number, 0, len(stored))
        assert np.array_equal(found[0], np.rint(stored * 32768))
