"""A constant offset (DC) is part of a recording: it is kept, and is neither silence nor a fault."""

import numpy as np
import pytest
import soundfile

from lightning_sep.data.audio_files import to_int16
from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures, mix

OFFSET = 0.3


@pytest.fixture
def shifted(tmp_path, tone):
    """Six recordings around 0.3 instead of 0: mono in 16 bits, in floats, stereo, and no sound."""
    folder = tmp_path / "shifted"
    folder.mkdir()
    sounds = [0.5 * tone(number, 0.1) + OFFSET for number in range(5)]
    sounds.append(np.full(800, OFFSET))
    for number, sound in enumerate(sounds):
        if number == 1:
            sound = np.stack([sound, sound], axis=1)
        subtype = "FLOAT" if number == 2 else "PCM_16"
        samples = sound if number == 2 else to_int16(sound)[0]
        soundfile.write(folder / f"{number}.wav", samples, 8000, subtype=subtype)
    return sounds, Folder(str(folder)).open(tmp_path / "home")


def test_samples_with_an_offset_are_kept_and_no_fault_is_told(shifted):
    sounds, prepared = shifted
    for number, sound in enumerate(sounds):
        found = prepared.reader.whole(number, 0, len(sound))
        assert np.array_equal(found[0], to_int16(sound)[0])
    assert prepared.source["kept"] == {}
    assert prepared.source["notes"] == []
    counts = prepared.source["counts"]
    assert (counts["files"], counts["silent"], counts["clipped in conversion"]) == (6, 0, 0)


def test_the_statistics_of_the_train_part_tell_the_offset(shifted):
    sounds, prepared = shifted
    rows = prepared.table("train").recording
    heard = np.concatenate([to_int16(sounds[row])[0] for row in rows]) / 32768
    told = prepared.statistics
    assert told["mean"] == pytest.approx(heard.mean(), rel=1e-12)
    assert told["std"] == pytest.approx(heard.std(), rel=1e-9)
    assert told["rms"] == pytest.approx(np.sqrt((heard**2).mean()), rel=1e-12)
    assert told["mean"] == pytest.approx(OFFSET, abs=0.01)


def test_a_constant_is_sound_to_the_level_of_a_mixture(shifted):
    _, prepared = shifted
    examples = Mixtures(segment_s=0.1, train=32, normalise="none", snr_range_db=[0.0, 0.0])
    for batch in examples.loader(prepared, "train", seed=0):
        assert batch.active.all()
        np.testing.assert_allclose(batch.sources.square().sum((-1, -2)).numpy(), 1.0, rtol=1e-5)
        assert (batch.sources.mean(-1) > 0).all()  # the offset is still there


def test_only_normalisation_by_the_deviation_takes_offsets_off():
    ramp = np.stack([np.arange(400) % 40, np.arange(400) % 16])[None, :, None]
    ramp = ramp.astype(np.int16) * 100
    level_db = np.zeros((1, 2))
    for normalise in ("none", "peak", "sources"):
        sources, _ = mix(ramp[:, :, None] + 5000, level_db=level_db, normalise=normalise)
        assert (sources.mean(axis=-1) > 0.5 * np.abs(sources).max(axis=-1)).all()
    sources, _ = mix(ramp[:, :, None] + 5000, level_db=level_db, normalise="std")
    np.testing.assert_allclose(sources.mean(axis=-1), 0, atol=1e-5)
    assert sources.sum(axis=1).std() == pytest.approx(1, rel=1e-5)
