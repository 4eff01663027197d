"""A prepared set: manifests, cache and files say the same, and damage is noticed."""

import json
import multiprocessing
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lightning_sep.data import manifests
from lightning_sep.data.cache import MappedReader, StreamReader, locked
from lightning_sep.data.corpus import Prepared
from lightning_sep.data.folder import Folder
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.synthetic import Synthetic
from lightning_sep.errors import DataError


@pytest.fixture
def mixed(tmp_path, tone):
    """A folder of all that needs converting: stereo, other rates, other formats, silence."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"plain{number}.flac", tone(number), 8000)
    soundfile.write(folder / "stereo.wav", np.stack([tone(5), tone(6)], axis=1), 8000)
    soundfile.write(folder / "fast.wav", tone(7, rate=44100), 44100, subtype="FLOAT")
    soundfile.write(folder / "lossy.ogg", tone(8), 8000)
    soundfile.write(folder / "silent.wav", np.zeros(4000), 8000)
    return folder


def everything(prepared: Prepared) -> list[np.ndarray]:
    tables = [prepared.table(split) for split in SPLITS]
    return [
        prepared.reader.read(
            table.recording[row : row + 1],
            table.start[row : row + 1],
            table.samples[row : row + 1],
            np.zeros(1, np.int64),
            int(table.samples[row]),
        )[0]
        for table in tables
        for row in range(len(table))
    ]


def test_a_set_beyond_the_bound_gives_the_same_samples(mixed, tmp_path):
    cached = Folder(str(mixed)).open(tmp_path / "a")
    streamed = Folder(str(mixed), cache_limit_mb=0).open(tmp_path / "b")
    assert isinstance(cached.reader, MappedReader)
    assert isinstance(streamed.reader, StreamReader)
    assert cached.hash == streamed.hash
    for one, other in zip(everything(cached), everything(streamed), strict=True):
        assert np.array_equal(one, other)


def test_who_reads_from_files_reads_how_much_slower_that_is(mixed, tmp_path):
    assert Folder(str(mixed)).open(tmp_path / "a").remark() == ""
    remark = Folder(str(mixed), cache_limit_mb=0.01).open(tmp_path / "b").remark()
    told = re.fullmatch(
        r"folder is read from its files, about (\d+) times slower than decoded: that needs 0 MiB, "
        r"and data.cache_limit_mb allows 0.01. trainer.workers reads ahead",
        remark,
    )
    assert told is not None, remark
    assert int(told[1]) > 1


def test_the_disk_that_has_no_room_is_named(mixed, tmp_path, monkeypatch):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    prepared.cache.facts_path.unlink()
    monkeypatch.setattr("lightning_sep.data.corpus.room", lambda folder: 1 << 10)
    assert f"the disk of {prepared.folder} has room for 0. " in prepared.remark()


def test_no_decoded_file_is_written_beyond_the_bound(mixed, tmp_path):
    streamed = Folder(str(mixed), cache_limit_mb=0).open(tmp_path)
    assert not list((streamed.folder / "cache").glob("*.int16"))


def test_segments_read_on_the_fly_equal_those_of_the_cache(synthetic, streamed):
    table = synthetic.table("train")
    items = np.arange(0, len(table), 7)
    arguments = (
        table.recording[items],
        table.start[items],
        table.samples[items],
        np.arange(len(items)) * 311 - 900,  # some begin before the piece, some in it
        3001,
    )
    for repeat in (False, True):
        one = synthetic.reader.read(*arguments, repeat=repeat)
        assert np.array_equal(one, streamed.reader.read(*arguments, repeat=repeat))


def test_cuts_load_through_lhotse_and_equal_the_cache(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    cuts = [cut for split in SPLITS for cut in prepared.cuts(split)]
    assert len(cuts) == 8
    for cut, samples in zip(cuts, everything(prepared), strict=True):
        assert np.array_equal(np.rint(cut.load_audio() * 32768), samples)
        assert cut.supervisions[0].custom["class_name"] == "sound"


def test_conversions_are_counted(mixed, tmp_path):
    counts = Folder(str(mixed)).open(tmp_path / "home").source["counts"]
    assert counts["averaged to mono"] == 1
    assert counts["resampled"] == 1
    assert counts["silent"] == 1
    assert counts["files"] == 8
    assert counts["stored as FLAC"] == 3  # what can be read where it lies is not copied


def test_what_was_done_is_written_down(mixed, tmp_path):
    source = json.loads(
        (Folder(str(mixed)).open(tmp_path / "home").folder / "source.json").read_text()
    )
    assert source["resampler"].startswith("soxr ")
    assert source["mono_rule"] == "mean of the channels"
    assert all(len(file["source_sha256"]) == 64 for file in source["files"].values())


def test_statistics_are_those_of_the_train_part_alone(synthetic):
    table = synthetic.table("train")
    flat = np.concatenate(
        [
            synthetic.reader.whole(int(r), int(s), int(n))[0].astype(np.float64)
            for r, s, n in zip(table.recording, table.start, table.samples, strict=True)
        ]
    )
    flat /= 32768
    expected = {"peak": np.abs(flat).max(), "mean": flat.mean(), "std": flat.std()}
    assert {key: synthetic.statistics[key] for key in expected} == pytest.approx(expected, rel=1e-9)


def test_a_pieces_neighbours_are_never_read(synthetic):
    table = synthetic.table("test").where(np.arange(len(synthetic.table("test"))) < 3)
    before = synthetic.reader.read(
        table.recording, table.start, table.samples, np.full(3, -100), 50
    )
    assert not before.any()


def test_a_missing_cache_is_built_again(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    before = everything(prepared)
    prepared.cache.samples_path.unlink()
    again = everything(Folder(str(mixed)).open(tmp_path / "home"))
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))


def test_a_cut_off_cache_is_built_again(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    before = everything(prepared)
    path = prepared.cache.samples_path
    path.write_bytes(path.read_bytes()[:-10])
    again = everything(Folder(str(mixed)).open(tmp_path / "home"))
    assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))


def test_verify_passes_what_was_prepared(mixed, tmp_path):
    Folder(str(mixed)).open(tmp_path / "home").verify()


def test_verify_notices_a_changed_bit_of_the_cache(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    data = bytearray(prepared.cache.samples_path.read_bytes())
    data[1234] ^= 1
    prepared.cache.samples_path.write_bytes(data)
    with pytest.raises(DataError, match=r"int16: differs from its checksum"):
        prepared.verify()


def test_verify_names_every_file_that_changed(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    (mixed / "plain1.flac").unlink()
    soundfile.write(mixed / "plain2.flac", np.ones(10), 8000)
    with pytest.raises(DataError, match=r"2 files(.|\n)*plain1.flac: is not(.|\n)*plain2.flac: d"):
        prepared.verify()


def test_a_cache_is_not_built_from_files_that_changed(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    prepared.cache.samples_path.unlink()
    soundfile.write(mixed / "plain2.flac", np.ones(10), 8000)
    with pytest.raises(DataError, match=r"plain2.flac has changed"):
        _ = Prepared(prepared.folder).reader


def test_a_file_that_vanished_is_named_when_it_is_read_on_the_fly(mixed, tmp_path):
    prepared = Folder(str(mixed), cache_limit_mb=0).open(tmp_path / "home")
    for path in mixed.glob("*"):
        path.unlink()
    with pytest.raises(DataError, match=r"(flac|wav) cannot be read any more"):
        everything(prepared)


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(DataError, match="not whole"):
        Prepared(tmp_path)


def _open_and_report(folder, home, queue):
    built = []
    prepared = Folder(folder).open(home, lambda done, total, text: built.append(text))
    queue.put((any("manifests" in text for text in built), prepared.hash))


def test_of_several_processes_one_builds_and_the_others_wait(mixed, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=_open_and_report, args=(str(mixed), tmp_path / "home", queue))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    reports = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(built for built, _ in reports) == 1
    assert len({digest for _, digest in reports}) == 1


def test_leftovers_of_a_killed_build_are_swept(mixed, tmp_path):
    leftover = tmp_path / "home" / ".building-folder-1-abc"
    leftover.mkdir(parents=True)
    Folder(str(mixed)).open(tmp_path / "home")
    assert not list((tmp_path / "home").glob(".building-*"))


KILLED_AT = ("mkdir", "voice", "first file", "cache", "manifests", "rename")


def killed_at(moment: str, home: Path) -> None:
    """Prepare the synthetic set, and die on the way."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), 9)

    def progress(done: int, total: int, text: str) -> None:
        if text == "synthetic: voices" and done == {"voice": 7, "mkdir": 0}.get(moment):
            die()
        at = {"first file": "synthetic: chirps/test-0.flac", "manifests": "synthetic: manifests"}
        if at.get(moment) == text:
            die()
        if moment == "cache" and total > 100 and done == 110:
            die()

    if moment == "rename":
        manifests.sync_folder = die
    Synthetic(speakers=12).prepare_from(None, home, progress)


