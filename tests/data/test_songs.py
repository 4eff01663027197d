"""Songs with stems: what is taken, what is refused, and which sample is where."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from lightning_sep.data.combined import Combination
from lightning_sep.data.folder import Folder
from lightning_sep.data.lhotse_set import LhotseSet
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.parts import Parts
from lightning_sep.data.songs import Songs
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.stems import Stems, loud
from lightning_sep.errors import ConfigError, DataError
from tests.trees import RATE, SONGS, STEMS, stem

TITLES = [name for names in SONGS.values() for name in names]


@pytest.fixture
def prepared(songs, tmp_path):
    return Songs(str(songs), val=["Cedar"]).open(tmp_path / "home")


def batches(prepared, split="train", seed=3, **changes):
    settings = {"segment_s": 0.2, "batch_size": 8, "train": 64} | changes
    return list(Stems(**settings).loader(prepared, split, seed=seed))


def whole(batches, field):
    return torch.cat([getattr(batch, field) for batch in batches])


def ints(samples):
    return (samples.numpy() * 32768).round().astype(np.int64)


# --- the folder


def test_all_stems_are_prepared_and_the_mixture_is_counted(prepared):
    assert prepared.class_names == list(STEMS)
    assert prepared.source["found"] == 35
    assert prepared.source["counts"]["files"] == 28
    assert prepared.source["left_out"]["mixture, the sum of its stems"]["files"] == 7
    assert prepared.source["split_rule"] == (
        "the folders train, val and test; val is taken from train: 4 train, 1 val, 2 test"
    )
    for split in SPLITS:
        table = prepared.table(split)
        for row in range(len(table)):
            song = prepared.mixture_names[table.mixture[row]]
            number = STEMS.index(prepared.stem_names[table.stem[row]])
            expected = stem(TITLES.index(Path(song).name), number)
            found = prepared.reader.whole(int(table.recording[row]), 0, int(table.samples[row]))
            assert np.array_equal(found.T, expected)


def split_of(prepared):
    """Songs by split; fails where one is in two."""
    found = {}
    for split in SPLITS:
        for number in np.unique(prepared.table(split).mixture):
            song = prepared.mixture_names[number]
            assert song not in found
            found[song] = split
    return found


def test_named_songs_validate_and_without_names_some_are_drawn(prepared, songs, tmp_path):
    named = split_of(prepared)
    assert [song for song, split in named.items() if split == "val"] == ["train/Cedar"]
    assert [song for song, split in named.items() if split == "test"] == ["test/Fig", "test/Grape"]
    drawn = split_of(Songs(str(songs)).open(tmp_path / "home"))
    others = split_of(Songs(str(songs), seed=4).open(tmp_path / "home"))
    for found in (drawn, others):
        assert list(found.values()).count("val") == 1
        assert [song for song, split in found.items() if split == "test"] == [
            "test/Fig",
            "test/Grape",
        ]
    assert drawn != others
    with pytest.raises(DataError, match=r"data\.val: no song of train is called Fig"):
        Songs(str(songs), val=["Fig"]).open(tmp_path / "home")


def test_songs_without_folders_of_splits_are_split_by_song(songs, tmp_path):
    for split in SONGS:
        for song in (songs / split).iterdir():
            song.rename(songs / song.name)
        (songs / split).rmdir()
    found = split_of(Songs(str(songs)).open(tmp_path / "home"))
    assert sorted(found) == sorted(TITLES)
    assert sorted(found.values()) == ["test"] * 2 + ["train"] * 3 + ["val"] * 2
    with pytest.raises(DataError, match=r"nothing is left for test"):
        Songs(str(songs), val=["Cedar"]).open(tmp_path / "home")


def test_ccmixter_is_taken_as_it_is_published(songs, tmp_path):
    for song in (songs / "train").iterdir():
        (song / "bass.wav").rename(song / "source-01.wav")
        (song / "drums.wav").rename(song / "source-02.wav")
        for rest in ("other", "vocals"):
            (song / f"{rest}.wav").unlink()
        song_number = TITLES.index(song.name)
        total = stem(song_number, 0) + stem(song_number, 1)
        (song / "mixture.wav").unlink()
        soundfile.write(song / "mix.wav", total, RATE)
    shutil.rmtree(songs / "test")
    prepared = Songs(str(songs / "train")).open(tmp_path / "home")
    assert prepared.stem_names == ["source-01", "source-02"]


def test_a_song_in_two_splits_is_refused(songs, tmp_path):
    (songs / "test" / "Fig").rename(songs / "test" / "Apple")
    with pytest.raises(DataError, match=r"splits share .* source 'Apple'"):
        Songs(str(songs)).open(tmp_path / "home")


def test_a_mixture_that_is_not_the_sum_is_refused_by_name_unless_kept(songs, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_sep.data.aligned.BLOCK", 7000)  # 700 samples of five files
    path = songs / "train" / "Birch" / "mixture.wav"
    samples, _ = soundfile.read(path, dtype="int16")
    samples[4000] += 5  # one step of each file is rounding
    soundfile.write(path, samples, RATE)
    assert Songs(str(songs)).open(tmp_path / "home").source["notes"] == []
    samples[4000] += 1
    soundfile.write(path, samples, RATE)
    told = r"1 of 7 mixtures are not the sum of their parts: train/Birch \(-75 dBFS off at 0\.50 s"
    with pytest.raises(DataError, match=rf"{told}.*data\.keep=true"):
        Songs(str(songs)).open(tmp_path / "home")
    kept = Songs(str(songs), keep=True).open(tmp_path / "home")
    assert kept.source["notes"][0].startswith("1 mixtures are not the sum of their parts: train/B")


def test_a_mixture_that_was_clipped_is_the_sum_of_its_stems(songs, tmp_path):
    folder = songs / "train" / "Apple"
    total = np.zeros((9000, 2), np.int64)
    for number, one in enumerate(STEMS):
        samples = stem(0, number)
        samples[100:110] = 10_000
        soundfile.write(folder / f"{one}.wav", samples, RATE)
        total += samples
    soundfile.write(folder / "mixture.wav", total.clip(-32768, 32767).astype(np.int16), RATE)
    assert Songs(str(songs)).open(tmp_path / "home").source["notes"] == []


def test_stems_that_are_not_aligned_are_refused_by_name(songs, tmp_path):
    soundfile.write(songs / "train" / "Date" / "vocals.wav", stem(3, 3)[:-1], RATE)
    with pytest.raises(DataError, match=r"train/Date \(.*10500 samples, vocals\.wav: 10499 sam"):
        Songs(str(songs)).open(tmp_path / "home")
    soundfile.write(songs / "train" / "Date" / "vocals.wav", stem(3, 3), 16000)
    with pytest.raises(DataError, match=r"train/Date \(.*8000 Hz, vocals\.wav: 16000 Hz\)"):
        Songs(str(songs), keep=True).open(tmp_path / "home")


def test_a_song_without_a_stem_is_refused_by_name(songs, tmp_path):
    (songs / "train" / "Elm" / "bass.wav").unlink()
    with pytest.raises(DataError, match=r"others: train/Elm \(drums, other, vocals\)"):
        Songs(str(songs)).open(tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/New.stem.mp4", r"1 \.stem\.mp4 .*MUSDB18-HQ has the same songs as WAV"),
        ("Loose/bass.wav", r"others: Loose \(bass\)"),
        ("train/Apple/bass.flac", r"train/Apple has two files 'bass'"),
    ],
)
def test_what_is_laid_out_otherwise_is_refused(songs, tmp_path, name, message):
    path = songs / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(songs / "train" / "Apple" / "bass.wav", path)
    with pytest.raises(DataError, match=message):
        Songs(str(songs)).open(tmp_path / "home")


def test_songs_beside_splits_are_refused(songs, tmp_path):
    (songs / "test" / "Fig").rename(songs / "Fig")
    with pytest.raises(DataError, match=r"beside folders that are splits there are Fig\. Put"):
        Songs(str(songs)).open(tmp_path / "home")


def test_the_plain_folder_says_how_to_take_songs(songs, tmp_path):
    with pytest.raises(DataError, match=r"MUSDB.* data=songs data\.path=FOLDER examples=stems"):
        Folder(str(songs)).open(tmp_path / "home")


def test_songs_can_be_mixed_down(songs, tmp_path):
    mono = Songs(str(songs), channels="mean").open(tmp_path / "home")
    assert mono.channels == 1
    for batch in batches(mono):
        assert batch.sources.shape == (8, 4, 1, 1600)


def test_a_changed_song_is_prepared_again(songs, tmp_path):
    first = Songs(str(songs)).open(tmp_path / "home")
    assert Songs(str(songs)).open(tmp_path / "home").folder == first.folder
    shutil.rmtree(songs / "test" / "Grape")
    assert len(Songs(str(songs)).open(tmp_path / "home").table("test")) == 4


def test_other_songs_validating_make_another_set(songs, prepared, tmp_path):
    other = Songs(str(songs), val=["Date"]).open(tmp_path / "home")
    assert other.hash != prepared.hash
    assert other.folder != prepared.folder


def test_songs_of_musdb_are_named_in_its_entry():
    entry = yaml.safe_load((Path(__file__).parents[2] / "conf/data/musdb18hq.yaml").read_text())
    package = Path(importlib.util.find_spec("musdb").origin).parent  # not imported: it wants ffmpeg
    published = package / "configs" / "mus.yaml"
    assert entry["val"] == yaml.safe_load(published.read_text())["validation_tracks"]


def test_statistics_and_other_examples_know_no_recorded_mixture(prepared):
    assert prepared.channels == 2
    [batch] = Mixtures(sources=4, segment_s=0.1, train=8, batch_size=8).loader(
        prepared, "train", seed=0
    )
    assert sorted(set(batch.labels.flatten().tolist())) == [0, 1, 2, 3]
    peak = max(stem(TITLES.index(song), 3).max() for song in ("Apple", "Birch", "Date", "Elm"))
    assert prepared.statistics["peak"] == peak / 32768


# --- lhotse


def test_a_fresh_lhotse_process_reads_what_belongs_together(prepared, tmp_path):
    path = prepared.folder / "test_cuts.jsonl.gz"
    code = f"""
