"""What a file becomes, and what is said of one that cannot be used."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr

from lightning_sep.data import audio_files, mpeg
from lightning_sep.data.audio_files import (
    AudioFile,
    BadAudio,
    header_rate,
    read_int16,
    to_int16,
    write_flac,
)
from lightning_sep.data.mpeg import Frames, frames_of


class Decoded:
    """All of a file at once, and what was found out about it."""

    def __init__(self, path, **settings):
        self.file = AudioFile(path, **settings)
        blocks = list(self.file.blocks())
        self.samples = np.concatenate(blocks)
        if self.samples.shape[1] == 1:
            self.samples = self.samples[:, 0]
        self.longest = max(map(len, blocks))

    def __getattr__(self, name):
        return getattr(self.file, name)


def decode(path, **settings):
    return Decoded(path, **settings)


@pytest.fixture
def signal():
    return 0.4 * np.random.default_rng(0).normal(size=4000).clip(-2, 2)


def promising(content, samples):
    """A FLAC file whose header says another number of samples (36 bits from byte 21 on)."""
    changed = bytearray(content)
    changed[21] = (changed[21] & 0xF0) | (samples >> 32)
    changed[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)


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


FORMATS = {
    "wav": {},
    "flac": {},
    "mp3": {},
    "ogg": {},
    "oga": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aif": {"format": "AIFF"},
    "aiff": {},
    "aifc": {"format": "AIFF", "subtype": "FLOAT"},
    "au": {},
    "snd": {"format": "AU"},
    "caf": {},
    "w64": {},
    "rf64": {"format": "RF64"},
    "sph": {"format": "NIST", "subtype": "PCM_16"},
    "voc": {},
    "iff": {"format": "SVX", "subtype": "PCM_16"},
}
WITHOUT_LENGTH = {  # a cut cannot be seen in these
    "avr": {},
    "pvf": {},
    "paf": {},
    "sf": {"format": "IRCAM", "subtype": "PCM_16"},
    "xi": {},
}


@pytest.mark.parametrize(("suffix", "form"), (FORMATS | WITHOUT_LENGTH).items())
def test_every_promised_format_is_read(tmp_path, signal, suffix, form):
    assert f".{suffix}" in audio_files.SUFFIXES
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.2 * signal, 8000, **form)
    decoded = decode(path, sample_rate=None, keep=True)
    samples = decoded.samples
    with soundfile.SoundFile(path) as sound:
        assert decoded.as_is == (
            sound.format in ("FLAC", "WAV") and sound.subtype == "PCM_16" and decoded.channels == 1
        )
    if suffix not in ("mp3", "ogg", "oga", "opus"):
        assert np.abs(samples[:4000] - to_int16(0.2 * signal)[0]).max() <= 128  # 8 bits at least
    assert len(samples) == pytest.approx(4000, abs=2400)


@pytest.mark.parametrize("channels", [1, 2, 6, 10])
@pytest.mark.parametrize("rate", [1000, 8000, 11025, 44100])
def test_blocks_give_what_one_piece_gives(tmp_path, monkeypatch, channels, rate):
    generator = np.random.default_rng(channels)
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * generator.normal(size=(30011, channels)), rate, subtype="FLOAT")
    whole, _ = soundfile.read(path, dtype="float64", always_2d=True)
    expected = whole.mean(axis=1)
    if rate != 8000:
        expected = soxr.resample(expected, rate, 8000, quality="HQ")
    for block in (997, 4096, 1 << 18):
        monkeypatch.setattr(audio_files, "BLOCK", block)
        decoded = decode(path, sample_rate=8000)
        assert np.array_equal(decoded.samples, to_int16(expected)[0])
        # Where the rate rises eightfold, soxr waits for some.
        assert decoded.longest <= (2 * block if rate >= 8000 else max(2 * block, 8192))


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "opus", "flac"])
def test_blocks_of_a_coded_file_give_what_one_piece_gives(tmp_path, monkeypatch, signal, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.2 * np.tile(signal, 5), 48000, **FORMATS[suffix])
    expected = to_int16(soundfile.read(path, dtype="float64")[0])[0]
    monkeypatch.setattr(audio_files, "BLOCK", 1000)
    assert np.array_equal(decode(path, sample_rate=None).samples, expected)


def test_a_file_can_be_read_from_a_place_on(tmp_path, signal, monkeypatch):
    monkeypatch.setattr(audio_files, "BLOCK", 700)
    path = tmp_path / "a.flac"
    soundfile.write(path, to_int16(signal)[0], 8000)
    assert np.array_equal(
        np.concatenate(list(read_int16(path, 123, 3456)))[:, 0], to_int16(signal)[0][123:3456]
    )


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.5, -1.5, -1.0]), 8000, subtype="FLOAT")
    decoded = decode(path, sample_rate=None, keep=True)
    assert decoded.samples.tolist() == [16384, 32767, -32768, -32768]
    assert decoded.clipped == 2
    monkeypatch.setattr(audio_files, "BLOCK", 2)
    assert decode(path, sample_rate=None, keep=True).clipped == 2  # of all blocks


@pytest.mark.parametrize(
    ("samples", "subtype", "said"),
    [
        (np.r_[[1.5] * 11, [1.0] * 9, [0] * 980], "FLOAT", "1.1% of its samples lie beyond full"),
        (32767 * np.sin(np.arange(1000)), "FLOAT", "99.8% of its samples lie beyond"),
        (np.r_[np.full(11, 1.0), np.zeros(989)], "PCM_16", "1.1% of its samples are clipped"),
        (np.r_[np.full(11, -1.0), np.zeros(989)], "PCM_24", "1.1% of its samples are clipped"),
        (np.r_[np.full(10, 1.5), np.zeros(990)], "FLOAT", None),
        (np.r_[np.full(10, -1.0), np.zeros(990)], "PCM_16", None),
        (0.9999 * np.sin(0.01 * np.arange(100_000)), "PCM_16", None),
    ],
)
def test_a_file_with_over_1_percent_clipped_is_refused_unless_kept(
    tmp_path, samples, subtype, said
):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8000, subtype=subtype)
    if said is None:
        assert decode(path, sample_rate=None).kept == []
        return
    with pytest.raises(BadAudio, match=said) as caught:
        decode(path, sample_rate=None)
    assert caught.value.keepable
    (kept,) = decode(path, sample_rate=None, keep=True).kept
    assert said in kept


def test_a_published_file_may_have_been_recorded_at_full_scale(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.ones(1000), 8000, subtype="PCM_16")
    digest = audio_files.hashlib.sha256(path.read_bytes()).hexdigest()
    assert decode(path, sample_rate=None, sha256=digest).samples.min() == 32767
    soundfile.write(path, np.full(1000, 1 + 1e-5), 8000, subtype="FLOAT")  # rounding
    digest = audio_files.hashlib.sha256(path.read_bytes()).hexdigest()
    assert decode(path, sample_rate=None, sha256=digest).samples.min() == 32767
    for level in (3.0, 1 + 1.5 / 32768):
        soundfile.write(path, np.full(1000, level), 8000, subtype="FLOAT")
        digest = audio_files.hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(BadAudio, match="beyond full scale"):
            decode(path, sample_rate=None, sha256=digest)


@pytest.mark.parametrize(
    ("right", "refused"), [(-1.0, True), (-0.1, True), (-0.05, False), (0.0, False), (1.0, False)]
)
def test_stereo_that_cancels_is_refused_unless_kept(tmp_path, signal, right, refused):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.2 * np.stack([signal, right * signal], axis=1), 8000)
    if refused:
        with pytest.raises(BadAudio, match=r"channels cancel .*side louder than mid"):
            decode(path, sample_rate=None)
    assert len(decode(path, sample_rate=None, keep=True).kept) == refused


def test_channels_that_have_nothing_in_common_do_not_cancel(tmp_path):
    path = tmp_path / "a.wav"
    noise = np.random.default_rng(0).normal(size=(20, 8000, 2))
    for pair in noise:
        soundfile.write(path, 0.1 * pair, 8000)
        assert decode(path, sample_rate=None).kept == []


@pytest.mark.parametrize("rate", [1, 999, 384_001, 2_000_000_000])
def test_a_rate_that_no_recording_has_is_refused(tmp_path, signal, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, rate)
    with pytest.raises(BadAudio, match=f"header says {rate} Hz") as caught:
        decode(path, sample_rate=8000)
    assert caught.value.keepable


def test_a_rate_of_1_hz_that_is_kept_is_resampled(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.ones(300), 1)
    decoded = decode(path, sample_rate=8000, keep=True)
    assert len(decoded.samples) == 300 * 8000
    assert "header says 1 Hz" in decoded.kept[0]


def ogg_pages(content):
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def test_an_ogg_file_without_the_end_of_its_stream_is_refused_unless_kept(tmp_path, signal):
    path = tmp_path / "a.ogg"
    soundfile.write(path, 0.2 * np.tile(signal, 30), 8000)
    pages = ogg_pages(path.read_bytes())
    assert len(pages) > 4
    path.write_bytes(b"".join(pages[:-2]))
    with pytest.raises(BadAudio, match="last Ogg page does not end the stream"):
        decode(path, sample_rate=None)
    decoded = decode(path, sample_rate=None, keep=True)
    assert 0 < len(decoded.samples) < 120_000
    assert len(decoded.kept) == 1


def test_of_several_ogg_streams_the_first_alone_is_read_which_is_refused_unless_kept(tmp_path):
    path = tmp_path / "a.ogg"
    for number, seconds in enumerate((1, 2)):
        sound = np.random.default_rng(number).normal(0, 0.1, 8000 * seconds)
        soundfile.write(tmp_path / f"{number}.ogg", sound, 8000)
    path.write_bytes(b"".join((tmp_path / f"{number}.ogg").read_bytes() for number in (0, 1)))
    with pytest.raises(BadAudio, match="several Ogg streams, of which the first alone is read"):
        decode(path, sample_rate=None)
    assert len(decode(path, sample_rate=None, keep=True).samples) == 8000


def mp3(path, *, seconds=2, mode="CONSTANT", channels=1, rate=8000):
    """Writes an MP3 and gives what it is without the first frame, which tells its length."""
    time = np.arange(rate * seconds)[:, None] / rate
    loud = 0.01 + 0.3 * (time > seconds / 2) * np.sin(2 * np.pi * 440 * time)
    sound = loud * np.random.default_rng(0).normal(size=(len(time), channels))
    form = {"format": "MP3", "bitrate_mode": mode, "compression_level": 0.5}
    with soundfile.SoundFile(path, "w", rate, channels, **form) as file:
        file.write(sound)
    content = path.read_bytes()
    second = next(n for n in range(4, len(content)) if content[n : n + 2] == content[:2])
    return content[second:]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 1), (48000, 2)])
def test_the_frames_of_an_mp3_are_as_many_as_its_encoder_says(tmp_path, mode, rate, channels):
    path = tmp_path / "a.mp3"
    without = mp3(path, mode=mode, rate=rate, channels=channels)
    with path.open("rb") as file:
        found = frames_of(file)
    assert found.count == found.told >= 2 * rate / found.samples
    tagged = b"ID3\3\0\0\0\0\1\0" + b"\xff\xfb\x90\xc4" * 32 + without + b"TAG" + bytes(125)
    path.write_bytes(tagged)
    with path.open("rb") as file:
        assert frames_of(file) == Frames(found.count, found.samples, None)


def test_bit_rates_are_those_of_the_standard():
    """ISO/IEC 11172-3 and 13818-3, 2.4.2.3: four to an octave, or evenly spaced."""
    octaves = [2**n * m for n in range(3, 7) for m in (4, 5, 6, 7)]
    assert mpeg._BIT_RATES[0] == (
        tuple(range(32, 449, 32)),
        (32, *octaves[2:15]),
        tuple(octaves[:14]),
    )
    low = (*range(8, 65, 8), *range(80, 161, 16))
    assert mpeg._BIT_RATES[1] == ((32, 48, 56, *range(64, 193, 16), 224, 256), low, low)


def test_no_frame_is_found_in_what_is_no_mp3(tmp_path):
    (tmp_path / "a").write_bytes(np.random.default_rng(0).bytes(2000) + b"\xff\xfb\x90\xc4ID3")
    with (tmp_path / "a").open("rb") as file:
        assert frames_of(file) is None


def test_an_mp3_of_one_bit_rate_that_does_not_say_its_length_is_read_whole(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(path, rate=44100))
    with path.open("rb") as file:
        found = frames_of(file)
    assert len(decode(path, sample_rate=None).samples) == found.count * found.samples


def test_an_mp3_that_would_be_read_in_part_is_refused_unless_kept(tmp_path):
    path = tmp_path / "a.mp3"
    guessed, joined = mp3(path, mode="VARIABLE", rate=44100), 2 * path.read_bytes()
    for content, message in [
        (guessed, "does not say how long it is, so that [0-9]+ of its [0-9]+ samples can be read"),
        (joined, r"goes on after the 78 frames of its header \(several files joined\?\)"),
    ]:
        path.write_bytes(content)
        with pytest.raises(BadAudio, match=message):
            decode(path, sample_rate=None)
        assert 0 < len(decode(path, sample_rate=None, keep=True).samples) <= 2 * 44100


@pytest.mark.parametrize("samples", [2**33, 2**36 - 1, 40_001])
def test_a_flac_that_promises_more_than_it_holds_is_refused(tmp_path, signal, samples):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.2 * np.tile(signal, 10), 8000)
    path.write_bytes(promising(path.read_bytes(), samples))
    with pytest.raises(BadAudio, match=f"cut off after 40000 of {samples} samples"):
        decode(path, sample_rate=8000)


def test_a_flac_that_does_not_say_its_length_is_read_and_copied(tmp_path, signal):
    path = tmp_path / "a.flac"
    soundfile.write(path, to_int16(signal)[0], 8000)
    path.write_bytes(promising(path.read_bytes(), 0))
    decoded = decode(path, sample_rate=8000)
    assert np.array_equal(decoded.samples, to_int16(signal)[0])
    assert not decoded.as_is


def test_the_mpeg_decoder_writes_nothing_to_stderr(tmp_path, signal):
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.2 * np.tile(signal, 10), 8000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content[: int(0.7 * len(content))])
    code = (
        "from pathlib import Path; from lightning_sep.data.audio_files import *\n"
        f"path = Path({str(path)!r}); header_rate(path)\n"
        "try: list(AudioFile(path, sample_rate=None).blocks())\n"
        "except BadAudio: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("refused", "")


def test_what_the_disk_refuses_is_told_as_the_error_it_was(tmp_path, signal):
    (tmp_path / "a.flac").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_flac(tmp_path / "a.flac", np.tile(to_int16(signal)[0], 50), 8000)


def test_a_rate_is_read_from_the_header_alone(tmp_path, signal):
    path = tmp_path / "a.flac"
    soundfile.write(path, signal, 22050)
    assert header_rate(path) == 22050
    path.write_text("no audio")
    assert header_rate(path) is None


@pytest.mark.parametrize(("suffix", "form"), FORMATS.items())
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_cut_off_file_is_refused(tmp_path, signal, suffix, form, kept):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.2 * np.tile(signal, 10), 8000, **form)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match=r"cut off.*fetch it again"):
        decode(path, sample_rate=8000)


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\xff\xff\xff"])
def test_a_wav_that_was_written_to_a_pipe_is_read(tmp_path, signal, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, 8000)
    content = path.read_bytes()
    path.write_bytes(content[:4] + size + content[8:])
    assert len(decode(path, sample_rate=8000).samples) == 4000


@pytest.mark.parametrize("size", [b"\xff\xfe\xff\xff", b"\xff\xff\xff\x7f"])
def test_a_wav_that_promises_a_little_less_than_a_pipe_is_cut_off(tmp_path, signal, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, 8000)
    content = path.read_bytes()
    path.write_bytes(content[:4] + size + content[8:])
    with pytest.raises(BadAudio, match="is cut off, its end is missing"):
        decode(path, sample_rate=8000)


def test_chunks_of_odd_length_are_followed_by_a_byte_that_the_last_may_lack(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(101), 8000, subtype="PCM_U8")
    content = path.read_bytes()
    assert len(content) == 44 + 102
    path.write_bytes(content[:-1])
    assert len(decode(path, sample_rate=8000).samples) == 101
    # With no size of its own the end is known by the chunk of the audio alone, behind an odd one.
    chunk = b"note" + (3).to_bytes(4, "little") + b"abc" + b"\0"
    whole = content[:4] + bytes(4) + content[8:36] + chunk + content[36:]
    path.write_bytes(whole)
    assert len(decode(path, sample_rate=8000).samples) == 101
    path.write_bytes(whole[:-40])
    with pytest.raises(BadAudio, match="is cut off, its end is missing"):
        decode(path, sample_rate=8000)


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
def test_samples_that_are_no_numbers_are_refused(tmp_path, value, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.0, value, 0.1]), 8000, subtype="FLOAT")
    with pytest.raises(BadAudio, match="1 samples that are NaN or infinite"):
        decode(path, sample_rate=8000)
    monkeypatch.setattr(audio_files, "BLOCK", 2)  # and the last block is as it should be
    with pytest.raises(BadAudio, match="1 samples that are NaN or infinite"):
        decode(path, sample_rate=8000)


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path, signal):
    path = tmp_path / "a.flac"
    soundfile.write(path, signal, 8000)
    with pytest.raises(BadAudio, match="SHA256SUMS"):
        decode(path, sample_rate=8000, sha256="0" * 64)
