"""Stereo songs and given mixtures: stems keep their channels and get their surroundings."""

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.given import Given
from lightning_sep.data.given_mixtures import GivenMixtures
from lightning_sep.data.musdb18hq import Musdb18Hq
from lightning_sep.data.songs import Songs
from lightning_sep.data.stems import Stems

STEMS = ("bass", "vocals")
LENGTH, SAMPLES, CONTEXT = 900, 101, 55


def told(song: int, number: int, place: np.ndarray) -> np.ndarray:
    """Samples ``[channel, time]`` that tell song, stem, channel and place."""
    left = 2000 * song + 1000 * (number + 1) + place
    return np.stack([left, left // 2 + 3])


@pytest.fixture
def songs(tmp_path):
    """Six stereo songs of two stems, and their sum."""
    for song in range(6):
        folder = tmp_path / "songs" / f"song{song}"
        folder.mkdir(parents=True)
        stems = [told(song, n, np.arange(LENGTH)) for n in range(2)]
        for name, samples in zip((*STEMS, "mixture"), (*stems, sum(stems)), strict=True):
            soundfile.write(folder / f"{name}.wav", samples.T.astype(np.int16), 8000)
    return tmp_path / "songs"


@pytest.fixture
def prepared(songs, tmp_path):
    return Songs(str(songs), channels="keep").open(tmp_path / "home")


def ints(samples: torch.Tensor) -> np.ndarray:
    return (samples.numpy() * 32768).round().astype(int)


@pytest.mark.parametrize("context", [0, CONTEXT])
@pytest.mark.parametrize("split", ["train", "test"])
def test_stems_are_what_the_songs_hold_in_both_channels(prepared, split, context):
    settings = {"number": 2, "segment_samples": SAMPLES, "context_samples": context}
    examples = Stems(**settings, train=50)
    facts = examples.facts(prepared)
    assert (facts.channels, facts.segment_samples, facts.context_samples) == (2, SAMPLES, context)
    draw = examples.draw(prepared, split)
    index = np.arange(draw.count)
    rows, offset = draw.places(seed=1, epoch=0, index=index)
    batch = draw.batch(seed=1, epoch=0, index=index)
    assert batch.sources.shape == (draw.count, 2, 2, SAMPLES + 2 * context)
    assert torch.equal(batch.sources.sum(1), batch.waveform)
    beyond = 0
    for example in range(draw.count):
        for number in range(2):
            name = prepared.mixture_names[draw.table.mixture[rows[example, number]]]
            place = int(offset[example, number]) - context + np.arange(SAMPLES + 2 * context)
            within = (place >= 0) & (place < LENGTH)
            beyond += int((~within).sum())
            expected = told(int(name.removeprefix("song")), number, place) * within
            assert np.array_equal(ints(batch.sources[example, number]), expected)
    assert beyond or (split == "train" and not context)


def test_a_stem_that_is_silent_in_the_segment_is_marked_whatever_surrounds_it(songs, tmp_path):
    for song in range(6):
        samples = told(song, 0, np.arange(LENGTH)).T.astype(np.int16)
        samples[300:600] = 2  # -84 dBFS
        soundfile.write(songs / f"song{song}" / "bass.wav", samples, 8000)
    prepared = Songs(str(songs), channels="keep", keep=True).open(tmp_path / "home")
    settings = {"number": 2, "segment_samples": 100, "context_samples": CONTEXT}
    batch = next(iter(Stems(**settings, batch_size=9).loader(prepared, "test", seed=0)))
    silent = [False] * 3 + [True] * 3 + [False] * 3  # segments of 100 samples, one by one
    assert batch.active[:, 0].tolist() == [not one for one in silent]
    assert batch.active[:, 1].all()
    assert (batch.sources[3, 0].abs().amax() > 0.01).item()


def test_musdb_is_stereo_unless_it_is_asked_to_be_mixed_down(songs, tmp_path):
    stereo = Musdb18Hq(str(songs), val=None).open(tmp_path / "home")
    mono = Musdb18Hq(str(songs), val=None, channels="mean").open(tmp_path / "home")
    assert (stereo.channels, mono.channels) == (2, 1)
    assert stereo.hash != mono.hash


def test_given_mixtures_come_whole_with_their_channels(tmp_path):
    for split in ("tr", "cv", "tt"):
        for song in range(2):
            parts = [told(song, n, np.arange(LENGTH)) + ord(split[1]) for n in range(2)]
            for name, samples in zip(("s1", "s2", "mix"), (*parts, sum(parts)), strict=True):
                path = tmp_path / "given" / split / name / f"{split}{song}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples.T.astype(np.int16), 8000)
    prepared = GivenMixtures(str(tmp_path / "given"), channels="keep").open(tmp_path / "home")
    [batch] = Given().loader(prepared, "test", seed=0)
    assert Given().facts(prepared).channels == 2
    assert batch.waveform.shape == (2, 2, LENGTH)
    for song in range(2):
        parts = [told(song, n, np.arange(LENGTH)) + ord("t") for n in range(2)]
        assert np.array_equal(ints(batch.sources[song]), np.stack(parts))
        assert np.array_equal(ints(batch.waveform[song]), sum(parts))
