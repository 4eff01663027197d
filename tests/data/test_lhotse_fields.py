"""What lhotse knows of a cut, field by field, and which cuts may not be torn apart."""

import shutil

import numpy as np
import pytest
import soundfile
import soxr
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import (
    get_audio_duration_mismatch_tolerance,
    set_audio_duration_mismatch_tolerance,
)

from lightning_sep.data.folder import Folder
from lightning_sep.data.lhotse_set import LhotseSet
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError


@pytest.fixture
def recording(tmp_path, tone):
    """Writes a recording of half a second, another sound for each number."""

    def write(number: int) -> Recording:
        path = tmp_path / f"r{number}.wav"
        soundfile.write(path, tone(number), 8000, subtype="PCM_16")
        return Recording.from_file(path)

    return write


def supervised(recording: Recording, *told: dict) -> MonoCut:
    """A cut of all of a recording, with a supervision for each of ``told``."""
    return MonoCut(
        id=f"cut-{recording.id}",
        start=0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=[
            SupervisionSegment(
                id=f"{recording.id}-{n}",
                recording_id=recording.id,
                start=0.1 * n,
                duration=0.1,
                **t,
            )
            for n, t in enumerate(told)
        ],
    )


def opened(tmp_path, cuts, **settings):
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    return LhotseSet(cuts=str(tmp_path / "cuts.jsonl.gz"), **settings).open(tmp_path / "home")


TOLD = [  # what supervisions say, and speaker, class, group, session and text of the piece
    (
        [{"speaker": "ann", "text": "yes", "custom": {"class_name": "word", "session": "d1"}}],
        ("ann", "word", "speech", "d1", "yes"),
    ),
    (
        [{"speaker": "ben", "text": "no", "custom": {"group": "song"}}],
        ("ben", "speech", "song", "", "no"),
    ),
    (
        [{"speaker": "cy", "text": "one"}, {"speaker": "cy", "text": "two"}],
        ("cy", "speech", "speech", "", "one two"),
    ),
    (
        [{"speaker": "dee", "text": "one"}, {"speaker": "eve", "text": "two"}],
        ("", "sound", "sound", "", "one two"),  # nobody's in particular
    ),
    ([{"custom": {"class_name": "rain"}}], ("", "rain", "sound", "", "")),
    ([], ("", "sound", "sound", "", "")),
]


def test_every_field_of_a_supervision_is_in_the_set(tmp_path, recording):
    cuts = [supervised(recording(n), *told) for n, (told, _) in enumerate(TOLD)]
    prepared = opened(tmp_path, cuts)
    found = {}
    for split in SPLITS:
        for cut in prepared.cuts(split):
            (one,) = cut.supervisions
            found[cut.recording.id] = (
                *(one.speaker or "", one.custom["class_name"], one.custom["group"]),
                *(one.custom.get("session", ""), one.text or ""),
            )
    assert found == {f"cut-r{n}": expected for n, (_, expected) in enumerate(TOLD)}


