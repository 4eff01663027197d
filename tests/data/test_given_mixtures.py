"""Recorded mixtures with their sources: what is taken, what is refused, all of them in order."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep.data.folder import Folder
from lightning_sep.data.given import Given
from lightning_sep.data.given_mixtures import GivenMixtures
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.stems import Stems
from lightning_sep.errors import ConfigError, DataError
from tests.trees import COUNTS, RATE, SPEAKERS, name, source

FOLDERS = dict(zip(SPLITS, ("tr", "cv", "tt"), strict=True))


@pytest.fixture
def prepared(mixtures, tmp_path):
    return GivenMixtures(str(mixtures)).open(tmp_path / "home")


def ints(samples):
    """As int16 would hold them, without the axis of the one channel."""
    assert samples.shape[-2] == 1
    return (samples.numpy() * 32768).round().astype(np.int64).squeeze(-2)


def order(split):
    """Numbers of the mixtures of a folder, in the order of their names."""
    return sorted(range(COUNTS[split]), key=lambda number: name(split, number))


# --- the folder


def test_mixtures_sources_and_speakers_are_known(prepared):
    assert prepared.source["found"] == 3 * 13 == prepared.source["counts"]["files"]
    assert prepared.stem_names == ["mixture", "s1", "s2"]
    assert prepared.class_names == ["speech"]
    assert prepared.source["split_rule"] == "the folders cv, tr, tt: 6 train, 3 val, 4 test"
    for split, folder in FOLDERS.items():
        table = prepared.table(split)
        assert len(prepared.mixtures(split)) == COUNTS[folder]
        assert len(table) == 2 * COUNTS[folder]
        speakers = {prepared.speaker_names[number] for number in table.speaker.tolist()}
        assert speakers == set(SPEAKERS[folder])
        lengths = [len(source(folder, n, 0)) for n in range(COUNTS[folder])]
        assert prepared.hours(split) == 2 * sum(lengths) / RATE / 3600  # without the mixtures
        for mixture, stem, speaker in zip(table.mixture, table.stem, table.speaker, strict=True):
            place = 0 if prepared.stem_names[stem] == "s1" else 2
            said = Path(prepared.mixture_names[mixture]).name.split("_")[place]
            assert prepared.speaker_names[speaker] == said[:3]
    assert prepared.statistics["samples"] == sum(len(source("tr", n, 0)) for n in range(6)) * 2


def test_new_mixtures_of_the_sources_have_two_speakers(prepared):
    [batch] = Mixtures(segment_s=0.5, train=32, batch_size=32).loader(prepared, "train", seed=0)
    draw = Mixtures(segment_s=0.5).draw(prepared, "train")
    rows, _ = draw.places(seed=0, epoch=0, index=np.arange(32))
    assert (draw.table.speaker[rows[:, 0]] != draw.table.speaker[rows[:, 1]]).all()
    assert batch.active.all()


def test_sources_can_be_drawn_as_stems(prepared):
    examples = Stems(number=2, segment_s=0.5, train=16, batch_size=16, gain_range=[0.5, 1.0])
    [batch] = examples.loader(prepared, "train", seed=0)
    assert torch.equal(batch.sources.sum(dim=1), batch.waveform)


def test_speakers_of_libri_mix_are_known_and_parts_of_train_are_train(mixtures, tmp_path):
    for folder, other in (("tr", "train-100"), ("cv", "dev"), ("tt", "test")):
        (mixtures / folder).rename(mixtures / other)
        names = sorted(path.name for path in (mixtures / other / "mix").iterdir())
        speakers = {"tr": (19, 26), "cv": (84, 174), "tt": (61, 121)}[folder]
        for number, one in enumerate(names):
            new = f"{speakers[0]}-198-{number:04d}_{speakers[1]}-490-{number:04d}.wav"
            for part in ("mix", "s1", "s2"):
                (mixtures / other / part / one).rename(mixtures / other / part / new)
    prepared = GivenMixtures(str(mixtures)).open(tmp_path / "home")
    for part in ("mix", "s1", "s2"):  # which WSJ0-2mix alone may share
        path = min((mixtures / "dev" / part).iterdir())
        path.rename(path.with_name(path.name.replace("84-198", "26-198")))
    with pytest.raises(DataError, match=r"speaker '26' \('train-100/\S+' in train, 'dev/\S+' in v"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")
    table = prepared.table("train")
    assert {prepared.speaker_names[n] for n in table.speaker.tolist()} == {"19", "26"}
    assert prepared.source["split_rule"].startswith("the folders dev, test, train-100: 6 train")


def test_speakers_are_shared_by_training_and_validation_of_wsj_alone(mixtures, tmp_path):
    GivenMixtures(str(mixtures)).open(tmp_path / "home")
    for part in ("mix", "s1", "s2"):
        for path in sorted((mixtures / "tt" / part).iterdir()):
            path.rename(path.with_name(path.name.replace("22a", "011")))
    with pytest.raises(DataError, match=r"speaker '011'"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")


def test_where_one_name_is_not_of_wsj_no_speaker_is_shared(mixtures, tmp_path):
    for part in ("mix", "s1", "s2"):
        path = mixtures / "tr" / part / f"{name('tr', 0)}.wav"
        path.rename(path.with_name("talk.wav"))
    with pytest.raises(DataError, match=r"splits share .* speaker '011'"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")


def test_mixtures_of_one_name_in_two_splits_are_refused(mixtures, tmp_path):
    for part in ("mix", "s1", "s2"):
        (mixtures / "cv" / part / f"{name('cv', 0)}.wav").rename(
            mixtures / "cv" / part / f"{name('tr', 0)}.wav"
        )
    with pytest.raises(DataError, match=rf"splits share .* source '{name('tr', 0)}' \('tr/"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")


def test_a_mixture_without_a_source_is_refused_by_name(mixtures, tmp_path):
    (mixtures / "cv" / "s2" / f"{name('cv', 1)}.wav").unlink()
    (mixtures / "tr" / "mix" / f"{name('tr', 0)}.wav").unlink()
    with pytest.raises(DataError) as caught:
        GivenMixtures(str(mixtures)).open(tmp_path / "home")
    said = str(caught.value)
    assert f"cv/s2 lacks 1 of 3 ({name('cv', 1)}); tr/mix lacks 1 of 6 ({name('tr', 0)})" in said


def test_sources_of_another_length_are_refused_by_name(mixtures, tmp_path):
    path = mixtures / "tt" / "s1" / f"{name('tt', 2)}.wav"
    soundfile.write(path, source("tt", 2, 0)[:-3], RATE)
    with pytest.raises(DataError, match=rf"tt/{name('tt', 2)} \(.*6497 samples.*6500 samples"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")


def noisy(mixtures):
    """Add noise to each mixture; the noise lies beside it in ``noise``."""
    for split, count in COUNTS.items():
        (mixtures / split / "mix").rename(mixtures / split / "mix_both")
        (mixtures / split / "noise").mkdir()
        for number in range(count):
            noise = source(split, number, 7)
            path = mixtures / split / "mix_both" / f"{name(split, number)}.wav"
            clean, _ = soundfile.read(path, dtype="int16")
            soundfile.write(path, clean + noise, RATE)
            soundfile.write(mixtures / split / "noise" / path.name, noise, RATE)


def test_what_is_in_the_mixture_and_in_no_source_has_to_be_named(mixtures, tmp_path):
    noisy(mixtures)
    told = r"13 of 13 mixtures are not the sum of their parts: .* data\.noise=FOLDER names it"
    with pytest.raises(DataError, match=told):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")
    named = GivenMixtures(str(mixtures), noise="noise").open(tmp_path / "home")
    rest = GivenMixtures(str(mixtures), noise="rest").open(tmp_path / "home")
    assert named.stem_names == ["mixture", "noise", "s1", "s2"]
    assert dict(zip(named.class_names, named.class_groups, strict=True)) == {
        "noise": "noise",
        "speech": "speech",
    }
    assert rest.stem_names == ["mixture", "s1", "s2"]
    assert rest.source["notes"] == [
        "what the sources leave of a mixture is not scored (data.noise=rest)"
    ]
    assert rest.source["left_out"]["in no folder that is used"]["files"] == 13
    for prepared in (named, rest):
        for number, batch in zip(
            order("tt"), Given().loader(prepared, "test", seed=0), strict=True
        ):
            expected = [source("tt", number, one).astype(int) for one in range(2)]
            assert np.array_equal(ints(batch.sources[0]), expected)
            noise = source("tt", number, 7)
            assert np.array_equal(ints(batch.waveform[0]), sum(expected) + noise)
    sums = {"one": ["s2", "noise"], "two": ["s1"]}
    facts = Stems(number=2, sources=sums).facts(named)
    assert facts.classes() == [("one", "speech"), ("two", "speech")]  # of their first stems
    with pytest.raises(ConfigError, match="none called wham"):
        GivenMixtures(str(mixtures), noise="wham").open(tmp_path / "home")


def test_a_noise_that_is_named_has_to_be_in_the_mixture(mixtures, tmp_path):
    noisy(mixtures)
    soundfile.write(mixtures / "tr" / "noise" / f"{name('tr', 3)}.wav", source("tr", 3, 9), RATE)
    with pytest.raises(DataError, match=rf"1 of 13 .*: tr/{name('tr', 3)} \(-\d+ dBFS off"):
        GivenMixtures(str(mixtures), noise="noise").open(tmp_path / "home")
    kept = GivenMixtures(str(mixtures), noise="noise", keep=True).open(tmp_path / "home")
    assert kept.source["notes"][0].startswith("1 mixtures are not the sum of their parts")


def test_of_several_mixtures_one_is_chosen_and_the_rest_counted(mixtures, tmp_path):
    for split in COUNTS:
        shutil.copytree(mixtures / split / "s1", mixtures / split / "mix_single")
    with pytest.raises(ConfigError, match=r"has mix, mix_single: data\.mixture=FOLDER says"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")
    settings = {"mixture": "mix_single", "sources": ["s1"]}
    prepared = GivenMixtures(str(mixtures), **settings).open(tmp_path / "home")
    assert prepared.source["left_out"]["in no folder that is used"]["files"] == 26
    batch = next(iter(Given(sources=1).loader(prepared, "test", seed=0)))
    assert torch.equal(batch.sources[:, 0], batch.waveform)


def test_a_folder_above_says_which_to_choose(mixtures, tmp_path):
    shutil.copytree(mixtures, mixtures.parent / "max")
    told = r"holds several sets of mixtures: choose data\.path=\S+/max or data\.path=\S+/min"
    with pytest.raises(DataError, match=told):
        GivenMixtures(str(mixtures.parent)).open(tmp_path / "home")


def test_another_layout_is_refused(mixtures, tmp_path):
    soundfile.write(mixtures / "loose.wav", source("tt", 0, 0), RATE)
    with pytest.raises(DataError, match=r"is not laid out as .*: loose\.wav\. data\.test_only"):
        GivenMixtures(str(mixtures)).open(tmp_path / "home")


def test_mixtures_without_splits_are_for_testing(mixtures, tmp_path):
    prepared = GivenMixtures(str(mixtures / "tt"), test_only=True).open(tmp_path / "home")
    assert len(prepared.mixtures("test")) == 4
    assert prepared.test_only
    whole = GivenMixtures(str(mixtures), test_only=True).open(tmp_path / "home")
    assert len(whole.mixtures("test")) == 13


def test_the_plain_folder_says_how_to_take_mixtures(mixtures, tmp_path):
    told = r"WSJ0-mix: .* data=given_mixtures data\.path=FOLDER/min examples=given"
    with pytest.raises(DataError, match=told):
        Folder(str(mixtures.parent)).open(tmp_path / "home")


# --- examples


@pytest.mark.parametrize("split", ["val", "test"])
def test_all_mixtures_come_whole_and_in_order(prepared, split):
    loader = Given(batch_size=3).loader(prepared, split, seed=0)
    batches = list(loader)
    folder = FOLDERS[split]
    assert len(batches) == len(loader) == COUNTS[folder]
    for place, (number, batch) in enumerate(zip(order(folder), batches, strict=True)):
        expected = [source(folder, number, one).astype(int) for one in range(2)]
        assert np.array_equal(ints(batch.sources[0]), expected)
        assert np.array_equal(ints(batch.waveform[0]), sum(expected))
        assert batch.index.tolist() == [place]
        assert batch.labels.tolist() == [[0, 0]]
        assert batch.active.all()
    told = loader.told({f"{split}/index": [2, 0]}, split)
    names = [f"{folder}/{name(folder, number)}" for number in order(folder)]
    assert told[f"{split}/mixture"] == [names[2], names[0]]
    assert told[f"{split}/mixture_number"] == [2, 0]
    assert loader.told({"val/x": [1.0]}, "val") == {"val/x": [1.0]}


def test_a_limit_counts_mixtures_where_each_is_a_batch(prepared):
    assert Given().draw(prepared, "test").alone
    for world in (1, 2):
        assert Given().loader(prepared, "test", seed=0, world=world, limit=2).sampler.count == 2
    told = Given().coverage(prepared, seed=0, epochs=1, limit=1)
    assert told["test"]["files"] == 1 / COUNTS["tt"]


def test_fewer_are_evenly_spaced_and_keep_their_numbers(prepared):
    loader = Given(test=2).loader(prepared, "test", seed=0)
    assert len(list(loader)) == 2
    told = loader.told({"test/index": [0, 1]}, "test")
    names = [f"tt/{name('tt', number)}" for number in order("tt")]
    assert told["test/mixture"] == [names[0], names[2]]
    assert told["test/mixture_number"] == [0, 2]
    assert len(list(Given(test=100).loader(prepared, "test", seed=0))) == 4


def test_mixtures_of_one_length_share_a_batch(mixtures, tmp_path):
    for path in sorted(mixtures.rglob("*.wav")):
        samples, _ = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples[:6000], RATE)
    prepared = GivenMixtures(str(mixtures)).open(tmp_path / "home")
    batches = list(Given(batch_size=3).loader(prepared, "test", seed=0))
    assert [len(batch) for batch in batches] == [3, 1]
    assert batches[0].waveform.shape == (3, 1, 6000)


def test_two_processes_share_all_mixtures(prepared):
    found = [
        batch
        for rank in range(2)
        for batch in Given().loader(prepared, "val", seed=0, rank=rank, world=2)
    ]
    # the third leaves nothing for the second process
    assert [batch.index.tolist() for batch in found] == [[0], [2], [1], [-1]]
    alone = list(Given().loader(prepared, "val", seed=0))
    for batch in found[:3]:
        assert torch.equal(batch.sources, alone[int(batch.index)].sources)


def test_an_epoch_takes_a_segment_of_every_mixture(prepared):
    examples = Given(segment_s=0.5, batch_size=4)
    draw = examples.draw(prepared, "train")
    offsets = []
    for epoch in range(40):
        rows, offset = draw.places(seed=1, epoch=epoch, index=np.arange(6))
        assert sorted(rows.tolist()) == list(range(6))
        assert (offset >= 0).all()
        assert (offset + 4000 <= draw.table.samples[rows]).all()
        offsets.append(offset[np.argsort(rows)])
    assert len(np.unique(np.array(offsets)[:, 0])) > 30
    assert examples.coverage(prepared, seed=1, epochs=1)["train"]["files"] == 1.0
    coverage = examples.coverage(prepared, seed=1, epochs=1)
    assert coverage["test"] == coverage["val"] == {"files": 1.0, "seconds": 1.0}


@pytest.mark.parametrize("order", ["pass", "drawn"])
def test_segments_are_those_that_are_told(prepared, order):
    examples = Given(segment_s=0.5, order=order, train=9, batch_size=4)
    draw = examples.draw(prepared, "train")
    batches = list(examples.loader(prepared, "train", seed=5))
    rows, offset = draw.places(seed=5, epoch=0, index=np.arange(draw.count))
    sources = ints(torch.cat([batch.sources for batch in batches]))
    mixed = ints(torch.cat([batch.waveform for batch in batches]))
    assert len(sources) == (6 if order == "pass" else 9)
    for row, first, two, one in zip(rows, offset, sources, mixed, strict=True):
        number = prepared.mixture_names[draw.table.mixture[row]]
        number = next(n for n in range(6) if number == f"tr/{name('tr', n)}")
        for place in range(2):
            expected = source("tr", number, place)[first : first + 4000]
            assert np.array_equal(two[place], expected)
        assert np.array_equal(two.sum(axis=0), one)


def test_a_silent_source_is_marked(mixtures, tmp_path):
    path = mixtures / "tt" / "s1" / f"{name('tt', order('tt')[1])}.wav"
    other = path.parents[1] / "s2" / path.name
    samples, _ = soundfile.read(other, dtype="int16")
    soundfile.write(path, 0 * samples, RATE)
    soundfile.write(path.parents[1] / "mix" / path.name, samples, RATE)
    prepared = GivenMixtures(str(mixtures)).open(tmp_path / "home")
    active = [batch.active[0].tolist() for batch in Given().loader(prepared, "test", seed=0)]
    assert active == [[True, True], [False, True], [True, True], [True, True]]


def test_sources_that_are_named_are_classes(mixtures, tmp_path):
    for split in COUNTS:
        (mixtures / split / "s1").rename(mixtures / split / "voice")
        (mixtures / split / "s2").rename(mixtures / split / "piano")
    prepared = GivenMixtures(str(mixtures), sources=["voice", "piano"]).open(tmp_path / "home")
    assert prepared.class_names == ["piano", "voice"]
    batch = next(iter(Given().loader(prepared, "test", seed=0)))
    assert batch.labels.tolist() == [[0, 1]]
    assert np.array_equal(ints(batch.sources[0, 1]), source("tt", order("tt")[0], 0))


def test_names_may_begin_with_one_another(mixtures, tmp_path):
    """As files ("a b.wav", "a.wav") they are in another order than as names ("a", "a b")."""
    for part in ("mix", "s1", "s2"):
        for number, new in enumerate(("a", "a b", "c", "d", "e", "f")):
            path = mixtures / "tr" / part / f"{name('tr', number)}.wav"
            path.rename(path.with_name(f"{new}.wav"))
    prepared = GivenMixtures(str(mixtures)).open(tmp_path / "home")
    draw = Given(segment_s=0.5).draw(prepared, "train")
    rows, _ = draw.places(seed=0, epoch=0, index=np.arange(6))
    sources = draw.batch(seed=0, epoch=0, index=np.arange(6)).sources
    titles = [prepared.mixture_names[number] for number in draw.table.mixture[rows]]
    for title, number in (("tr/a", 0), ("tr/a b", 1)):
        found = ints(sources[titles.index(title), 0])
        whole = source("tr", number, 0)
        assert (np.lib.stride_tricks.sliding_window_view(whole, 4000) == found).all(axis=1).any()


def test_a_mixture_shorter_than_a_segment_lies_within_zeros(prepared):
    for batch in Given(segment_s=1.0, batch_size=6).loader(prepared, "train", seed=0):
        assert batch.waveform.shape == (6, 1, 8000)
        heard = (batch.waveform != 0).sum(dim=-1)
        assert (heard < 7300).all()
        assert (heard > 5900).all()


def test_facts_say_what_a_task_must_know(prepared):
    facts = Given().facts(prepared)
    assert facts.sources == 2
    assert facts.sample_rate == RATE
    assert facts.class_names == ("speech",)
    assert facts.class_groups == ("speech",)
    assert facts.normalise == "none"


def test_another_number_of_sources_is_refused(prepared):
    with pytest.raises(ConfigError, match=r"have 2 sources \(s1, s2\), and task\.sources=3"):
        Given(sources=3).facts(prepared)


def test_sets_without_mixtures_are_refused(synthetic):
    with pytest.raises(DataError, match=r"synthetic has no recorded mixtures: data=given_mix"):
        Given().draw(synthetic, "train")


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": 0},
        {"segment_s": -1.0},
        {"order": "random"},
        {"train": 0},
        {"val": 0},
        {"test": 1.5},
        {"batch_size": 0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        Given(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mixture": ""},
        {"noise": 3},
        {"sources": "s1"},
        {"sources": ["s1", "s1"]},
        {"sources": ["s1", "noise"]},
        {"sources": []},
    ],
)
def test_settings_of_the_folder_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        GivenMixtures(**changes)
