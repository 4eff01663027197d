"""Segments of pieces against a loop over samples; and what makes a file of samples valid."""

import json
import shutil

import numpy as np
import pytest

from lightning_sep.data.cache import CacheFile, MappedReader, cache_key, room
from lightning_sep.data.full_scale import FullScale

LENGTHS = np.array([30, 12, 50])
KEY = {"content": "c", "sample_rate": 8000, "resampler": "soxr 1"}


def recordings(channels: int) -> list[np.ndarray]:
    """``[time, channel]`` each; every sample is another number."""
    ends = np.cumsum(LENGTHS * channels)
    return [
        np.arange(end - length * channels, end).reshape(length, channels).astype(np.int16)
        for end, length in zip(ends, LENGTHS, strict=True)
    ]


def kept(folder, channels=1, key="k") -> CacheFile:
    file = CacheFile(folder, key, channels)
    halves = [(one[: len(one) // 2], one[len(one) // 2 :]) for one in recordings(channels)]
    assert file.write(halves, 10_000)
    return file


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_segment_is_of_its_piece_alone(tmp_path, channels, repeat):
    file = kept(tmp_path, channels)
    offsets = file.offsets(LENGTHS)
    reader = MappedReader(file.samples_path, offsets, channels)
    rows = [  # recording, start of the piece, its length, place of the segment
        *((0, 0, 30, 0), (0, 4, 20, 3), (2, 10, 7, 0), (2, 10, 7, 5), (1, 2, 10, 0), (0, 5, 8, -3)),
        *((1, 0, 12, 11), (2, 40, 10, 0), (0, 0, 8, 0), (2, 3, 9, -20), (2, 3, 9, 20)),
        (2, 42, 8, 0),
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    found = reader.read(*columns, 8, repeat=repeat)
    assert found.shape == (len(rows), channels, 8)
    sounds = recordings(channels)
    for row, (recording, start, length, first) in enumerate(rows):
        for channel in range(channels):
            expected = []
            for place in range(first, first + 8):
                if repeat:
                    place %= length
                inside = 0 <= place < length
                expected.append(sounds[recording][start + place, channel] if inside else 0)
            assert found[row, channel].tolist() == expected, rows[row]


def test_decoded_samples_take_nine_tenths_of_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(900, 700, 200))
    assert room(tmp_path) == 180


def test_a_file_is_valid_for_what_it_was_made_of_alone(tmp_path):
    file = kept(tmp_path)
    assert file.offsets(LENGTHS).tolist() == [0, 30, 42, 92]
    for others in ([30, 12, 49], [12, 30, 50], [30, 12], [30, 12, 50, 1], [42, 50, 0]):
        assert file.offsets(np.array(others)) is None
    assert CacheFile(tmp_path, "k", 2).offsets(LENGTHS) is None
    facts = json.loads(file.facts_path.read_text())
    file.facts_path.write_text(json.dumps(facts | {"key": "another"}))
    assert file.offsets(LENGTHS) is None
    file.facts_path.write_text(json.dumps(facts))
    assert file.offsets(LENGTHS) is not None
    with file.samples_path.open("ab") as samples:
        samples.write(b"\0\0")
    assert file.offsets(LENGTHS) is None


@pytest.mark.parametrize("damaged", ["samples_path", "offsets_path"])
def test_one_bit_of_the_samples_or_of_their_places_is_noticed(tmp_path, damaged):
    file = kept(tmp_path)
    assert file.problems() == []
    content = bytearray(getattr(file, damaged).read_bytes())
    content[-1] ^= 1
    getattr(file, damaged).write_bytes(bytes(content))
    assert "differs from its checksum" in file.problems()[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_nothing_is_kept_beyond_the_limit(tmp_path, channels):
    needed = int(LENGTHS.sum()) * 2 * channels
    file = CacheFile(tmp_path, "k", channels)
    blocks = [[one] for one in recordings(channels)]
    assert not file.write(blocks, needed - 1)
    assert file.offsets(LENGTHS) is None
    assert not file.samples_path.exists()
    assert file.write(blocks, needed)
    assert file.offsets(LENGTHS) is not None


@pytest.mark.parametrize("change", [{"content": "d"}, {"sample_rate": 1}, {"resampler": "soxr 2"}])
def test_decoded_samples_go_by_all_that_they_depend_on(change):
    assert cache_key(**KEY) == cache_key(**KEY)
    assert cache_key(**KEY | change) != cache_key(**KEY)


# --- recordings that are too loud


SIGNAL = 0.3 * np.sin(np.arange(4000) * 0.01 + 0.005)
IDENTITIES = [f"rain/{number}.flac" for number in range(300)]


def gains(corpus: FullScale) -> np.ndarray:
    """How far over full scale each recording was driven, from its samples near 0."""
    quiet = np.abs(SIGNAL) < 0.01
    slopes = []
    for identity in IDENTITIES:
        made = corpus.recorded(SIGNAL, identity)
        assert np.abs(made).max() == 1
        slopes.append(np.median(made[quiet] / SIGNAL[quiet]))
    return np.array(slopes) * np.abs(SIGNAL).max()


def test_unclipped_recordings_just_reach_full_scale():
    np.testing.assert_allclose(gains(FullScale(clipped=0.0)), 1, rtol=1e-9)


def test_clipped_recordings_were_driven_6_to_12_db_too_far_each_by_its_own():
    found_db = 20 * np.log10(gains(FullScale(clipped=1.0)))
    assert 6 <= found_db.min() < 6.2
    assert 11.8 < found_db.max() <= 12
    assert found_db.mean() == pytest.approx(9, abs=0.35)  # three standard errors
    assert len(set(np.round(found_db, 6))) == 300
    other_db = 20 * np.log10(gains(FullScale(clipped=1.0, seed=1)))
    assert abs(np.corrcoef(found_db, other_db)[0, 1]) < 0.2


def test_the_share_of_the_recordings_that_are_clipped_is_that_asked_for():
    clipped = int((gains(FullScale(clipped=0.2)) > 1.5).sum())
    assert clipped == pytest.approx(60, abs=21)  # three standard errors
