"""What an adapter checks of a published set, and what it makes of its columns."""

import hashlib

import numpy as np
import pytest
import soundfile

from lightning_sep.data.arabic_commands import ArabicCommands
from lightning_sep.data.esc10 import Esc10
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.violin import Violin
from lightning_sep.errors import DataError


def clips() -> list[dict[str, object]]:
    return [
        {
            "filename": f"{fold}-{number}.wav",
            "fold": fold,
            "src_file": f"clip{fold}{number}",
            "category": ["dog", "rain"][number],
        }
        for fold in (1, 2, 3)
        for number in (0, 1)
    ]


def test_noises_and_pieces_of_music_are_of_their_groups(published, tmp_path):
    prepared = Esc10().prepare_from(published(clips()), tmp_path / "home")
    assert prepared.group_names == ["noise"]
    assert prepared.class_names == ["dog", "rain"]
    rows = [{"filename": "a.wav", "piece": "a gigue"}, {"filename": "b.wav", "piece": "a bourree"}]
    prepared = Violin().prepare_from(published(rows), tmp_path / "home")
    assert (prepared.group_names, prepared.class_names) == (["music"], ["violin"])
    for split, low, high in (("train", 0, 3200), ("val", 3200, 3600), ("test", 3600, 4000)):
        table = prepared.table(split)
        assert table.start.tolist() == [low] * 2
        assert table.samples.tolist() == [high - low] * 2
        assert {cut.supervisions[0].text for cut in prepared.cuts(split)} == {
            "a gigue",
            "a bourree",
        }


def test_samples_that_changed_since_they_were_published_are_refused(published, tmp_path):
    source = published(clips())
    path = source / "audio" / "2-1.wav"
    samples, rate = soundfile.read(path, dtype="int16")
    samples[100] += 1
    soundfile.write(path, samples, rate)
    with pytest.raises(DataError, match=r"2-1\.wav: differs from its line in SHA256SUMS"):
        Esc10().prepare_from(source, tmp_path / "home")


def test_a_table_that_changed_since_it_was_published_is_refused(published, tmp_path):
    source = published(clips())
    table = source / "metadata.csv"
    table.write_text(table.read_text().replace("dog", "cat"))
    with pytest.raises(DataError, match=r"metadata\.csv differs from its line in SHA256SUMS"):
        Esc10().prepare_from(source, tmp_path / "home")
    sums = source / "SHA256SUMS"
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    lines = [
        f"{digest}  metadata.csv" if "metadata" in x else x for x in sums.read_text().split("\n")
    ]
    sums.write_text("\n".join(lines))
    assert Esc10().prepare_from(source, tmp_path / "home").class_names == ["cat", "rain"]


def test_a_published_file_may_be_as_loud_as_it_was_recorded(published, tmp_path):
    source = published(clips())
    path = source / "audio" / "1-0.wav"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    soundfile.write(path, np.full(4000, 32767, dtype=np.int16), 8000)
    sums = source / "SHA256SUMS"
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(before, after))
    prepared = Esc10().prepare_from(source, tmp_path / "home")
    assert prepared.source["kept"] == {}
    assert sum(len(prepared.table(split)) for split in SPLITS) == 6


def test_the_key_of_a_set_tells_its_rate_and_what_is_kept():
    keys = [
        Esc10(sample_rate=rate, keep=keep, test_only=only).key()
        for rate in (None, 8000, 4000)
        for keep in (False, True)
        for only in (False, True)
    ]
    assert len(set(keys)) == 12
    assert ArabicCommands().key() not in keys
