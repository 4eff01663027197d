"""Snippets: who is in a batch, and which pairs are the trials."""

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.corpus import Prepared
from lightning_sep.data.folder import Folder
from lightning_sep.data.snippets import Snippets, _shared_out
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
    facts = Snippets().facts(synthetic)
    assert facts.train_numbers == tuple(sorted(seen))
    assert facts.train_numbers != tuple(range(len(seen)))  # numbers of the whole set
    assert facts.train_speakers == len(seen)


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
        samples = torch.round(batch.waveform[:, 0] * 32768).long()
        assert torch.equal(samples[:, 300:600], samples[:, :300])
        assert (samples[:, :300].sort(dim=1).values.diff(dim=1) == 1).all()
        if split == "train":  # from anywhere on
            assert len(set((samples[:, 0] % 1000).tolist())) == len(samples)


def test_more_speakers_than_there_are_is_refused(digits):
    with pytest.raises(ConfigError, match=r"examples.speakers=8 or less"):
        Snippets(speakers=9).loader(digits, "train", seed=0)


@pytest.fixture
def recorded(tmp_path, tone):
    """Writes a set of nine speakers from rows of (speaker, session), each a file of 0.5 s."""

    def write(rows: list[tuple[str, str]], seconds: float = 0.5) -> Prepared:
        folder = tmp_path / f"set{len(rows)}"
        folder.mkdir()
        lines = ["filename,speaker,session,split"]
        for number, (speaker, session) in enumerate(rows):
            soundfile.write(folder / f"{number:02d}.wav", tone(number, seconds), 8000)
            split = "train" if speaker < "s4" else "val" if speaker < "s6" else "test"
            lines.append(f"{number:02d}.wav,{speaker},{session},{split}")
        (folder / "metadata.csv").write_text("\n".join(lines))
        return Folder(str(folder)).open(tmp_path / "home")

    return write


def test_a_part_whose_speakers_have_one_file_each_is_refused(recorded):
    prepared = recorded([(f"s{number}", "") for number in range(9)])
    with pytest.raises(DataError, match=r"no speaker of the val part of folder has two files"):
        Snippets(segment_s=0.1).loader(prepared, "val", seed=0)


def numbered(draw):
    """Speaker, file and session of every snippet of a fixed draw."""
    batch = draw.batch(seed=0, epoch=0, index=np.arange(draw.count))
    items = draw.fixed[0]
    return batch.labels.tolist(), draw.table.recording[items].tolist(), batch.sessions.tolist()


def test_without_sessions_each_file_is_one(recorded):
    prepared = recorded([(f"s{number // 3}", "") for number in range(27)])
    _, files, sessions = numbered(Snippets(segment_s=0.1).draw(prepared, "test"))
    pairs = set(zip(files, sessions, strict=True))
    assert len(pairs) == len(set(files)) == len(set(sessions)) == 9


def test_files_of_one_session_share_it(recorded):
    prepared = recorded([(f"s{n // 4}", f"s{n // 4}-{n // 2 % 2}") for n in range(36)])
    speakers, files, sessions = numbered(Snippets(segment_s=0.1).draw(prepared, "test"))
    assert len(set(files)) == 12
    places = set(zip(speakers, sessions, strict=True))
    assert len(places) == 6
    assert all(
        (one // 2 == other // 2) == (a == b)
        for one, a in zip(files, sessions, strict=True)
        for other, b in zip(files, sessions, strict=True)
    )
    assert prepared.cuts("test")[0].supervisions[0].custom["session"] == "s6-0"


def test_where_no_speaker_has_two_sessions_files_are_compared_and_that_is_said(recorded):
    prepared = recorded([(f"s{n // 3}", f"day {n // 3}") for n in range(27)])
    _, files, sessions = numbered(Snippets(segment_s=0.1).draw(prepared, "test"))
    assert sessions == files
    said = Snippets().facts(prepared).remarks
    assert said[0].startswith("the test part of folder has 3 speakers: its error rates hold for")
    assert said[1].startswith("no speaker of the test part of folder has two sessions")
    assert len(said) == 2


def test_the_test_hears_every_file_and_validation_ten_snippets_of_each_speaker(recorded):
    prepared = recorded([(f"s{n // 12}", "") for n in range(108)], seconds=0.25)
    draw = Snippets(segment_s=0.1).draw(prepared, "test")
    assert np.bincount(draw.fixed[0]).tolist() == [1] * 36
    draw = Snippets(segment_s=0.1).draw(prepared, "val")
    assert np.bincount(draw.table.speaker[draw.fixed[0]])[-2:].tolist() == [10, 10]
    assert max(np.bincount(draw.fixed[0])) == 1


@pytest.mark.parametrize(
    ("each", "limit", "taken"),
    [
        ([3, 3], 10, [3, 3]),
        ([1, 100, 1], 5, [1, 3, 1]),
        ([4, 4, 4, 4], 6, [2, 1, 2, 1]),
        ([9, 9, 9, 9, 9], 2, [1, 0, 1, 0, 0]),
        ([2, 8], 8, [2, 6]),
    ],
)
def test_snippets_are_shared_out_evenly(each, limit, taken):
    assert _shared_out(np.array(each), limit).tolist() == taken


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
