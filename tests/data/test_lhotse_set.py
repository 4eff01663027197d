"""lhotse comes in and goes out: manifests, Kaldi folders, Shar; from any folder, after a move."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from lightning_sep.data import lhotse_set
from lightning_sep.data.folder import Folder
from lightning_sep.data.lhotse_set import LhotseSet, _refuse_overlap
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError

SPEAKERS = [f"s{number}" for number in range(8)]


@pytest.fixture
def manifests(tmp_path, tone):
    """Eight speakers with two recordings of 1 s, of which one has two utterances."""
    recordings, supervisions = [], []
    (tmp_path / "audio").mkdir()
    for number in range(16):
        path = tmp_path / "audio" / f"r{number}.wav"
        soundfile.write(path, tone(number, 1.0), 8000, subtype="PCM_16")
        recordings.append(Recording.from_file(path))
        parts = [(0.0, 0.4), (0.5, 0.5)] if number % 2 else [(0.0, 1.0)]
        supervisions += [
            SupervisionSegment(
                id=f"r{number}-{part}",
                recording_id=f"r{number}",
                start=start,
                duration=duration,
                speaker=SPEAKERS[number // 2],
                text=f"word {part}",
                custom={"class_name": f"kind{number % 2}", "session": f"day{number}"},
            )
            for part, (start, duration) in enumerate(parts)
        ]
    return RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)


@pytest.fixture
def written(tmp_path, manifests):
    recordings, supervisions = manifests
    recordings.to_file(tmp_path / "recordings.jsonl.gz")
    supervisions.to_file(tmp_path / "supervisions.jsonl.gz")
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    cuts = cuts.trim_to_supervisions().to_eager()
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    (tmp_path / "shar").mkdir()
    cuts.to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=10)
    (tmp_path / "kaldi").mkdir()
    folder = tmp_path / "kaldi"
    (folder / "wav.scp").write_text("".join(f"{r.id}\t{r.sources[0].source}\n" for r in recordings))
    (folder / "segments").write_text(
        "".join(f"{s.id} {s.recording_id} {s.start} {s.end}\n" for s in supervisions)
    )
    (folder / "utt2spk").write_text("".join(f"{s.id} {s.speaker}\n" for s in supervisions))
    (folder / "text").write_text("".join(f"{s.id} {s.text}\n" for s in supervisions))
    return tmp_path


def samples_of(prepared):
    """Speaker and samples of every piece of all splits, by what is said and how long it is."""
    found = []
    for split in SPLITS:
        table = prepared.table(split)
        for row in range(len(table)):
            samples = prepared.reader.whole(
                int(table.recording[row]), int(table.start[row]), int(table.samples[row])
            )
            found.append((prepared.speaker_names[table.speaker[row]], samples.tobytes()))
    return sorted(found)


ROADS = {
    "cuts": {"cuts": "cuts.jsonl.gz"},
    "recordings": {"recordings": "recordings.jsonl.gz", "supervisions": "supervisions.jsonl.gz"},
    "kaldi": {"kaldi": "kaldi"},
    "shar": {"shar": "shar"},
}


@pytest.mark.parametrize("road", ROADS)
def test_each_utterance_comes_in_by_every_road(written, manifests, road):
    told = {kind: str(written / place) for kind, place in ROADS[road].items()}
    prepared = LhotseSet(**told).open(written / "home")
    assert samples_of(prepared) == sorted(
        (
            one.speaker,
            soundfile.read(
                written / "audio" / f"{one.recording_id}.wav",
                start=round(one.start * 8000),
                stop=round(one.end * 8000),
                dtype="int16",
            )[0].tobytes(),
        )
        for one in manifests[1]
    )
    heard = [set(prepared.table(split).speaker.tolist()) for split in SPLITS]
    assert all(heard)
    assert sum(map(len, heard)) == 8
    kinds = ["speech"] if road == "kaldi" else ["kind0", "kind1"]
    assert prepared.class_names == kinds
    assert prepared.source["split_rule"].startswith("by speaker and recording, in an order seeded")
    if road != "kaldi":
        assert Snippets(segment_s=0.1).draw(prepared, "test").sessions.min() >= 0
    prepared.verify()
    home = written / "home"
    assert not [path.name for path in home.iterdir() if path.name.startswith(".building")]


def test_whole_files_are_used_as_they_lie_and_parts_are_stored(written):
    told = {kind: str(written / place) for kind, place in ROADS["recordings"].items()}
    source = LhotseSet(**told).open(written / "home").source
    assert source["counts"]["stored as FLAC"] == 16
    in_place = [f for f in source["files"].values() if f["path"].startswith(str(written / "audio"))]
    assert len(in_place) == 8


def test_a_command_in_a_kaldi_folder_needs_a_rate_to_be_named(written):
    path = written / "kaldi" / "wav.scp"
    first, rest = path.read_text().split("\n", 1)
    name, place = first.split()
    for line in (f"{name} cat {place} |", f"{name} {place}.away", ""):
        path.write_text(f"{line}\n{rest}")
        with pytest.raises(
            ConfigError, match=r"^\S+/wav\.scp does not tell the rate of its audio: s"
        ):
            LhotseSet(kaldi=str(written / "kaldi")).open(written / "home")
    path.write_text(f"{name} cat {place} |\n{rest}")
    with pytest.raises(DataError, match=r"'pip install kaldi_native_io' first"):
        LhotseSet(kaldi=str(written / "kaldi"), sample_rate=8000).open(written / "home")
    path.unlink()
    with pytest.raises(DataError, match=r"^\S+/wav\.scp cannot be read \(No such file .*by Kaldi$"):
        LhotseSet(kaldi=str(written / "kaldi")).open(written / "home")


def test_cuts_are_told_one_by_one_and_one_that_cannot_be_loaded_by_its_name(written):
    told = []
    corpus = LhotseSet(cuts=str(written / "cuts.jsonl.gz"))
    corpus.open(written / "home", lambda done, total, text: told.append((done, total, text)))
    names = [cut.id for cut in CutSet.from_file(written / "cuts.jsonl.gz")]
    assert told[: len(names)] == [
        (number, len(names) + 1, f"lhotse: cut {name}") for number, name in enumerate(names)
    ]
    (written / "audio" / "r5.wav").write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"^cut r5-\S+ cannot be loaded by lhotse: \w+"):
        corpus.open(written / "other")


def test_a_manifest_for_each_split_is_kept_to(written):
    cuts = CutSet.from_file(written / "cuts.jsonl.gz").to_eager()
    places = {}
    for name, speakers in (("train", SPEAKERS[:4]), ("dev", SPEAKERS[4:6]), ("test", SPEAKERS[6:])):
        places[name] = str(written / f"{name}.jsonl.gz")
        cuts.filter(lambda c, s=speakers: c.supervisions[0].speaker in s).to_file(places[name])
    prepared = LhotseSet(cuts=places, class_from="speaker").open(written / "home")
    assert prepared.class_names == SPEAKERS
    heard = [{prepared.speaker_names[s] for s in prepared.table(split).speaker} for split in SPLITS]
    assert heard == [set(SPEAKERS[:4]), set(SPEAKERS[4:6]), set(SPEAKERS[6:])]


def test_the_supervisions_of_each_split_are_those_of_its_recordings(written, manifests):
    recordings, supervisions = manifests
    places: dict[str, dict[str, str]] = {"recordings": {}, "supervisions": {}}
    for split, who in zip(SPLITS, (SPEAKERS[:4], SPEAKERS[4:6], SPEAKERS[6:]), strict=True):
        said = supervisions.filter(lambda one, who=who: one.speaker in who)
        ids = {one.recording_id for one in said}
        for kind, part in (
            ("recordings", recordings.filter(lambda one, ids=ids: one.id in ids)),
            ("supervisions", said),
        ):
            places[kind][split] = str(written / f"{split}-{kind}.jsonl.gz")
            part.to_file(places[kind][split])
    prepared = LhotseSet(**places).open(written / "home")
    assert [len(prepared.table(split)) for split in SPLITS] == [12, 6, 6]
    assert samples_of(prepared) == samples_of(
        LhotseSet(cuts=str(written / "cuts.jsonl.gz")).open(written / "home")
    )


def test_splits_that_share_a_stretch_are_refused(written):
    cuts = CutSet.from_file(written / "cuts.jsonl.gz").to_eager()
    for split, first in (("train", 0), ("val", 8), ("test", 16)):
        cuts.subset(cut_ids=[cut.id for cut in list(cuts)[first : first + 8]]).to_file(
            written / f"{split}.jsonl.gz"
        )
    one = next(cut for cut in cuts if cut.duration == 1.0)
    part = one.truncate(offset=0.25, duration=0.25).with_id("inside")
    CutSet.from_cuts([*list(cuts)[8:16], part]).to_file(written / "val.jsonl.gz")
    places = {split: str(written / f"{split}.jsonl.gz") for split in SPLITS}
    with pytest.raises(DataError, match=rf"share a stretch of a recording: {one.id} in train and"):
        LhotseSet(cuts=places).open(written / "home")


def test_stretches_that_touch_are_apart_and_long_ones_reach_over_short_ones(manifests):
    whole = next(iter(manifests[0])).to_cut()

    def cut(first: float, last: float, name: str) -> object:
        return whole.truncate(offset=first, duration=last - first).with_id(name)

    _refuse_overlap([("train", cut(0, 0.5, "a")), ("val", cut(0.5, 1, "b"))], "x")
    with pytest.raises(DataError, match=r"x: cuts .*: a in train and c in val"):
        _refuse_overlap(
            [
                ("train", cut(0, 0.75, "a")),
                ("train", cut(0.25, 0.5, "b")),
                ("val", cut(0.625, 1, "c")),
            ],
            "x",
        )


def test_one_channel_of_a_stereo_file_is_that_one(tmp_path, tone):
    both = np.stack([tone(0), tone(1)], axis=1)
    soundfile.write(tmp_path / "both.wav", both, 8000, subtype="PCM_16")
    recording = Recording.from_file(tmp_path / "both.wav")
    right = MonoCut(id="r", start=0, duration=recording.duration, channel=1, recording=recording)
    CutSet.from_cuts([right]).to_file(tmp_path / "cuts.jsonl.gz")
    corpus = LhotseSet(cuts=str(tmp_path / "cuts.jsonl.gz"), test_only=True)
    [found] = _wholes(corpus.open(tmp_path / "home"))
    assert np.array_equal(found[0], soundfile.read(tmp_path / "both.wav", dtype="int16")[0][:, 1])


def test_stereo_and_mixed_cuts_come_in_averaged(tmp_path, tone):
    for number in range(3):
        both = np.stack([tone(number, 1.0), tone(number + 9, 1.0)], axis=1)
        soundfile.write(tmp_path / f"{number}.wav", both, 8000, subtype="PCM_16")
    cuts = [
        Recording.from_file(tmp_path / f"{number}.wav").to_cut().with_id(f"odd id {number}?")
        for number in range(3)
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    prepared = LhotseSet(cuts=str(tmp_path / "cuts.jsonl.gz")).open(tmp_path / "home")
    found = {bytes(samples) for samples in _wholes(prepared)}
    expected = set()
    for number in range(3):
        stereo, _ = soundfile.read(tmp_path / f"{number}.wav", dtype="int16")
        mean = stereo.astype(np.float64).mean(axis=1)
        expected.add(np.rint(mean).astype(np.int16).tobytes())
    assert found == expected
    assert prepared.class_names == ["sound"]


def _wholes(prepared):
    for split in SPLITS:
        table = prepared.table(split)
        for row in range(len(table)):
            yield prepared.reader.whole(int(table.recording[row]), 0, int(table.samples[row]))


def test_changed_manifests_are_another_set(written):
    def cuts():
        return LhotseSet(cuts=str(written / "cuts.jsonl.gz"))

    before = cuts().key()
    assert cuts().key() == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lhotse_set, "_READING", 1)  # by a version that read them otherwise
        assert cuts().key() != before
    os.utime(written / "cuts.jsonl.gz", (1, 1))  # others of the same size
    assert cuts().key() != before
    kept = CutSet.from_file(written / "cuts.jsonl.gz").subset(first=10).to_eager()
    kept.to_file(written / "cuts.jsonl.gz")
    assert cuts().key() != before


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, r"needs one of data.cuts=PATH, .*given: none"),
        ({"cuts": "a", "shar": "b"}, r"given: cuts, shar"),
        ({"cuts": "a", "supervisions": "b"}, r"data.supervisions goes with data.recordings"),
        ({"cuts": {"first": "a"}}, r"the keys train, val and test are needed"),
        ({"cuts": 3}, r"a path is needed, or \{train: PATH"),
        ({"cuts": "a", "class_from": "loudness"}, r"known are speaker, text and custom.NAME"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, told, message):
    with pytest.raises(ConfigError, match=message):
        LhotseSet(**told).open(tmp_path)


def test_what_is_not_there_or_no_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.jsonl is not there: data.cuts names"):
        LhotseSet(cuts=str(tmp_path / "none.jsonl")).open(tmp_path / "home")
    (tmp_path / "odd.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"odd.jsonl: lhotse cannot read it as cuts"):
        LhotseSet(cuts=str(tmp_path / "odd.jsonl")).open(tmp_path / "home")


LOAD = """
import sys
from lhotse import CutSet
cuts = CutSet.from_file(sys.argv[1])
print(sum(cut.load_audio().shape[1] for cut in cuts))
"""


@pytest.fixture
def converted(tmp_path, tone):
    """A folder of 8 kHz files that was prepared at 4 kHz, so that all are stored."""
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", tone(number), 8000)
    return Folder(str(tmp_path / "sounds"), sample_rate=4000).open(tmp_path / "home")


def test_what_we_write_loads_in_a_fresh_lhotse_process_from_any_folder(converted, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(converted.folder / "train_cuts.jsonl.gz")],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{converted.table('train').samples.sum()}\n", done.stderr


def test_what_we_write_comes_in_again_with_the_same_samples(converted, tmp_path):
    places = {split: str(converted.folder / f"{split}_cuts.jsonl.gz") for split in SPLITS}
    again = LhotseSet(cuts=places).open(tmp_path / "other")
    assert again.class_names == converted.class_names
    for split in SPLITS:
        assert again.table(split).samples.tolist() == converted.table(split).samples.tolist()
    assert sorted(map(bytes, _wholes(again))) == sorted(map(bytes, _wholes(converted)))


def test_a_data_home_can_be_moved(converted, tmp_path):
    wholes = [bytes(one) for one in _wholes(converted)]
    (tmp_path / "home").rename(tmp_path / "moved")
    for limit in (None, 0):
        sounds = Folder(str(tmp_path / "sounds"), sample_rate=4000, cache_limit_mb=limit)
        prepared = sounds.open(tmp_path / "moved", _refuse)
        assert [bytes(one) for one in _wholes(prepared)] == wholes
    prepared.verify()
    for split in SPLITS:
        for cut in prepared.cuts(split):
            assert cut.recording.sources[0].source.startswith(str(tmp_path / "moved"))
            assert cut.load_audio().shape == (1, cut.num_samples)


def _refuse(*about):
    raise AssertionError(f"prepared again: {about}")