@pytest.mark.parametrize("moment", KILLED_AT)
def test_what_a_killed_preparation_leaves_is_removed_by_the_next(tmp_path, moment):
    home = tmp_path / "home"
    process = multiprocessing.get_context("fork").Process(target=killed_at, args=(moment, home))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    (home / ".building-other-12-abcdef01").mkdir()  # of another set, whose lock nobody holds
    prepared = Synthetic(speakers=12).prepare_from(None, home)
    assert {path.name for path in home.iterdir()} == {
        *(".lock-synthetic", ".lock-other", "prepared", prepared.folder.name)
    }
    prepared.verify()


def test_the_build_of_another_set_that_is_at_work_is_left_alone(mixed, tmp_path):
    home = tmp_path / "home"
    building = home / ".building-other-12-abcdef01"
    with locked(home / ".lock-other"):
        building.mkdir()
        Folder(str(mixed)).open(home)
        assert building.exists()
    Folder(str(mixed), seed=1).open(home)
    assert not building.exists()


def test_a_cache_that_was_half_written_leaves_nothing(mixed, tmp_path):
    prepared = Folder(str(mixed)).open(tmp_path / "home")
    prepared.cache.samples_path.unlink()
    torn = prepared.cache.samples_path.with_name(f".{prepared.cache.key}.int16.aside-1-abcdef01")
    torn.write_bytes(b"x")
    _ = Prepared(prepared.folder).reader
    assert not torn.exists()
    assert prepared.cache.samples_path.exists()
