"""Mixtures: sums, levels, classes and silence."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.data.audio_files import to_int16
from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures, _kinds, mix, random_offset
from lightning_sep.errors import ConfigError, DataError


def batches(prepared, split="train", **changes):
    return list(Mixtures(**changes).loader(prepared, split, seed=5))


@pytest.mark.parametrize("normalise", ["peak", "std", "none"])
@pytest.mark.parametrize("sources", [1, 2, 3])
def test_sources_add_up_to_the_mixture_exactly(synthetic, normalise, sources):
    for batch in batches(synthetic, normalise=normalise, sources=sources, train=64):
        assert torch.equal(batch.sources.sum(dim=1), batch.waveform)


def test_a_mixture_is_at_full_scale_with_peak(synthetic):
    for batch in batches(synthetic, normalise="peak"):
        peaks = batch.waveform.abs().amax(dim=(1, 2))
        assert peaks.numpy() == pytest.approx(1.0, abs=1e-6)  # float32 rounding of the factor


def test_a_mixture_has_zero_mean_and_unit_deviation_with_std(synthetic):
    for batch in batches(synthetic, normalise="std"):
        assert batch.waveform.mean(dim=2).abs().max() < 1e-5
        assert batch.waveform.std(dim=2, correction=0).numpy() == pytest.approx(1.0, abs=1e-5)


def test_the_last_source_has_unit_energy_with_none(synthetic):
    for batch in batches(synthetic, normalise="none"):
        energy = batch.sources.double().square().sum(dim=(-1, -2))
        assert energy[:, 1].numpy() == pytest.approx(1.0, rel=1e-5)


def test_levels_stay_within_their_range_and_fill_it(synthetic):
    found = torch.cat(
        [
            10 * torch.log10(e[:, 0] / e[:, 1])
            for batch in batches(synthetic, snr_range_db=[-3.0, 7.0])
            for e in [batch.sources.double().square().sum(dim=(-1, -2))]
        ]
    )
    assert found.min() >= -3.001
    assert found.max() <= 7.001
    assert found.min() < -2.5
    assert found.max() > 6.5


@pytest.mark.parametrize("sources", [2, 3])
def test_no_class_is_twice_in_a_mixture(synthetic, sources):
    for batch in batches(synthetic, sources=sources):
        assert all(len(set(row)) == sources for row in batch.labels.tolist())


def test_classes_are_drawn_evenly_whatever_their_number_of_files(synthetic):
    labels = torch.cat([batch.labels.flatten() for batch in batches(synthetic, train=2048)])
    counts = torch.bincount(labels).double()
    # 4096 draws over 7 classes: 585 each with a standard deviation of 22
    assert (counts - 4096 / 7).abs().max() < 110


def test_speech_meets_noise_where_that_is_asked_for(synthetic):
    speech = synthetic.class_names.index("speech")
    for batch in batches(synthetic, pairing="speech_noise", sources=3):
        assert (batch.labels[:, 0] == speech).all()
        assert (batch.labels[:, 1:] != speech).all()


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 500), st.integers(1, 500))
def test_a_segment_lies_in_its_file_or_the_file_in_the_segment(number, available, count):
    offset = int(random_offset(np.array([number]), np.array([available]), count)[0])
    if available >= count:
        assert 0 <= offset <= available - count
    else:
        assert available - count <= offset <= 0


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from(["peak", "std", "none"]), st.integers(1, 4))
def test_whatever_is_mixed_stays_finite(seed, normalise, sources):
    generator = np.random.default_rng(seed)
    level = 10.0 ** generator.uniform(-6, 0, (3, sources, 1, 1))
    segments = to_int16(level * generator.uniform(-1, 1, (3, sources, 1, 50)))[0]
    mixed, active = mix(segments, level_db=np.zeros((3, sources)), normalise=normalise)
    assert np.isfinite(mixed).all()
    assert not mixed[~active].any()


def test_a_silent_source_is_zero_and_marked():
    segments = np.zeros((1, 2, 1, 100), np.int16)
    segments[0, 0] = 1000
    segments[0, 1, 0, 0] = 20  # -84 dBFS rms over 100 samples
    mixed, active = mix(segments, level_db=np.zeros((1, 2)), normalise="peak")
    assert active.tolist() == [[True, False]]
    assert not mixed[0, 1].any()


def test_minus_80_dbfs_is_where_silence_ends():
    segments = np.zeros((1, 2, 1, 100), np.int16)
    segments[0, 0, 0, 0] = 32  # rms 3.2, just below 32768 / 10 000 = 3.2768
    segments[0, 1, 0, 0] = 33
    _, active = mix(segments, level_db=np.zeros((1, 2)), normalise="none")
    assert active.tolist() == [[False, True]]


def test_mixing_agrees_with_lhotse(synthetic):
    first, second = [cut for cut in synthetic.cuts("train") if cut.duration >= 2.4][:2]
    first, second = first.truncate(duration=1.0), second.truncate(duration=1.0)
    tracks = first.mix(second, snr=4.0).load_audio(mixed=False)
    segments = np.stack([to_int16(cut.load_audio())[0] for cut in (first, second)])[None]
    ours, _ = mix(segments, level_db=np.array([[4.0, 0.0]]), normalise="peak")
    reference = np.concatenate(tracks) if isinstance(tracks, list) else tracks
    reference = reference / np.abs(reference.sum(axis=0)).max()
    np.testing.assert_allclose(ours[0, :, 0], reference, atol=2e-5)  # lhotse adds 1e-10 to energies


@pytest.fixture
def one_class(tmp_path, tone):
    """Six speakers with two files each, all of one class."""
    folder = tmp_path / "speech"
    folder.mkdir()
    rows = ["filename,class,speaker"]
    for number in range(12):
        soundfile.write(folder / f"{number}.wav", tone(number), 8000)
        rows.append(f"{number}.wav,speech,s{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return Folder(str(folder)).open(tmp_path / "home")


def test_with_one_class_no_speaker_is_twice_in_a_mixture(one_class):
    draw = Mixtures(segment_s=0.2).draw(one_class, "train")
    speakers = one_class.table("train").speaker
    for row in draw._distinct_kinds(0, 0, np.arange(50)):
        chosen = [speakers[draw.members[draw.firsts[kind]]] for kind in row]
        assert len(set(chosen)) == 2


def test_where_some_speakers_are_unknown_no_file_is_twice_in_a_mixture(one_class):
    table = one_class.table("train")
    some = replace(table, speaker=np.where(table.speaker == table.speaker[0], -1, table.speaker))
    files = np.unique(table.recording, return_inverse=True)[1]
    assert _kinds(some, 2, "train").tolist() == files.tolist()


def test_speech_and_noise_of_many_classes_are_drawn_apart(synthetic):
    draw = Mixtures().draw(synthetic, "train")
    draw.pools = [(np.arange(300), 1), (np.arange(300, 600), 1)]  # too many to be ranked
    speech, noise = draw._distinct_kinds(1, 0, np.arange(2000)).T
    assert (speech < 300).all()
    assert (noise >= 300).all()
    assert abs(np.corrcoef(speech, noise)[0, 1]) < 0.1  # 4.5 standard deviations


def test_a_file_shorter_than_the_segment_lies_within_zeros(one_class):
    for batch in batches(one_class, sources=1, segment_s=1.0, train=8):
        for row in batch.waveform[:, 0]:
            places = torch.nonzero(row).flatten()
            assert 3900 < places[-1] - places[0] < 4000
            assert (row[places[0] : places[-1]] != 0).float().mean() > 0.9


def test_too_few_files_for_a_mixture_are_refused(one_class):
    with pytest.raises(DataError, match=r"has 4 files, but a mixture needs 9"):
        Mixtures(sources=9).loader(one_class, "train", seed=0)


def test_speech_against_noise_needs_noise(one_class):
    with pytest.raises(DataError, match=r"0 of other sounds.*pairing=any"):
        Mixtures(pairing="speech_noise").loader(one_class, "train", seed=0)


def test_facts_say_what_a_task_must_know(synthetic):
    facts = Mixtures().facts(synthetic)
    assert facts.sample_rate == 8000
    assert facts.segment_samples == 8000
    assert facts.normalise == "peak"
    assert facts.sources == 2
    assert dict(facts.classes())["rain"] == "noise"


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": 0},
        {"segment_s": -1.0},
        {"snr_range_db": [5.0, -5.0]},
        {"snr_range_db": "wide"},
        {"normalise": "loud"},
        {"pairing": "odd"},
        {"train": 2.5},
        {"batch_size": True},
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Mixtures(**changes)
