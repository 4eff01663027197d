"""Sequences: gain, places, and no leak from validation into training."""

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.folder import Folder
from lightning_sep.data.sequences import Sequences
from lightning_sep.errors import ConfigError, DataError


@pytest.fixture
def long_one(tmp_path):
    """One long recording whose samples tell their place: split in time."""
    folder = tmp_path / "long"
    folder.mkdir()
    ramp = (np.arange(20000) % 30000 + 1000).astype(np.int16)
    soundfile.write(folder / "ramp.wav", ramp, 8000)
    return Folder(str(folder)).open(tmp_path / "home")


def starts(batch, gain):
    return torch.round(batch.waveform[:, 0, 0] / gain * 32768 - 1000).long()


def test_a_sequence_is_the_recording_times_the_gain(long_one):
    examples = Sequences(frame_samples=10, frames=5)
    gain = examples.facts(long_one).gain
    batch = next(iter(examples.loader(long_one, "train", seed=0)))
    ramp = (torch.arange(50)[None] + starts(batch, gain)[:, None] + 1000) / 32768
    torch.testing.assert_close(batch.waveform[:, 0], ramp * gain)


def test_the_gain_is_that_of_the_train_part(long_one):
    gain = Sequences().facts(long_one).gain
    assert gain == pytest.approx(32768 / (16000 - 1 + 1000))


@pytest.mark.parametrize(
    ("split", "low", "high"), [("train", 0, 16000), ("val", 16000, 18000), ("test", 18000, 20000)]
)
def test_no_sequence_leaves_its_part_of_the_recording(long_one, split, low, high):
    examples = Sequences(frame_samples=10, frames=5, train=2000, val=None, test=None)
    gain = examples.facts(long_one).gain
    found = torch.cat([starts(b, gain) for b in examples.loader(long_one, split, seed=0)])
    assert found.min() >= low
    assert found.max() + 50 <= high


def test_validation_walks_without_overlap(long_one):
    examples = Sequences(frame_samples=10, frames=5, val=None)
    gain = examples.facts(long_one).gain
    found = torch.cat([starts(b, gain) for b in examples.loader(long_one, "val", seed=0)])
    assert found.tolist() == list(range(16000, 18000, 50))


def test_fewer_sequences_are_kept_evenly(long_one):
    examples = Sequences(frame_samples=10, frames=5, val=4)
    gain = examples.facts(long_one).gain
    found = torch.cat([starts(b, gain) for b in examples.loader(long_one, "val", seed=0)])
    assert found.tolist() == [16000, 16500, 17000, 17500]


def test_training_starts_at_every_offset(long_one):
    examples = Sequences(frame_samples=2, frames=2, train=2000)
    gain = examples.facts(long_one).gain
    found = torch.cat([starts(b, gain) for b in examples.loader(long_one, "train", seed=0)])
    assert len(set(found.tolist())) > 1800
    assert found.double().mean() == pytest.approx(8000, abs=500)


def test_a_sequence_lies_wholly_in_one_recording(synthetic):
    draw = Sequences(frame_samples=1000, frames=30).draw(synthetic, "train")  # 30 000 of 80 000
    for number in range(20):
        batch = draw.batch(seed=number, epoch=0, index=np.arange(16))
        # a melody rests, but never for a third of a second at the end of every sequence
        assert (batch.waveform[..., -2700:].abs().amax(dim=(1, 2)) > 0).all()


def test_a_recording_just_as_long_as_a_sequence_is_one(tmp_path):
    folder = tmp_path / "short"
    folder.mkdir()
    for number, count in enumerate((50, 50, 50, 49, 51, 51)):
        samples = (1000 * number + np.arange(count) + 1).astype(np.int16)
        soundfile.write(folder / f"{number}.wav", samples, 8000)
    splits = ("train", "val", "test", "train", "train", "test")
    lines = [f"{number}.wav,{split}" for number, split in enumerate(splits)]
    (folder / "metadata.csv").write_text("\n".join(["filename,split", *lines]))
    prepared = Folder(str(folder)).open(tmp_path / "home")
    examples = Sequences(frame_samples=10, frames=5)
    draw = examples.draw(prepared, "train")
    rows, offset = draw.places(seed=0, epoch=0, index=np.arange(300))
    found = draw.table.recording[rows]
    assert sorted(set(zip(found.tolist(), offset.tolist(), strict=True))) == [
        (0, 0),
        (4, 0),
        (4, 1),
    ]
    assert examples.draw(prepared, "val").count == 1
    assert examples.draw(prepared, "test").count == 2


def test_music_is_taken_where_there_is_any(synthetic):
    batch = next(iter(Sequences().loader(synthetic, "train", seed=0)))
    assert {synthetic.class_names[label] for label in batch.labels.tolist()} == {"melody"}


def test_a_group_can_be_named(synthetic):
    batch = next(iter(Sequences(group="speech").loader(synthetic, "train", seed=0)))
    assert {synthetic.class_names[label] for label in batch.labels.tolist()} == {"speech"}


def test_an_unknown_group_is_answered_with_the_known(synthetic):
    with pytest.raises(ConfigError, match="music, noise, speech"):
        Sequences(group="birds").loader(synthetic, "train", seed=0)


def test_sequences_longer_than_every_recording_are_refused(synthetic):
    with pytest.raises(DataError, match=r"Lower examples.frames to 80 or less"):
        Sequences(frame_samples=1000, frames=200).loader(synthetic, "train", seed=0)


def test_a_silent_sequence_is_marked(tmp_path):
    folder = tmp_path / "half"
    folder.mkdir()
    samples = np.concatenate([np.zeros(4000), 0.5 * np.ones(6000)])
    soundfile.write(folder / "half.wav", samples, 8000)
    prepared = Folder(str(folder)).open(tmp_path / "home")
    examples = Sequences(frame_samples=10, frames=2, train=200, batch_size=200)
    batch = next(iter(examples.loader(prepared, "train", seed=0)))
    assert torch.equal(batch.active, batch.waveform.abs().amax(dim=(1, 2)) > 0)
    assert 0 < batch.active.float().mean() < 1


@pytest.mark.parametrize(
    "changes", [{"frame_samples": 0}, {"frames": 1}, {"group": ""}, {"val": 0}, {"train": "many"}]
)
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Sequences(**changes)
