"""What lhotse knows of a cut, field by field, and which cuts may not be torn apart."""

import shutil

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from lightning_sep.data.folder import Folder
from lightning_sep.data.lhotse_set import LhotseSet
from lightning_sep.data.splits import SPLITS


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
