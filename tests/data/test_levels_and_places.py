"""Levels, silence and places of examples, each against numbers that are worked out here."""

import hashlib
import math

import numpy as np
import pytest
import soundfile
import torch
from scipy import stats

from lightning_sep.data.audio_files import to_int16
from lightning_sep.data.draws import uniform
from lightning_sep.data.examples import EpochBatches, energy, is_active
from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures, mix, random_offset
from lightning_sep.data.ones import Ones
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets

# --- energy and silence: -80 dBFS is 3.2768 steps of 16 bits


def test_the_energy_is_exact_whatever_the_length():
    samples = np.random.default_rng(0).integers(-32768, 32768, (3, 2, 50_001)).astype(np.int16)
    expected = [sum(int(value) ** 2 for value in row.ravel().tolist()) for row in samples]
    assert (energy(samples) * 32768**2).tolist() == expected


@pytest.mark.parametrize(("steps", "sounds"), [(0, False), (3, False), (4, True), (-4, True)])
@pytest.mark.parametrize(("channels", "count"), [(1, 10), (1, 4000), (2, 10)])
def test_silence_is_what_lies_below_80_db_under_full_scale(steps, sounds, channels, count):
    samples = np.full((1, channels, count), steps, dtype=np.int16)
    assert is_active(samples).tolist() == [sounds]
    loud = np.full((1, channels, count), 9000, dtype=np.int16)
    sources, active = mix(
        np.stack([samples, loud], axis=1), level_db=np.zeros((1, 2)), normalise="none"
    )
    assert active.tolist() == [[sounds, True]]
    assert (np.square(sources[0]).sum(axis=(1, 2)) > 0.99).tolist() == [sounds, True]
    assert sources[0, 0].any() == sounds  # exact zeros