@pytest.mark.parametrize("by", ["recording", "speaker", "mixture", "sound"])
def test_cuts_of_one_recording_or_speaker_stay_together(tmp_path, recording, by):
    cuts = []
    for number in range(12):
        one = recording(number)
        if by == "speaker":
            cuts.append(supervised(one, {"speaker": f"s{number // 2}"}))
            continue
        if by == "mixture":
            custom = {"mixture": f"song {number // 2}", "stem": f"part {number % 2}"}
            cuts.append(supervised(one, {"custom": custom}))
            continue
        if by == "sound":
            if number % 2:  # a copy
                shutil.copy(tmp_path / f"r{number - 1}.wav", tmp_path / f"r{number}.wav")
            cuts.append(supervised(one))
            continue
        for part in (0, 1):
            half = one.to_cut().truncate(offset=0.25 * part, duration=0.25)
            cuts.append(half.with_id(f"cut-r{number}-{part}"))
    prepared = opened(tmp_path, cuts)
    places: dict[str, set[str]] = {}
    for split in SPLITS:
        assert len(prepared.table(split))
        for cut in prepared.cuts(split):
            number = int(cut.recording.id.split("-")[1][1:])
            places.setdefault(str(number if by == "recording" else number // 2), set()).add(split)
    assert len(places) == (12 if by == "recording" else 6)
    assert all(len(found) == 1 for found in places.values())


def test_the_seed_decides_the_split(tmp_path, recording):
    cuts = [supervised(recording(n), {"custom": {"class_name": "ab"[n > 8]}}) for n in range(12)]
    found = {}
    for seed in range(5):
        prepared = opened(tmp_path, cuts, seed=seed)
        found[seed] = tuple(
            frozenset(cut.recording.id for cut in prepared.cuts(split)) for split in SPLITS
        )
        assert prepared.source["split_rule"].endswith(f"seeded by {seed}")
        for split in SPLITS:  # each class gives its share
            assert set(prepared.table(split).label.tolist()) == {0, 1}
    assert len(set(found.values())) == 5


def test_a_cut_that_is_changed_on_the_way_is_not_taken_from_its_file(tmp_path, recording):
    cuts = [supervised(recording(number)) for number in range(6)]
    changed = [cut.perturb_volume(0.5) if n % 2 else cut for n, cut in enumerate(cuts)]
    prepared = opened(tmp_path, [cut.with_id(f"cut-{n}") for n, cut in enumerate(changed)])
    assert prepared.source["counts"]["stored as FLAC"] == 3
    seen = 0
    for split in SPLITS:
        for cut in prepared.cuts(split):
            number = int(cut.recording.id.split("-")[1])
            original, _ = soundfile.read(tmp_path / f"r{number}.wav")
            found = cut.load_audio()[0]
            np.testing.assert_allclose(
                found, original * (0.5 if number % 2 else 1), atol=1.01 / 32768
            )
            seen += 1
    assert seen == 6


def test_relative_paths_begin_where_the_manifest_lies(tmp_path, recording, monkeypatch):
    cuts = [supervised(recording(number)) for number in range(3)]
    for cut in cuts:
        (source,) = cut.recording.sources
        source.source = source.source.removeprefix(f"{tmp_path}/")
        assert "/" not in source.source
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    prepared = opened(tmp_path, cuts)
    assert prepared.source["counts"]["files"] == 3
    for split in SPLITS:
        (cut,) = prepared.cuts(split)
        original, _ = soundfile.read(tmp_path / f"{cut.recording.id.removeprefix('cut-')}.wav")
        np.testing.assert_allclose(cut.load_audio()[0], original, atol=1e-7)


def test_every_setting_that_changes_what_is_prepared_makes_another_set(
    tmp_path, recording, monkeypatch
):
    cuts = [supervised(recording(number)) for number in range(3)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    changes = [
        *({}, {"class_from": "speaker"}, {"seed": 1}, {"sample_rate": 4000}),
        *({"keep": True}, {"test_only": True}),
    ]
    lhotse = {LhotseSet(cuts=str(tmp_path / "cuts.jsonl.gz"), **one).key() for one in changes}
    assert len(lhotse) == len(changes)
    del changes[1]  # which folders do not have
    folders = {Folder(str(tmp_path), **one).key() for one in changes}
    assert len(folders) == len(changes)
    for place in ("folder", "lhotse_set"):  # another resampler makes other samples
        monkeypatch.setattr(f"lightning_sep.data.{place}.resampler", lambda: "soxr 0")
    assert Folder(str(tmp_path)).key() not in folders
    assert LhotseSet(cuts=str(tmp_path / "cuts.jsonl.gz")).key() not in lhotse
    (tmp_path / "more").mkdir()
    assert Folder(str(tmp_path / "more")).key() not in folders


# --- what contradicts itself, or would be lost or made up on the way


def said(recording, name, start=0.0, duration=0.5, speaker=None):
    return SupervisionSegment(
        id=name, recording_id=recording.id, start=start, duration=duration, speaker=speaker or name
    )


def of_manifests(tmp_path, recordings, supervisions):
    RecordingSet.from_recordings(recordings).to_file(tmp_path / "r.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(tmp_path / "s.jsonl.gz")
    places = {
        "recordings": str(tmp_path / "r.jsonl.gz"),
        "supervisions": str(tmp_path / "s.jsonl.gz"),
    }
    return LhotseSet(**places).open(tmp_path / "home")


def test_what_nothing_is_said_of_is_counted_and_what_is_not_there_refused(tmp_path, recording):
    recordings = [recording(number) for number in range(5)]
    supervisions = [said(one, f"u{n}") for n, one in enumerate(recordings)]
    source = of_manifests(tmp_path, recordings, supervisions[1:]).source
    assert source["left_out"] == {"without a supervision": {"files": 1, "examples": ["r0"]}}
    assert source["found"] == 5
    with pytest.raises(DataError, match=r"r.jsonl.gz lacks the recordings of 1 supervisions: u0"):
        of_manifests(tmp_path, recordings[1:], supervisions)


def test_supervisions_that_overlap_are_each_their_own_and_end_with_their_recording(
    tmp_path, recording
):
    supervisions = []
    for number in range(4):
        one = recording(number)
        supervisions += [said(one, f"a{number}", 0.0, 0.3), said(one, f"b{number}", 0.2, 0.4)]
    prepared = of_manifests(tmp_path, [recording(number) for number in range(4)], supervisions)
    names = {
        cut.recording.id: cut.supervisions[0].speaker for s in SPLITS for cut in prepared.cuts(s)
    }
    assert names == {f"{which}{n}": f"{which}{n}" for n in range(4) for which in "ab"}
    assert sorted(prepared.lengths.tolist()) == [2400] * 8
    [note] = prepared.source["notes"]
    assert note.startswith(
        "4 supervisions go on after the end of their recording, and end with it: b0"
    )


@pytest.mark.parametrize("given", [False, True])
def test_padded_cuts_of_one_recording_are_not_torn_apart(tmp_path, recording, given):
    cuts = [
        recording(number).to_cut().truncate(offset=0.2 * part, duration=0.2).pad(duration=0.4)
        for number in range(3)
        for part in (0, 1)
    ]
    for number, cut in enumerate(cuts):
        cut.id = f"{number // 2}-{number % 2}"
    if not given:
        prepared = opened(tmp_path, cuts)
        parts = [sorted(cut.recording.id for cut in prepared.cuts(split)) for split in SPLITS]
        assert sorted(parts) == [[f"{number}-0", f"{number}-1"] for number in range(3)]
        return
    places = {}
    for number, split in enumerate(SPLITS):
        places[split] = str(tmp_path / f"{split}.jsonl")
        # the last recording is in two of them
        CutSet.from_cuts(cuts[2 * number : 2 * number + 2 + (number == 0)]).to_file(places[split])
    with pytest.raises(DataError, match=r"share a stretch of a recording: 1-0 in train and 1-0 in"):
        LhotseSet(cuts=places).open(tmp_path / "home")


def test_a_cut_of_two_recordings_is_of_both(tmp_path, recording):
    first, second, third, *others = (recording(number).to_cut() for number in range(5))
    chain = [first.append(second).with_id("a"), second.append(third).with_id("b"), *others]
    for seed in range(4):
        prepared = opened(tmp_path, chain, seed=seed)
        parts = [sorted(cut.recording.id for cut in prepared.cuts(split)) for split in SPLITS]
        assert ["a", "b"] in parts
    places = {split: str(tmp_path / f"{split}.jsonl") for split in SPLITS}
    for cut, place in zip((chain[0], second, others[0]), places.values(), strict=True):
        CutSet.from_cuts([cut]).to_file(place)
    with pytest.raises(
        DataError, match=r"share a stretch of a recording: a in train and r1-?0? in"
    ):
        LhotseSet(cuts=places).open(tmp_path / "home")


def test_clipped_sums_are_told(tmp_path, tone):
    for number in range(3):
        loud = tone(number).copy()
        loud[:10] = 0.7  # of 4000: under 1 %
        soundfile.write(tmp_path / f"{number}.wav", loud, 8000, subtype="PCM_16")
    wholes = [Recording.from_file(tmp_path / f"{n}.wav").to_cut() for n in range(3)]
    cuts = [cut.mix(cut).with_id(f"m{number}") for number, cut in enumerate(wholes)]
    [note] = opened(tmp_path, cuts).source["notes"]
    assert note == "3 cuts reach beyond full scale, where they are clipped: m0, m1, m2"


def test_a_noise_of_which_nothing_is_said_may_be_in_two_splits(tmp_path, recording):
    noise, places = recording(9).to_cut(), {}
    for number, split in enumerate(SPLITS):
        mixed = supervised(recording(number), {"speaker": split}).mix(noise, snr=10)
        places[split] = str(tmp_path / f"{split}.jsonl")
        CutSet.from_cuts([mixed.with_id(split)]).to_file(places[split])
    prepared = LhotseSet(cuts=places).open(tmp_path / "home")
    assert sorted(prepared.speaker_names) == sorted(SPLITS)


@pytest.mark.parametrize(
    ("part", "seconds", "reason"),
    [
        (False, 0.2, r".*has 0.2 s, .* says 0.5 s"),
        (False, 0.9, r".*has 0.9 s, .* says 0.5 s"),
        (True, 0.2, "cannot be loaded by lhotse: Duration"),
    ],
)
def test_audio_of_another_length_than_its_manifest_says_is_refused(
    tmp_path, recording, tone, part, seconds, reason
):
    cuts = [recording(number).to_cut() for number in range(3)]
    if part:
        cuts = [cut.truncate(offset=0.1, duration=0.3, preserve_id=True) for cut in cuts]
    soundfile.write(tmp_path / "r1.wav", tone(1, seconds), 8000, subtype="PCM_16")
    before_s = get_audio_duration_mismatch_tolerance()
    set_audio_duration_mismatch_tolerance(0.75)  # what others have set stays
    try:
        with pytest.raises(DataError, match=rf"cut r1-?0?:? ?{reason}"):
            opened(tmp_path, cuts)
        assert get_audio_duration_mismatch_tolerance() == 0.75
    finally:
        set_audio_duration_mismatch_tolerance(before_s)


def test_a_field_that_no_supervision_has_makes_no_classes(tmp_path, recording):
    cuts = [supervised(recording(n), {"custom": {"emotion": "sad"}}) for n in range(3)]
    with pytest.raises(
        ConfigError, match=r"class_from=custom.emotoin: no supervision of .* has it"
    ):
        opened(tmp_path, cuts, class_from="custom.emotoin")


def test_what_is_no_cut_or_has_no_audio_is_refused(tmp_path, recording):
    with pytest.raises(DataError, match=r"cut a cannot be loaded by lhotse: ValueError: it has no"):
        opened(tmp_path, [MonoCut(id="a", start=0, duration=1.0, channel=0)])
    RecordingSet.from_recordings([recording(0)]).to_file(tmp_path / "r.jsonl")
    with pytest.raises(DataError, match=r"lhotse cannot read it as cuts .*a Recording is no cut"):
        LhotseSet(cuts=str(tmp_path / "r.jsonl")).open(tmp_path / "home")


@pytest.fixture
def kaldi(tmp_path, tone):
    """Three speakers with an utterance from 0.1 to 0.4 s each; one file has twice the rate."""
    folder = tmp_path / "kaldi"
    folder.mkdir()
    for number in range(3):
        rate = 16000 if number == 1 else 8000
        soundfile.write(tmp_path / f"r{number}.wav", tone(number), rate, subtype="PCM_16")
    for name, line in {
        "wav.scp": "r{0} {1}/r{0}.wav",
        "segments": "u{0} r{0} 0.1 0.2",
        "utt2spk": "u{0} s{0}",
        "spk2utt": "s{0} u{0}",
        "text": "u{0} hello",
    }.items():
        (folder / name).write_text("".join(line.format(n, tmp_path) + "\n" for n in range(3)))
    return folder


@pytest.mark.parametrize("text", [True, False])
def test_each_file_of_a_kaldi_folder_has_its_own_rate(kaldi, tmp_path, text):
    if not text:
        (kaldi / "text").unlink()  # as where speakers alone matter
    prepared = LhotseSet(kaldi=str(kaldi), sample_rate=16000).open(tmp_path / "home")
    for number in range(3):
        samples, rate = soundfile.read(tmp_path / f"r{number}.wav")
        expected = soxr.resample(samples[rate // 10 : rate // 5], rate, 16000)
        found = prepared.reader.whole(number, 0, 1600)[0] / 32768
        assert np.abs(found - expected).max() < 1e-3


def test_whole_files_of_a_kaldi_folder_lose_no_part_of_a_millisecond(kaldi, tmp_path):
    (kaldi / "segments").unlink()
    for name, line in {"utt2spk": "r{0} s{0}", "spk2utt": "s{0} r{0}", "text": "r{0} hi"}.items():
        (kaldi / name).write_text("".join(line.format(n) + "\n" for n in range(3)))
    stereo = np.random.default_rng(0).normal(scale=0.1, size=(4005, 2))  # 0.500625 s
    soundfile.write(tmp_path / "r0.wav", stereo, 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "r1.wav", stereo[:, 0], 8000, subtype="PCM_16")
    prepared = LhotseSet(kaldi=str(kaldi)).open(tmp_path / "home")
    stored = soundfile.read(tmp_path / "r0.wav", dtype="int16")[0].astype(int)
    found = prepared.reader.whole(0, 0, 4005)[0]
    assert prepared.lengths.tolist() == [4005, 4005, 4000]
    assert np.abs(found - stored.mean(axis=1)).max() <= 0.5  # of all its channels
    assert prepared.source["counts"]["stored as FLAC"] == 1


@pytest.mark.parametrize(
    ("said", "by"), [("s0 u0 u1\ns2 u2\n", "s0"), ("s0 u0\ns2 u2\n", "nobody")]
)
def test_speakers_of_a_kaldi_folder_that_disagree_are_refused(kaldi, tmp_path, said, by):
    (kaldi / "spk2utt").write_text(said)
    with pytest.raises(DataError, match=rf"u1 is of s1 by utt2spk, of {by} by spk2utt"):
        LhotseSet(kaldi=str(kaldi)).open(tmp_path / "home")
