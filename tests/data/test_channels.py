"""Sets of several channels: what each sample is of, from the file to the batch."""

import hashlib

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data import commands
from lightning_sep.data.cache import MappedReader, StreamReader
from lightning_sep.data.combined import Combination
from lightning_sep.data.examples import energy, is_active
from lightning_sep.data.folder import Folder
from lightning_sep.data.lhotse_set import LhotseSet
from lightning_sep.data.mixtures import Mixtures, mix
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets
from lightning_sep.errors import ConfigError, DataError

FILES, LENGTH = 9, 400
# of the nine files below as their mean, as it was before channels could be kept
MEAN_HASH = "89503259fa0f48aa775d4a041b961f3b6590f614937dfed07195f5f2e5a7e701"


def told(number: int, place: np.ndarray) -> np.ndarray:
    """Samples ``[..., channel, time]`` that tell their file, place and channel."""
    left = 1000 * (number + 1) + place
    return np.stack([left, left // 3 + 7], axis=-2)


@pytest.fixture
def root(tmp_path):
    """Nine stereo files whose samples tell where they are from."""
    folder = tmp_path / "stereo"
    folder.mkdir()
    for number in range(FILES):
        samples = told(number, np.arange(LENGTH)).T.astype(np.int16)
        soundfile.write(folder / f"{number}.wav", samples, 8000)
    return folder


@pytest.fixture
def kept(root, tmp_path):
    return Folder(str(root), channels="keep").open(tmp_path / "home")


def test_every_sample_keeps_its_channel_and_place(root, kept, tmp_path):
    streamed = Folder(str(root), channels="keep", cache_limit_mb=0).open(tmp_path / "other")
    assert isinstance(kept.reader, MappedReader)
    assert isinstance(streamed.reader, StreamReader)
    assert (kept.channels, streamed.channels) == (2, 2)
    assert kept.hash == streamed.hash
    recording = np.arange(FILES)
    zeros = np.zeros(FILES, dtype=np.int64)
    for offset in (0, 7, 390, -5):
        place = offset + np.arange(20)
        within = (place >= 0) & (place < LENGTH)
        expected = np.stack([told(number, place) * within for number in range(FILES)])
        for prepared in (kept, streamed):
            found = prepared.reader.read(recording, zeros, zeros + LENGTH, zeros + offset, 20)
            assert found.shape == (FILES, 2, 20)
            assert np.array_equal(found, expected)
    over = kept.reader.read(recording, zeros, zeros + LENGTH, zeros + 395, 20, repeat=True)
    place = (395 + np.arange(20)) % LENGTH
    assert np.array_equal(over, np.stack([told(number, place) for number in range(FILES)]))


def test_a_cache_without_the_second_half_of_its_bytes_is_built_again(root, kept, tmp_path):
    path = kept.cache.samples_path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # as many as one channel would take
    again = Folder(str(root), channels="keep").open(tmp_path / "home")
    expected = told(8, np.arange(LENGTH))
    assert np.array_equal(again.reader.whole(8, 0, LENGTH), expected)
    assert path.read_bytes() == whole


def test_the_command_prepares_what_a_run_then_finds(root, tmp_path):
    told_all = commands.prepare("folder", root, tmp_path / "home", settings=["data.channels=keep"])
    assert told_all["channels"] == 2
    found = Folder(str(root), channels="keep").prepared_folder(tmp_path / "home")
    assert str(found) == told_all["folder"]
    assert Folder(str(root)).prepared_folder(tmp_path / "home") is None


def test_statistics_and_lengths_count_all_channels_and_one(kept):
    assert kept.lengths.tolist() == [LENGTH] * FILES
    table = kept.table("train")
    samples = np.stack([told(int(n), np.arange(LENGTH)) for n in table.recording]) / 32768
    found = kept.statistics
    assert found["peak"] == np.abs(samples).max()
    assert found["mean"] == pytest.approx(samples.mean(), rel=1e-9)
    assert found["rms"] == pytest.approx(np.sqrt(np.square(samples).mean()), rel=1e-9)


def test_files_are_used_as_they_lie_and_lhotse_reads_their_channels(root, kept):
    assert kept.source["counts"].get("stored as FLAC", 0) == 0
    assert kept.source["channels"] == 2
    for cut in kept.cuts("train"):
        number = int(cut.recording.id.removesuffix(".wav"))
        samples = np.rint(cut.load_audio() * 32768)
        assert np.array_equal(samples, told(number, np.arange(LENGTH)))


def test_resampling_is_channel_by_channel(tmp_path):
    import soxr

    folder = tmp_path / "quick"
    folder.mkdir()
    noise = 0.1 * np.random.default_rng(0).normal(size=(3, 3000, 2))
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", noise[number], 12000, subtype="PCM_16")
    prepared = Folder(str(folder), channels="keep", sample_rate=8000).open(tmp_path / "home")
    for number in range(3):
        samples, _ = soundfile.read(folder / f"{number}.wav", dtype="float64")
        for channel in range(2):
            alone = soxr.resample(samples[:, channel], 12000, 8000, quality="HQ")
            found = prepared.reader.whole(number, 0, len(alone))[channel]
            assert np.array_equal(found, np.rint(alone * 32768))


def test_a_mean_is_the_set_that_it_always_was(root, tmp_path):
    prepared = Folder(str(root)).open(tmp_path / "home")
    assert prepared.channels == 1
    assert prepared.hash == MEAN_HASH
    assert "channels" not in prepared.source
    assert Folder(str(root)).key() != Folder(str(root), channels="keep").key()
    mean = np.rint(told(0, np.arange(LENGTH)).mean(axis=0))
    assert np.array_equal(prepared.reader.whole(0, 0, LENGTH), mean[None])


# of batches of the same set, as they were before
MEAN_BATCHES = {
    "none": "6330ef9fd62fc2b1",
    "peak": "1a9e1b2eae2e86c1",
    "sources": "2852d33475a0a691",
}


@pytest.mark.parametrize("normalise", MEAN_BATCHES)
def test_mixtures_of_one_channel_are_bit_for_bit_what_they_were(root, tmp_path, normalise):
    prepared = Folder(str(root)).open(tmp_path / "home")
    settings = {"segment_s": 0.06, "snr_range_db": [0.0, 0.0], "train": 64, "batch_size": 64}
    loader = Mixtures(**settings, normalise=normalise).loader(prepared, "train", seed=5)
    batch = next(iter(loader))
    digest = hashlib.sha256()
    for one in (batch.waveform, batch.sources, batch.labels, batch.active):
        digest.update(one.numpy().tobytes())
    assert digest.hexdigest()[:16] == MEAN_BATCHES[normalise]


def test_mono_files_have_one_hash_whether_or_not_channels_are_kept(tmp_path, tone):
    folder = tmp_path / "mono"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", tone(number), 8000)
    one = Folder(str(folder)).open(tmp_path / "home")
    other = Folder(str(folder), channels="keep").open(tmp_path / "home")
    assert one.hash == other.hash
    assert other.channels == 1


def test_a_mono_file_is_in_all_channels_and_counted(root, tmp_path):
    one = np.arange(300, 600, dtype=np.int16)
    soundfile.write(root / "one.wav", one, 8000)
    prepared = Folder(str(root), channels="keep").open(tmp_path / "home")
    assert prepared.source["counts"]["mono in all channels"] == 1
    assert prepared.source["counts"]["stored as FLAC"] == 1
    assert np.array_equal(prepared.reader.whole(FILES, 0, 300), np.stack([one, one]))


def test_files_of_other_channels_are_named(root, tmp_path):
    soundfile.write(root / "three.wav", np.ones((300, 3)) * 0.1, 8000)
    with pytest.raises(DataError, match=r"0\.wav: has 2 channels, others have 3.*channels=mean"):
        Folder(str(root), channels="keep").open(tmp_path / "home")
    soundfile.write(root / "nine.wav", np.ones((300, 9)) * 0.1, 8000)
    with pytest.raises(DataError, match=r"nine\.wav: more than 8 channels.*channels=mean"):
        Folder(str(root), channels="keep").open(tmp_path / "home")
    with pytest.raises(ConfigError, match=r"channels = 'both': known are mean, keep"):
        Folder(str(root), channels="both")


def test_channels_that_cancel_may_be_kept_and_not_averaged(tmp_path, tone):
    folder = tmp_path / "wide"
    folder.mkdir()
    for number in range(3):
        sound = tone(number)
        soundfile.write(folder / f"{number}.wav", np.stack([sound, -sound], axis=1), 8000)
    assert Folder(str(folder), channels="keep").open(tmp_path / "home").channels == 2
    with pytest.raises(DataError, match="cancel when averaged"):
        Folder(str(folder)).open(tmp_path / "home")


def test_lhotse_cuts_keep_their_channels(root, tmp_path):
    from lhotse import CutSet, Recording

    cuts = [Recording.from_file(root / f"{n}.wav").to_cut() for n in range(FILES)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    told_where = {"cuts": str(tmp_path / "cuts.jsonl.gz")}
    prepared = LhotseSet(**told_where, channels="keep").open(tmp_path / "home")
    assert prepared.channels == 2
    found = {prepared.reader.whole(n, 0, LENGTH).tobytes() for n in range(FILES)}
    expected = {told(n, np.arange(LENGTH)).astype(np.int16).tobytes() for n in range(FILES)}
    assert found == expected
    assert LhotseSet(**told_where).open(tmp_path / "home").channels == 1


@pytest.mark.parametrize("normalise", ["none", "peak", "sources"])
def test_a_mixture_scales_both_channels_of_a_source_by_one_gain(kept, normalise):
    examples = Mixtures(segment_s=0.02, train=64, batch_size=64, normalise=normalise)
    draw = examples.draw(kept, "train")
    index = np.arange(64)
    rows, offset = draw.places(seed=5, epoch=0, index=index)
    batch = draw.batch(seed=5, epoch=0, index=index)
    assert batch.waveform.shape == (64, 2, 160)
    assert torch.equal(batch.sources.sum(1), batch.waveform)
    for example in range(64):
        gains = []
        for source in range(2):
            number = int(draw.table.recording[rows[example, source]])
            place = int(offset[example, source]) + np.arange(160)
            gains.append(batch.sources[example, source].numpy() / told(number, place))
        for gain in gains:
            np.testing.assert_allclose(gain, gain.mean(), rtol=1e-5)
    if normalise == "none":
        assert batch.sources[:, 1].double().square().sum((1, 2)).numpy() == pytest.approx(1.0)
    elif normalise == "peak":
        assert batch.waveform.abs().amax((1, 2)).numpy() == pytest.approx(1.0)
    else:
        assert batch.sources.abs().amax((1, 2, 3)).numpy() == pytest.approx(1.0)


def test_each_channel_loses_its_mean_and_all_share_one_deviation():
    segments = np.random.default_rng(0).integers(-999, 999, (4, 2, 2, 500)).astype(np.int16)
    segments[:, :, 1] //= 3
    segments[:, :, 0] += 500
    sources, active = mix(segments, level_db=np.zeros((4, 2)), normalise="std")
    assert active.all()
    mixture = sources.sum(1)
    assert np.abs(mixture.mean(-1)).max() < 1e-6
    assert np.sqrt(np.square(mixture).mean((1, 2))) == pytest.approx(1.0, rel=1e-5)
    assert (mixture[:, 0].std(-1) > 2 * mixture[:, 1].std(-1)).all()


def test_a_sound_in_one_channel_is_no_silence():
    segments = np.zeros((1, 2, 2, 100), np.int16)
    segments[0, 0, 1] = 5  # rms of both channels 3.5, above 3.28
    segments[0, 1, 0] = 4  # 2.8
    assert energy(segments) * 32768**2 == pytest.approx(np.array([[2500, 1600]]))
    _, active = mix(segments, level_db=np.zeros((1, 2)), normalise="none")
    assert active.tolist() == [[True, False]]
    assert is_active(segments).tolist() == [[True, False]]


@pytest.mark.parametrize("kind", [Snippets, Sequences])
def test_examples_of_one_channel_refuse_more_in_one_line(kept, kind):
    name = kind.__name__.lower()
    for use in (lambda: kind().facts(kept), lambda: kind().draw(kept, "train")):
        with pytest.raises(ConfigError, match=rf"examples={name} take one channel.*has 2") as told:
            use()
        assert "\n" not in str(told.value)


def test_sets_of_other_channels_are_not_combined(kept, root, tmp_path):
    mono = Folder(str(root)).open(tmp_path / "home")
    with pytest.raises(DataError, match=r"one has 2, other has 1.*data\.channels"):
        Combination(["one", "other"], [kept, mono], None)
    both = Combination(["one", "other"], [kept, kept], None)
    assert both.channels == 2
    loader = Mixtures(segment_s=0.02, train=64, batch_size=64).loader(both, "train", seed=5)
    assert next(iter(loader)).waveform.shape == (64, 2, 160)