# --- levels of mixtures


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Nine files of three classes, 1 s at 16 kHz but one short one."""
    folder = tmp_path_factory.mktemp("levels") / "set"
    folder.mkdir()
    rows = ["filename,class,speaker,split"]
    for number in range(18):
        split = ("train", "val", "test")[number % 3]
        noise = np.random.default_rng(number).normal(size=16000 if number else 400)
        soundfile.write(folder / f"{number:02d}.wav", to_int16(0.05 * noise)[0], 16000)
        name = "abc"[number // 3 % 3]
        rows.append(f"{number:02d}.wav,{name},{split}{name}{number // 9},{split}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return Folder(str(folder)).open(folder.parent / "home")


def mixed_down(segments, level_db, normalise):
    """Sources of mono segments, ``[batch, source, time]``."""
    sources, _ = mix(segments[:, :, None], level_db=level_db, normalise=normalise)
    return sources[:, :, 0]


@pytest.mark.parametrize("sources", [2, 3])
def test_every_source_but_the_last_has_a_level_of_its_own(mixed, sources):
    examples = Mixtures(
        sources=sources, segment_s=0.05, snr_range_db=[-3.0, 9.0], normalise="none", train=40
    )
    index = np.arange(40)
    batch = examples.draw(mixed, "train").batch(seed=4, epoch=2, index=index)
    numbers = uniform(seed=4, epoch=2, index=index, purpose="level", columns=sources)
    level_db = 10 * torch.log10(batch.sources.double().square().sum((-1, -2))).numpy()
    np.testing.assert_allclose(level_db[:, :-1], -3 + 12 * numbers[:, :-1], atol=1e-4)
    np.testing.assert_allclose(level_db[:, -1], 0, atol=1e-4)
    torch.testing.assert_close(batch.waveform, batch.sources.sum(1))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_of_all_samples_of_the_sources_becomes_1(sign):
    segments = np.zeros((2, 2, 50), dtype=np.int16)
    segments[:, 0, ::2], segments[:, 1, 1::2] = 900, -700
    segments[0, 0, 10], segments[1, 1, 11] = sign * 9000, sign * 8000
    sources = mixed_down(segments, np.zeros((2, 2)), "sources")
    for example, place in ((0, (0, 10)), (1, (1, 11))):
        largest = np.abs(sources[example]).max()
        assert largest == pytest.approx(1.0, rel=1e-6)
        assert largest <= 1
        assert np.sign(sources[example][place]) == sign
        assert np.abs(sources[example][place]) == largest


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sample_of_each_mixture_becomes_1(sign):
    segments = np.zeros((2, 2, 50), dtype=np.int16)
    segments[:, 0], segments[:, 1] = 300, -200
    segments[0, 0, 10], segments[1, 1, 11] = sign * 9000, sign * 4000
    sources = mixed_down(segments, np.zeros((2, 2)), "peak")
    np.testing.assert_allclose(np.abs(sources.sum(axis=1)).max(axis=1), 1, rtol=1e-6)


def test_the_deviation_of_each_mixture_becomes_1():
    segments = np.random.default_rng(2).integers(-900, 2000, (3, 2, 400)).astype(np.int16)
    sources = mixed_down(segments, np.array([[-5.0, 0], [0, 0], [5, 0]]), "std")
    np.testing.assert_allclose(sources.sum(axis=1).std(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(sources.mean(axis=2), 0, atol=1e-6)


def test_a_piece_shorter_than_the_segment_lies_anywhere_within_it():
    numbers = np.random.default_rng(0).random(20_000)
    places = random_offset(numbers, np.full(20_000, 60), 80)
    assert (places.min(), places.max()) == (-20, 0)
    assert stats.chisquare(np.bincount(-places, minlength=21)).pvalue > 1e-4
    exact = random_offset(numbers[:50], np.full(50, 80), 80)
    assert not exact.any()


# --- what is told of a set


def test_lengths_are_told_in_samples_of_the_sets_own_rate(mixed):
    assert mixed.sample_rate == 16000
    facts = Mixtures(segment_s=0.05).facts(mixed)
    assert (facts.sample_rate, facts.segment_samples) == (16000, 800)
    speakers = Snippets(speakers=2, snippets=3, segment_s=0.025).facts(mixed)
    assert (speakers.sample_rate, speakers.segment_samples) == (16000, 400)
    assert (speakers.speakers, speakers.snippets, speakers.train_speakers) == (2, 3, 6)


def test_the_gain_is_that_of_the_group_that_is_drawn_from(tmp_path):
    rows = ["filename,group,split"]
    peaks = {"music": 6000, "speech": 20000}
    for group, peak in peaks.items():
        for number, split in enumerate(("train", "val", "test")):
            name = f"{group}{number}.wav"
            samples = np.full(400, peak + 1000 * number, dtype=np.int16) - np.arange(400)
            soundfile.write(tmp_path / name, samples.astype(np.int16), 8000)
            rows.append(f"{name},{group},{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    prepared = Folder(str(tmp_path)).open(tmp_path.parent / "home")
    for group, peak in {"auto": 6000, **peaks, "all": 20000}.items():
        examples = Sequences(frame_samples=10, frames=4, group=group, train=30, val=2, test=2)
        facts = examples.facts(prepared)
        assert facts.gain == pytest.approx(32768 / peak, rel=1e-12)
        assert facts.train_statistics["peak"] == peak / 32768
        draw = examples.draw(prepared, "train")
        batch = draw.batch(seed=0, epoch=0, index=np.arange(30))
        drawn, offset = draw.places(seed=0, epoch=0, index=np.arange(30))
        for waveform, row, first in zip(batch.waveform[:, 0], drawn, offset, strict=True):
            start = peaks[prepared.group_names[int(draw.table.group[row])]]
            expected = (start - first - np.arange(40)) / peak
            np.testing.assert_allclose(waveform.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_all_ones_are_as_many_as_asked_for(mixed, split):
    examples = Ones(frame_samples=4, frames=5, train=7, val=3, test=2, batch_size=4)
    batches = list(examples.loader(mixed, split, seed=0))
    together = torch.cat([batch.waveform for batch in batches])
    assert together.tolist() == [[[1.0] * 20]] * {"train": 7, "val": 3, "test": 2}[split]
    assert all(batch.active.all() for batch in batches)


# --- order


@pytest.mark.parametrize(
    ("factor", "start", "sizes"),
    [(1, 0, [4, 4, 4, 4, 2]), (2, 0, [8, 8, 2]), (2, 1, [8, 2]), (3, 0, [12, 6]), (9, 0, [18])],
)
def test_batches_of_a_later_stage_hold_more_examples(factor, start, sizes):
    batches = EpochBatches(count=18, batch_size=4, start_epoch=3, start_batch=start)
    batches.factor = factor
    found = list(batches)
    assert [len(index) for _, index in found] == sizes
    assert {epoch for epoch, _ in found} == {3}
    assert len(batches) == math.ceil(18 / (4 * factor))
    together = np.concatenate([index for _, index in found])
    assert together.tolist() == list(range(start * 4 * factor, 18))
    batches.set_epoch(4)
    assert [len(index) for _, index in batches] == [*([4 * factor] * start), *sizes]


# --- draws that runs of before have made: a run of today has to make the same

KINDS = {
    "mixtures": Mixtures(segment_s=0.1, train=64),
    "three sources": Mixtures(sources=3, segment_s=0.1, train=64),
    "speech and noise": Mixtures(segment_s=0.1, pairing="speech_noise", train=64),
    "mixtures in a pass": Mixtures(segment_s=0.1, order="pass"),
    "sequences": Sequences(frame_samples=8, frames=10, train=64),
    "sequences in a pass": Sequences(frame_samples=80, frames=10, order="pass"),
    "snippets": Snippets(speakers=3, snippets=2, segment_s=0.1, train=10),
    "snippets in a pass": Snippets(speakers=3, snippets=2, segment_s=0.1, order="pass"),
}


def digest(examples, prepared) -> str:
    """Of the rows and first samples of three splits, of two seeds and epochs each."""
    state = hashlib.sha256()
    for split in ("train", "val", "test"):
        draw = examples.draw(prepared, split)
        index = np.arange(draw.count)
        for seed, epoch in ((0, 0), (0, 1), (12345, 7)):
            for numbers in draw.places(seed=seed, epoch=epoch, index=index):
                state.update(numbers.astype("<i8").tobytes())
    return state.hexdigest()[:16]


DRAWN = {
    "mixtures": "5ce39acb673dea7f",
    "three sources": "193fe547638748a7",
    "speech and noise": "87cb851a4f43b950",
    "mixtures in a pass": "b3a78a1c371d8d9e",
    "sequences": "f98261cca7c99b42",
    "sequences in a pass": "665f785058863de9",
    "snippets": "3cd81292cd812838",
    "snippets in a pass": "990f4da65ec7fbfa",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_places_of_examples_are_those_of_before(synthetic, kind):
    assert digest(KINDS[kind], synthetic) == DRAWN[kind]


def test_examples_that_last_longer_are_else_the_same(synthetic):
    mixtures = Mixtures(segment_s=0.5)
    longer = mixtures.lasting(synthetic, 2.0)
    assert (longer.samples(synthetic), mixtures.samples(synthetic)) == (16_000, 4000)
    assert mixtures.lasting(synthetic, 0.5) is mixtures
    around = Mixtures(segment_samples=4000, context_samples=10)
    assert around.lasting(synthetic, 2.0) is around  # a net takes no other length
    sequences = Sequences(frame_samples=1000, frames=5)
    assert sequences.lasting(synthetic, 0.625) is sequences
    assert sequences.lasting(synthetic, 0.751).frames == 7
    assert sequences.frames == 5
