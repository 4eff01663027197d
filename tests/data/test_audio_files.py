"""What a file becomes, and what is said of one that cannot be used."""

import numpy as np
import pytest
import soundfile
import soxr

from lightning_sep.data.audio_files import BadAudio, decode, to_int16


@pytest.fixture
def signal():
    return 0.4 * np.random.default_rng(0).normal(size=4000).clip(-2, 2)


def test_a_16_bit_mono_file_is_taken_as_it_is(tmp_path, signal):
    path = tmp_path / "a.flac"
    soundfile.write(path, to_int16(signal)[0], 8000)
    decoded = decode(path, sample_rate=8000)
    assert decoded.as_is
    assert np.array_equal(decoded.samples, to_int16(signal)[0])


def test_a_stereo_file_becomes_the_mean_of_its_channels(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([[100, 300], [-50, 51]], np.int16), 8000)
    decoded = decode(path, sample_rate=None)
    assert decoded.samples.tolist() == [200, 0]  # 0.5 is rounded to the even neighbour
    assert decoded.channels == 2


def test_another_rate_is_resampled_by_soxr_hq(tmp_path, signal):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, 16000, subtype="DOUBLE")
    expected = to_int16(soxr.resample(signal, 16000, 8000, quality="HQ"))[0]
    assert np.array_equal(decode(path, sample_rate=8000).samples, expected)


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac", "wav"])
def test_every_promised_format_is_read(tmp_path, signal, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.2 * signal, 8000)
    assert len(decode(path, sample_rate=None).samples) == pytest.approx(4000, abs=2400)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.5, -1.5, -1.0]), 8000, subtype="FLOAT")
    decoded = decode(path, sample_rate=None)
    assert decoded.samples.tolist() == [16384, 32767, -32768, -32768]
    assert decoded.clipped == 2


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_cut_off_file_is_refused(tmp_path, signal, suffix, kept):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.2 * np.tile(signal, 10), 8000)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match=r"cut off.*fetch it again"):
        decode(path, sample_rate=8000)


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_wav_that_was_written_to_a_pipe_is_read(tmp_path, signal, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, 8000)
    content = path.read_bytes()
    path.write_bytes(content[:4] + size + content[8:])
    assert len(decode(path, sample_rate=8000).samples) == 4000


def test_a_wav_cut_off_in_its_header_is_refused(tmp_path, signal):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, 8000)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(BadAudio, match="cut off"):
        decode(path, sample_rate=8000)


def test_a_wav_without_samples_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 8000)
    with pytest.raises(BadAudio, match="0 samples: remove it"):
        decode(path, sample_rate=8000)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.touch()
    with pytest.raises(BadAudio, match="empty file"):
        decode(path, sample_rate=8000)


def test_a_file_that_is_no_audio_is_refused(tmp_path):
    path = tmp_path / "a.flac"
    path.write_text("a page that says: not found")
    with pytest.raises(BadAudio, match="no audio"):
        decode(path, sample_rate=8000)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadAudio, match="not there"):
        decode(tmp_path / "a.flac", sample_rate=8000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.0, value, 0.1]), 8000, subtype="FLOAT")
    with pytest.raises(BadAudio, match="1 samples that are NaN or infinite"):
        decode(path, sample_rate=8000)


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path, signal):
    path = tmp_path / "a.flac"
    soundfile.write(path, signal, 8000)
    with pytest.raises(BadAudio, match="SHA256SUMS"):
        decode(path, sample_rate=8000, sha256="0" * 64)
