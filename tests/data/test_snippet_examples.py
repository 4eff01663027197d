"""Snippets: who is in a batch, and which pairs are the trials."""

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.folder import Folder
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError


def test_a_batch_holds_each_speakers_snippets_in_a_row(synthetic):
    for batch in Snippets(speakers=5, snippets=3, train=10).loader(synthetic, "train", seed=1):
        rows = batch.labels.view(5, 3)
        assert (rows == rows[:, :1]).all()
        assert len(set(rows[:, 0].tolist())) == 5


def test_all_training_speakers_appear(synthetic):
    loader = Snippets(train=30).loader(synthetic, "train", seed=1)
    seen = {label for batch in loader for label in batch.labels.tolist()}
    assert len(seen) == Snippets().facts(synthetic)["train_speakers"]


def test_no_speaker_is_heard_in_two_splits(synthetic):
    heard = [
        {label for b in Snippets().loader(synthetic, split, seed=1) for label in b.labels.tolist()}
        for split in SPLITS
    ]
    assert sum(map(len, heard)) == len(set().union(*heard))


def test_validation_snippets_do_not_overlap(synthetic):
    fixed = Snippets(val=100).draw(synthetic, "val").fixed
    places = sorted(zip(fixed[0].tolist(), fixed[1].tolist(), strict=True))
    assert len(set(places)) == len(places)
    assert all(offset % 6400 == 0 for _, offset in places)


def test_a_speaker_has_as_many_validation_snippets_as_asked_for(synthetic):
    loader = Snippets(val=6).loader(synthetic, "val", seed=1)
    labels = torch.cat([batch.labels for batch in loader])
    assert set(torch.bincount(labels).tolist()) == {0, 6}


def test_a_snippet_keeps_the_level_of_its_recording(synthetic):
    draw = Snippets().draw(synthetic, "val")
    batch = draw.batch(seed=0, epoch=0, index=np.array([3]))
    item, offset = draw.fixed[0][3], draw.fixed[1][3]
    samples = synthetic.reader.whole(int(draw.table.recording[item]), int(offset), 6400)
    assert torch.equal(batch.waveform[0] * 32768, torch.from_numpy(samples.copy()).float())


@pytest.fixture
def digits(tmp_path):
    """Twelve speakers with two short files each; samples tell their place."""
    folder = tmp_path / "digits"
    folder.mkdir()
    rows = ["filename,speaker"]
    for number in range(24):
        ramp = (np.arange(300) + 1000 * (number + 1)).astype(np.int16)
        soundfile.write(folder / f"{number}.wav", ramp, 8000)
        rows.append(f"{number}.wav,s{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return Folder(str(folder)).open(tmp_path / "home")


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_shorter_than_the_segment_is_repeated(digits, split):
    examples = Snippets(speakers=2, snippets=2, segment_s=0.1, train=3)
    for batch in examples.loader(digits, split, seed=0):
        samples = torch.round(batch.waveform * 32768).long()
        assert torch.equal(samples[:, 300:600], samples[:, :300])
        assert (samples[:, :300].sort(dim=1).values.diff(dim=1) == 1).all()


def test_more_speakers_than_there_are_is_refused(digits):
    with pytest.raises(ConfigError, match=r"examples.speakers=8 or less"):
        Snippets(speakers=9).loader(digits, "train", seed=0)


def test_a_part_with_one_snippet_a_speaker_is_refused(tmp_path, tone):
    folder = tmp_path / "once"
    folder.mkdir()
    rows = ["filename,speaker"]
    for number in range(9):
        soundfile.write(folder / f"{number}.wav", tone(number), 8000)
        rows.append(f"{number}.wav,s{number}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    prepared = Folder(str(folder)).open(tmp_path / "home")
    with pytest.raises(DataError, match=r"one snippet of 0.4 s"):
        Snippets(segment_s=0.4).loader(prepared, "val", seed=0)


def test_a_set_without_speakers_is_refused(tmp_path, tone):
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", tone(number), 8000)
    prepared = Folder(str(folder)).open(tmp_path / "home")
    with pytest.raises(DataError, match=r"0 speakers.*more speakers"):
        Snippets().loader(prepared, "train", seed=0)


@pytest.mark.parametrize(
    "changes", [{"speakers": 1}, {"snippets": 1}, {"segment_s": 0}, {"val": 1}, {"train": None}]
)
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Snippets(**changes)