from lhotse import CutSet
for cut in CutSet.from_file({str(path)!r}):
    custom = cut.supervisions[0].custom
    print(custom["mixture"], custom["stem"], *cut.load_audio().shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lengths = {"test/Fig": 11500, "test/Grape": 12000}
    assert done.stdout.split("\n")[:-1] == [
        f"{song} {one} 2 {length}" for song, length in lengths.items() for one in STEMS
    ]


def test_songs_come_back_in_through_lhotse(prepared, tmp_path):
    cuts = {split: str(prepared.folder / f"{split}_cuts.jsonl.gz") for split in SPLITS}
    again = LhotseSet(cuts=cuts, channels="keep").open(tmp_path / "home")
    assert again.channels == 2
    assert again.mixture_names == prepared.mixture_names
    for split in SPLITS:
        for one, other in zip(batches(prepared, split), batches(again, split), strict=True):
            assert torch.equal(one.sources, other.sources)


def test_songs_of_two_sets_are_drawn_together_and_kept_apart(prepared, songs, tmp_path):
    other = Songs(str(songs), val=["Date"]).open(tmp_path / "home")
    with pytest.raises(DataError, match=r"other.wav. in train of one and .* in val of two"):
        Combination(["one", "two"], [prepared, other], None)
    other = Songs(str(songs)).open(tmp_path / "home")
    both = Combination(["one", "two"], [prepared, other], None)
    assert len(both.mixture_names) == 14
    assert both.stem_names == list(STEMS)
    draw = Stems(segment_s=0.2, train=400).draw(both, "train")
    rows, _ = draw.places(seed=0, epoch=0, index=np.arange(400))
    table = draw.table
    names = [both.mixture_names[number] for number in table.mixture[rows[:, 0]]]
    for name, row in zip(names, rows, strict=True):
        assert set(table.corpus[row]) == {["one", "two"].index(name.partition(":")[0])}
        assert table.stem[row].tolist() == [0, 1, 2, 3]
    assert {"one:train/Date", "two:train/Date"} <= set(names)
    assert not {"one:train/Cedar", "two:train/Cedar"} & set(names)


# --- examples


def places_of(sources):
    """``[batch, stem]`` first sample modulo 1024, and ``[batch, stem]`` song, of coherent stems."""
    left, right = ints(sources).transpose(2, 0, 1, 3)
    values = left
    place, song = np.zeros(values.shape[:2], int), np.zeros(values.shape[:2], int)
    for row in range(len(values)):
        for number in range(values.shape[1]):
            fits = [
                (n, first)
                for n in range(7)
                if (base := values[row, number] - 1024 * (number + 1) + 100 * n).min() >= 0
                and base.max() < 1024
                for first in [int(base[0])]
            ]
            [(song[row, number], place[row, number])] = fits
            base = 1024 * (number + 1) - 100 * song[row, number]
            ahead = (left[row, number] - base + 512) % 1024 + base
            assert np.array_equal(right[row, number], ahead)
    return place, song


def test_stems_are_aligned_to_the_sample_and_of_one_song(prepared):
    found = batches(prepared, segment_s=0.2)
    sources = whole(found, "sources")
    place, song = places_of(sources)
    assert (place == place[:, :1]).all()
    assert (song == song[:, :1]).all()
    assert set(song[:, 0]) == {0, 1, 3, 4}  # all of train, without Cedar
    assert len(set(place[:, 0])) > 40
    assert torch.equal(whole(found, "waveform"), sources.sum(dim=1))
    assert whole(found, "labels").tolist() == [[0, 1, 2, 3]] * 64
    assert whole(found, "active").all()


def test_the_sum_of_the_stems_is_the_recorded_mixture(prepared, songs):
    found = batches(prepared, "test")
    recorded = np.concatenate(
        [
            np.pad(samples, ((0, -len(samples) % 1600), (0, 0)))
            for name in SONGS["test"]
            for samples in [soundfile.read(songs / "test" / name / "mixture.wav", dtype="int16")[0]]
        ]
    )
    heard = ints(whole(found, "waveform")).transpose(0, 2, 1).reshape(-1, 2)
    assert np.array_equal(heard, recorded)


def test_songs_are_drawn_evenly_and_so_are_offsets(prepared):
    draw = Stems(segment_s=0.2, train=20_000).draw(prepared, "train")
    rows, offset = draw.places(seed=2, epoch=1, index=np.arange(20_000))
    assert (offset == offset[:, :1]).all()
    songs = draw.table.mixture[rows[:, 0]]
    _, counts = np.unique(songs, return_counts=True)
    assert ((counts - 5000) ** 2 / 5000).sum() < 21.1  # chi square with 3 degrees: 99.99 %
    room = draw.table.samples[rows[:, 0]] - 1600
    assert (offset[:, 0] >= 0).all()
    assert (offset[:, 0] <= room).all()
    bins, _ = np.histogram(offset[:, 0] / room, bins=10, range=(0, 1))
    assert ((bins - 2000) ** 2 / 2000).sum() < 33.7  # 9 degrees
    number = np.unique(songs, return_inverse=True)[1]
    both, *_ = np.histogram2d(number, offset[:, 0] / room, bins=(4, 5))
    assert ((both - 1000) ** 2 / 1000).sum() < 50.8  # of each song too, 19 degrees


def test_surroundings_are_what_the_song_holds_there(prepared):
    settings = {"segment_samples": 1000, "context_samples": 300}
    found = batches(prepared, **settings)
    alone = batches(prepared, segment_samples=1000)
    assert torch.equal(whole(found, "sources")[..., 300:1300], whole(alone, "sources"))
    place, song = places_of(whole(alone, "sources"))
    ahead = ints(whole(found, "sources"))[:, :, 0, 0]
    told = (place - 300) % 1024 + 1024 * np.arange(1, 5) - 100 * song
    inside = ahead != 0  # zeros lie before a song
    assert inside.mean() > 0.9
    assert np.array_equal(ahead[inside], told[inside])
    test = whole(batches(prepared, "test", **settings), "sources")
    assert test.shape[-1] == 1600
    first = np.concatenate([np.zeros((300, 2), int), stem(5, 0)[:1300]])
    assert np.array_equal(ints(test[0, 0]).T, first)
    last = np.concatenate([stem(5, 0)[-800:], np.zeros((800, 2), int)])
    assert np.array_equal(ints(test[11, 0]).T, last)
    assert Stems(**settings).facts(prepared).context_samples == 300


def test_silence_is_judged_without_the_surroundings(songs, tmp_path):
    for name in SONGS["test"]:
        path = songs / "test" / name / "bass.wav"
        samples, _ = soundfile.read(path, dtype="int16")
        samples[:1000] = 0
        soundfile.write(path, samples, RATE)
    prepared = Songs(str(songs), keep=True, val=["Cedar"]).open(tmp_path / "home")
    settings = {"segment_samples": 1000, "context_samples": 300}
    active = whole(batches(prepared, "test", **settings), "active")[:, 0]
    assert active.tolist() == [False, *[True] * 11] * 2


def test_a_source_is_loud_by_all_of_its_samples():
    """-80 dBFS over both channels is where silence ends, wherever the samples are."""
    for place in (0, 1, 63, 64, 199):
        stems = np.zeros((1, 2, 2, 200), np.int16)
        stems[0, :, 1, place] = 46  # over 400 samples an rms of 2.3, and of 4.6 for twice the gain
        gain = np.array([[1.0, 2.0]])
        assert loud(stems, gain, [[0], [1]]).tolist() == [[False, True]]
        assert loud(stems, gain, [[0, 1]]).tolist() == [[True]]
        assert loud(stems, np.array([[1.0, -1.0]]), [[0, 1]]).tolist() == [[False]]


def test_a_batch_is_the_same_before_and_after_it_went_to_a_device(prepared):
    sources = {"vocals": ["vocals"], "rest": ["drums", "bass"]}
    settings = {"sources": sources, "number": 2, "gain_range": [0.5, 1.0]}
    for one, other in zip(
        batches(prepared, **settings), batches(prepared, **settings), strict=True
    ):
        moved = other.to("cpu")
        for field in ("waveform", "sources", "labels", "active", "index"):
            assert torch.equal(getattr(one, field), getattr(moved, field))
        assert len(moved) == len(one) == 8
        assert one.sources.dtype == torch.float32
        assert one.sources.is_contiguous()


def test_workers_give_what_one_process_gives(prepared):
    examples = Stems(segment_s=0.2, batch_size=8, train=16, gain_range=[0.5, 1.0])
    alone = list(examples.loader(prepared, "train", seed=3))
    helped = list(examples.loader(prepared, "train", seed=3, workers=1))
    assert torch.equal(whole(alone, "sources"), whole(helped, "sources"))
    assert torch.equal(whole(alone, "waveform"), whole(helped, "waveform"))


def test_incoherent_stems_are_of_different_songs_at_places_of_their_own(prepared):
    draw = Stems(segment_s=0.2, coherent=0.25, train=20_000).draw(prepared, "train")
    rows, offset = draw.places(seed=2, epoch=1, index=np.arange(20_000))
    songs = np.sort(draw.table.mixture[rows], axis=1)
    together = songs[:, 0] == songs[:, 3]
    assert together.mean() == pytest.approx(0.25, abs=0.012)  # standard deviation 0.003
    assert (np.diff(songs[~together], axis=1) > 0).all()
    assert (draw.table.stem[rows] == np.arange(4)).all()
    apart = offset[~together] / (draw.table.samples[rows[~together]] - 1600)
    assert np.abs(np.corrcoef(apart.T) - np.eye(4)).max() < 0.035  # 15 000 draws: 4 deviations
    first = draw.table.mixture[rows[~together]]
    _, counts = np.unique(first[:, 0], return_counts=True)
    assert counts == pytest.approx(len(first) / 4, rel=0.07)


def test_incoherence_needs_as_many_songs_as_stems(songs, tmp_path):
    three = Songs(str(songs), val=["Cedar", "Date"]).open(tmp_path / "home")
    with pytest.raises(DataError, match=r"4 stems of different songs need 4 songs, .* has 3"):
        Stems(coherent=0.5).draw(three, "train")
    assert Stems(coherent=0.5).draw(three, "test").count == 2 + 2  # as recorded, whatever is drawn


def test_parts_of_different_lengths_are_refused(prepared):
    table = prepared.table("train")
    samples = table.samples.copy()
    samples[5] -= 1
    with pytest.raises(DataError, match=r"of different lengths, such as train/Birch: prepare it"):
        Parts.of(prepared, replace(table, samples=samples), STEMS, "train")
    missing = table.where(np.arange(len(table)) != 2)
    with pytest.raises(DataError, match=r"missing, .* such as train/Apple"):
        Parts.of(prepared, missing, STEMS, "train")


def test_each_stem_has_a_gain_of_its_own(prepared):
    one = batches(prepared)
    other = batches(prepared, gain_range=[0.5, 2.0])
    plain, scaled = whole(one, "sources").double(), whole(other, "sources").double()
    ratio = scaled / plain
    gain = ratio[:, :, 0, 0]
    assert (ratio - gain[..., None, None]).abs().max() < 1e-6
    assert gain.min() >= 0.5
    assert gain.max() <= 2.0
    assert gain.mean() == pytest.approx(1.25, abs=0.11)  # 256 draws: 4 deviations
    assert len(set(gain.flatten().tolist())) == 256
    test = batches(prepared, "test", gain_range=[0.5, 2.0])
    assert torch.equal(whole(test, "sources"), whole(batches(prepared, "test"), "sources"))


def test_gains_are_drawn_by_seed_and_epoch_and_have_nothing_to_do_with_places(prepared):
    draw = Stems(segment_samples=1, gain_range=[1.0, 3.0]).draw(prepared, "train")
    index = np.arange(2000)
    about = [{"seed": seed, "epoch": epoch} for seed, epoch in ((2, 1), (3, 1), (2, 2))]
    columns = []
    for one in about:
        batch = draw.batch(**one, index=index)
        rows, offset = draw.places(**one, index=index)
        samples = draw.table.samples[rows]
        told = draw.table.read(draw.reader, rows, offset, 1)[:, :, :, 0]
        heard = batch.sources[..., 0].numpy() * 32768
        gain = (heard / np.where(told == 0, 1, told)).max(axis=-1)
        assert ((gain >= 1 - 1e-5) & (gain <= 3 + 1e-5)).all()
        columns += [*gain.T, (offset / samples)[:, 0], rows[:, 0].astype(float)]
    found = np.corrcoef(columns) - np.eye(len(columns))
    for number in range(len(about)):  # longer songs are drawn from as often, and have more places
        found[6 * number + 4, 6 * number + 5] = found[6 * number + 5, 6 * number + 4] = 0
    assert np.abs(found).max() < 0.11  # of 2000 independent pairs: 5 standard deviations


def test_a_quiet_stem_is_heard_where_its_gain_lifts_it(songs, tmp_path):
    for name in SONGS["train"]:
        samples = np.full((9000 + 500 * TITLES.index(name), 2), 3, np.int16)  # -80.8 dBFS
        soundfile.write(songs / "train" / name / "bass.wav", samples, RATE)
    prepared = Songs(str(songs), keep=True, val=["Cedar"]).open(tmp_path / "home")
    for gain, heard in ((1.0, False), (1.2, True)):
        found = batches(prepared, gain_range=[gain, gain])
        assert whole(found, "active").tolist() == [[heard, True, True, True]] * 64


def test_sources_are_named_sums_of_stems(prepared):
    sources = {"vocals": ["vocals"], "accompaniment": ["drums", "bass", "other"]}
    apart = batches(prepared, gain_range=[0.7, 1.0])
    summed = batches(prepared, gain_range=[0.7, 1.0], sources=sources, number=2)
    stems, two = whole(apart, "sources"), whole(summed, "sources")
    assert torch.equal(two[:, 0], stems[:, 3])
    torch.testing.assert_close(two[:, 1], stems[:, :3].sum(dim=1), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        whole(apart, "waveform"), whole(summed, "waveform"), rtol=0, atol=1e-7
    )
    facts = Stems(sources=sources, number=2).facts(prepared)
    assert facts.class_names == ("vocals", "accompaniment")
    assert facts.class_groups == ("music", "music")
    assert whole(summed, "labels").tolist() == [[0, 1]] * 64


def test_stems_in_no_source_are_heard_in_the_mixture(prepared):
    sources = {"vocals": ["vocals"], "bass": ["bass"]}
    found = batches(prepared, sources=sources, number=2)
    full = batches(prepared)
    assert torch.equal(whole(found, "sources"), whole(full, "sources")[:, [3, 0]])
    torch.testing.assert_close(whole(found, "waveform"), whole(full, "waveform"), rtol=0, atol=1e-7)


def test_validation_and_test_walk_through_whole_songs_in_order(prepared):
    settings = {"segment_s": 0.2, "batch_size": 3}
    loader = Stems(**settings).loader(prepared, "test", seed=0)
    found = whole(list(loader), "sources")
    assert len(found) == 8 + 8  # 11500 and 12000 samples, 1600 at once
    for song, rows in ((5, found[:8]), (6, found[8:])):
        for number in range(4):
            expected = stem(song, number)
            line = ints(rows[:, number]).transpose(0, 2, 1).reshape(-1, 2)
            assert np.array_equal(line[: len(expected)], expected)
            assert not line[len(expected) :].any()
    told = loader.told({"test/index": list(range(16)), "test/x": [0] * 16}, "test")
    assert told["test/mixture"] == ["test/Fig"] * 8 + ["test/Grape"] * 8
    assert told["test/mixture_number"] == [0] * 8 + [1] * 8
    assert told["test/start_s"] == pytest.approx([0.2 * n for n in range(8)] * 2)
    assert told["test/x"] == [0] * 16
    few = Stems(**settings, test=5, context_samples=80).draw(prepared, "test")
    few = few.described(np.arange(5))
    assert few["mixture_number"] == [0, 0, 0, 1, 1]
    assert few["start_s"] == pytest.approx([0.0, 0.6, 1.2, 0.2, 0.8])
    coverage = Stems(**settings, train=8).coverage(prepared, seed=0, epochs=1)
    assert coverage["val"] == coverage["test"] == {"files": 1.0, "seconds": 1.0}


def test_a_pass_visits_every_stretch_once(prepared):
    examples = Stems(segment_s=0.2, order="pass")
    draw = examples.draw(prepared, "train")
    rows, offset = draw.places(seed=0, epoch=2, index=np.arange(draw.count))
    assert draw.count == 5 + 5 + 6 + 6  # of 9000, 9500, 10500 and 11000 samples
    for song in np.unique(rows[:, 0]):
        own = np.sort(offset[rows[:, 0] == song, 0])
        assert (np.diff(own) == 1600).all()
        assert own[0] >= 0
        assert own[-1] + 1600 <= draw.table.samples[song]
    assert examples.coverage(prepared, seed=0, epochs=1)["train"]["files"] == 1.0


def test_a_song_shorter_than_a_segment_lies_within_zeros(prepared):
    for order in ("drawn", "pass"):
        for batch in batches(prepared, segment_s=1.5, train=8, order=order):
            heard = (batch.sources != 0).sum(dim=-1)
            assert (heard == heard[:, :1, :1]).all()
            assert set(heard[:, 0, 0].tolist()) <= {9000, 9500, 10500, 11000}


def test_a_silent_stem_is_marked_and_left_as_it_is(songs, tmp_path):
    for name in SONGS["train"]:
        samples = np.full((9000 + 500 * TITLES.index(name), 2), 3, np.int16)
        soundfile.write(songs / "train" / name / "bass.wav", samples, RATE)
    prepared = Songs(str(songs), keep=True, val=["Cedar"]).open(tmp_path / "home")
    for batch in batches(prepared):
        assert batch.active.tolist() == [[False, True, True, True]] * 8
        assert (ints(batch.sources[:, 0]) == 3).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 2}, r"4 sources .* task\.sources=2: set task\.sources=4"),
        ({"sources": {"v": ["voice"], "b": ["bass"]}, "number": 2}, "no stem voice; songs has"),
        ({"segment_s": 1e-6}, "less than one sample"),
    ],
)
def test_settings_that_do_not_fit_the_songs_are_refused(prepared, changes, message):
    with pytest.raises(ConfigError, match=message):
        Stems(**changes).draw(prepared, "train")


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"sources": {}},
        {"sources": {"v": "vocals"}},
        {"sources": {"v": ["vocals"], "w": ["vocals", "bass"]}},
        {"segment_s": 0},
        {"gain_range": [2.0, 1.0]},
        {"gain_range": [0.0, 1.0]},
        {"coherent": 1.5},
        {"order": "pass", "coherent": 0.5},
        {"train": 0},
        {"val": 0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Stems(**changes)


def test_sets_without_songs_are_refused(synthetic):
    with pytest.raises(DataError, match=r"synthetic has no songs with stems: data=songs"):
        Stems().draw(synthetic, "train")


@pytest.mark.parametrize("changes", [{"val": []}, {"val": "Cedar"}, {"val": [3]}])
def test_settings_of_the_folder_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match="val"):
        Songs(**changes)


def test_prepared_songs_tell_of_their_stems_on_disk(prepared):
    items = json.loads((prepared.folder / "items.json").read_text())["items"]
    assert items["mixture"][:4] == ["test/Fig"] * 4
    assert items["stem"][:4] == list(STEMS)
