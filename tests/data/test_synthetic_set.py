"""The set that is made on the spot."""

import numpy as np
import pytest

from lightning_sep.data.splits import SPLITS
from lightning_sep.data.synthetic import Synthetic
from lightning_sep.errors import ConfigError


def test_it_comes_out_the_same_bit_for_bit(synthetic, tmp_path):
    assert Synthetic().open(tmp_path).hash == synthetic.hash


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
