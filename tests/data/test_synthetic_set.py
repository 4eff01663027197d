"""The set that is made on the spot."""

import numpy as np
import pytest

from lightning_sep.data import synthesis
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.synthetic import _VERSION, Synthetic
from lightning_sep.errors import ConfigError


def test_it_comes_out_the_same_bit_for_bit(synthetic, tmp_path):
    assert Synthetic().open(tmp_path).hash == synthetic.hash


# Of each sound: its rms, its mean step, and what it has in common with two rising tones.
SOUNDS = {
    "rain": (0.0324132039, 0.0361022626, -0.000127617844, 0.000121617641),
    "clicks": (0.0302607962, 0.00591450722, -3.77922668e-05, 9.49131385e-05),
    "hum": (0.33614484, 0.0233570665, -4.39856228e-05, 0.00254421695),
    "chirps": (0.216291927, 0.192684485, 5.5459598e-06, -0.00254996529),
    "engine": (0.0904902288, 0.0108509202, -6.01770184e-06, 0.00409008292),
    "melody": (0.201777003, 0.0394651459, 0.000724129769, 0.00332861198),
    "voice 0 of 5": (0.128228906, 0.0265672599, -0.000191218964, 0.000100818247),
    "voice 4 of 5": (0.214163219, 0.0463165756, 0.00106113833, -0.00283855378),
}


def test_the_sounds_are_those_of_the_first_version():
    """What was prepared before is taken for what would be made now: other sounds, other version."""
    assert _VERSION == 1
    made = {}
    for number, kind in enumerate((*synthesis.NOISES, "melody")):
        make = synthesis.NOISES.get(kind, synthesis.melody)
        made[kind] = make(3.0, np.random.default_rng([7, number]))
    for number in (0, 4):
        generator = np.random.default_rng([8, number])
        voice = synthesis.voice(number, 5, generator)
        made[f"voice {number} of 5"] = synthesis.speech(voice, 4.0, generator)
    assert made.keys() == SOUNDS.keys()
    for kind, sound in made.items():
        place = np.arange(len(sound))
        assert len(sound) == (32_000 if kind.startswith("voice") else 24_000)
        assert np.abs(sound).max() == pytest.approx(0.7, rel=1e-12)
        found = (
            np.sqrt(np.mean(sound**2)),
            np.abs(np.diff(sound)).mean(),
            np.mean(sound * np.cos(0.3 * place) * place / len(place)),
            np.mean(np.abs(sound) * np.cos(1e-4 * place**1.5)),
        )
        assert found == pytest.approx(SOUNDS[kind], rel=1e-6), kind


def test_every_part_has_its_share_of_voices_noises_and_melodies(synthetic):
    counts = {
        split: np.bincount(synthetic.table(split).label).tolist() for split in SPLITS
    }  # chirps, clicks, engine, hum, melody, rain, speech: four takes of each speaker
    assert counts["train"] == [6, 6, 6, 6, 6, 6, 64]
    assert counts["val"] == counts["test"] == [3, 3, 3, 3, 2, 3, 16]
    seconds = {"speech": 2.4, "melody": 10.0}
    table = synthetic.table("train")
    for label, samples in zip(table.label, table.samples, strict=True):
        assert samples == 8000 * seconds.get(synthetic.class_names[label], 3.0)
    heard = {
        split: sorted(
            {synthetic.speaker_names[n] for n in synthetic.table(split).speaker if n >= 0}
        )
        for split in ("val", "test")
    }  # low voices and high ones are in every part
    assert heard["val"] == [f"speaker{number:03d}" for number in (2, 8, 14, 20)]
    assert heard["test"] == [f"speaker{number:03d}" for number in (4, 10, 16, 22)]
    groups = {"speech": "speech", "melody": "music"}
    found = dict(zip(synthetic.class_names, synthetic.class_groups, strict=True))
    assert found == {name: groups.get(name, "noise") for name in synthetic.class_names}


def test_no_sound_is_there_twice(synthetic):
    sounds = [one["sha256"] for one in synthetic._columns["recordings"]]
    assert len(set(sounds)) == len(sounds) == 166


def test_another_seed_gives_other_sounds(synthetic, tmp_path):
    assert Synthetic(seed=1).open(tmp_path).hash != synthetic.hash


def test_no_speaker_is_in_two_splits(synthetic):
    speakers = [set(synthetic.table(split).speaker.tolist()) - {-1} for split in SPLITS]
    assert not speakers[0] & speakers[1]
    assert not speakers[0] & speakers[2]
    assert not speakers[1] & speakers[2]


def test_every_class_is_in_every_split(synthetic):
    for split in SPLITS:
        assert set(synthetic.table(split).label.tolist()) == set(range(len(synthetic.class_names)))


def test_it_holds_less_than_ten_minutes(synthetic):
    assert synthetic.hours() < 10 / 60


def test_another_rate_is_resampled(tmp_path):
    prepared = Synthetic(speakers=12, sample_rate=4000).open(tmp_path)
    assert prepared.sample_rate == 4000
    assert prepared.source["counts"]["resampled"] == prepared.source["counts"]["files"]


def test_every_setting_that_changes_the_sounds_makes_another_set():
    changes = [{}, {"seed": 1}, {"speakers": 12}, {"sample_rate": 4000}]
    assert len({Synthetic(**one).key() for one in changes}) == len(changes)


def test_voices_differ_more_than_takes_of_one_voice(synthetic):
    table = synthetic.table("train")
    rows = np.flatnonzero(table.speaker >= 0)
    profiles = []
    for row in rows:
        samples = synthetic.reader.whole(int(table.recording[row]), 0, 16384).astype(np.float64)
        power = np.square(np.abs(np.fft.rfft(samples.reshape(64, 256), axis=1))).mean(axis=0)
        profiles.append(np.log(power + 1))
    distance = np.square(np.array(profiles)[:, None] - np.array(profiles)[None]).sum(axis=-1)
    same = table.speaker[rows][:, None] == table.speaker[rows][None]
    other = distance[~same].mean()
    assert other > 2 * distance[same & ~np.eye(len(rows), dtype=bool)].mean()


@pytest.mark.parametrize("settings", [{"speakers": 3}, {"seed": -1}, {"sample_rate": "fast"}])
def test_settings_that_cannot_be_used_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Synthetic(**settings)
