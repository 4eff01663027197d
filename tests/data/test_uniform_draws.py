"""Draws of 20 000: every class, file, start, level and speaker equally often, and independently."""

import numpy as np
import pytest
import soundfile
from scipy import stats

from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets

COUNT = 20_000
SEEDS = (0, 12345)
FILES = {"a": 2, "b": 3, "c": 5}  # to train on, of each class
SEGMENT = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Ten files of three classes and five speakers; each sample tells its file and its place."""
    folder = tmp_path_factory.mktemp("told") / "set"
    folder.mkdir()
    lines, number = ["filename,class,speaker,split"], 0
    for split in ("train", "val", "test"):
        for name, count in FILES.items():
            for _ in range(count if split == "train" else 2):
                places = np.arange(240 + 20 * (number % 5))
                samples = ((number << 9) + places + 1).astype(np.int16)  # below 512 a file
                soundfile.write(folder / f"{number:02d}.wav", samples, 8000)
                who = f"s{number // 2}" if split == "train" else f"{split}{name}"
                lines.append(f"{number:02d}.wav,{name},{who},{split}")
                number += 1
    (folder / "metadata.csv").write_text("\n".join(lines))
    return Folder(str(folder)).open(folder.parent / "home")


def even(values, shares):
    """p of a chi-square test that ``values`` (0, 1, ...) come with these shares."""
    found = np.bincount(values, minlength=len(shares))
    assert len(found) == len(shares)
    return stats.chisquare(found, len(values) * np.asarray(shares) / np.sum(shares)).pvalue


def independent(one, other):
    """p of a chi-square test that two columns of small numbers have nothing to do with another."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    return stats.chi2_contingency(table).pvalue


def drawn(examples, prepared, seed, epoch=0):
    draw = examples.draw(prepared, "train")
    rows, offset = draw.places(seed=seed, epoch=epoch, index=np.arange(COUNT))
    starts = draw.table.samples[rows] - SEGMENT + 1
    return draw, rows, offset, np.floor(offset / starts * 8).astype(int)


@pytest.mark.parametrize("seed", SEEDS)
def test_mixtures_are_drawn_evenly_and_independently(prepared, seed):
    draw, rows, offset, part = drawn(Mixtures(segment_s=SEGMENT / 8000), prepared, seed)
    labels = draw.table.label[rows]
    pairs = labels[:, 0] * 3 + labels[:, 1]
    p = [even(np.unique(pairs, return_inverse=True)[1], np.ones(6))]
    starts = draw.table.samples - SEGMENT + 1
    for source in (0, 1):
        for label, count in enumerate(FILES.values()):
            own = rows[labels[:, source] == label, source]
            p.append(even(np.unique(own, return_inverse=True)[1], np.ones(count)))
        for file in range(10):  # each start of each file
            p.append(even(offset[rows[:, source] == file, source], np.ones(starts[file])))
        p.append(independent(rows[:, source], part[:, source]))
        p.append(independent(rows[:-1, source], rows[1:, source]))
        p.append(independent(part[:-1, source], part[1:, source]))
    p.append(independent(part[:, 0], part[:, 1]))
    p.append(independent(rows[:, 0], part[:, 1]))
    same = labels[:, 0] == 2  # files within a class do not depend on the other source's file
    p.append(independent(rows[same, 0], rows[same, 1]))
    for other in ((seed + 1, 0), (seed, 1)):
        _, others, _, parts = drawn(Mixtures(segment_s=SEGMENT / 8000), prepared, *other)
        p.append(independent(rows[:, 0], others[:, 0]))
        p.append(independent(part[:, 0], parts[:, 0]))
    assert min(p) > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_levels_are_uniform_and_independent_of_what_is_mixed(prepared, seed):
    examples = Mixtures(segment_s=SEGMENT / 8000, snr_range_db=[-3.0, 9.0], normalise="none")
    draw = examples.draw(prepared, "train")
    batch = draw.batch(seed=seed, epoch=0, index=np.arange(COUNT))
    energy = batch.sources.double().square().sum(dim=(-1, -2)).numpy()
    level_db = 10 * np.log10(energy[:, 0] / energy[:, 1])
    share = (level_db + 3) / 12
    assert stats.kstest(share, "uniform").pvalue > 1e-4
    part = np.clip(np.floor(share * 8), 0, 7).astype(int)
    rows, offset = draw.places(seed=seed, epoch=0, index=np.arange(COUNT))
    bins = np.floor(offset / (draw.table.samples[rows] - SEGMENT + 1) * 8).astype(int)
    for column in (rows[:, 0], rows[:, 1], bins[:, 0], bins[:, 1]):
        assert independent(column, part) > 1e-4
    assert independent(part[:-1], part[1:]) > 1e-4
    for other in ({"seed": seed + 1, "epoch": 0}, {"seed": seed, "epoch": 1}):
        sources = draw.batch(**other, index=np.arange(2000)).sources
        energy = sources.double().square().sum(dim=(-1, -2)).numpy()
        again = (10 * np.log10(energy[:, 0] / energy[:, 1]) + 3) / 12
        # of 2000 independent pairs: 4.5 standard deviations
        assert abs(np.corrcoef(share[:2000], again)[0, 1]) < 0.1


def test_a_mixture_holds_the_samples_of_its_places(prepared):
    examples = Mixtures(segment_s=SEGMENT / 8000, normalise="none", snr_range_db=[0.0, 0.0])
    draw = examples.draw(prepared, "train")
    index = np.arange(300)
    rows, offset = draw.places(seed=1, epoch=0, index=index)
    found = draw.batch(seed=1, epoch=0, index=index).sources[:, :, 0].numpy()
    places = offset[..., None] + np.arange(SEGMENT) + 1
    told = (draw.table.recording[rows][..., None] << 9) + places.astype(np.float64)
    expected = told / np.sqrt((told**2).sum(axis=-1, keepdims=True))  # unit energy
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_sequences_start_anywhere_equally_often(prepared, seed):
    examples = Sequences(frame_samples=SEGMENT // 4, frames=4)
    draw, rows, offset, part = drawn(examples, prepared, seed)
    starts = draw.table.samples - SEGMENT + 1
    for file in range(10):
        found = offset[rows == file]
        assert (found.min(), found.max()) == (0, starts[file] - 1)
    p = [even(rows, starts)]
    p += [even(offset[rows == file], np.ones(starts[file])) for file in range(10)]
    p += [independent(rows[:-1], rows[1:]), independent(part[:-1], part[1:])]
    assert min(p) > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_snippets_are_drawn_evenly_and_independently(prepared, seed):
    examples = Snippets(speakers=2, snippets=2, segment_s=SEGMENT / 8000)
    draw, rows, offset, part = drawn(examples, prepared, seed)
    speakers = np.unique(draw.table.speaker[rows], return_inverse=True)[1].reshape(-1, 2, 2)
    assert (speakers[:, :, 0] == speakers[:, :, 1]).all()
    pairs = speakers[:, 0, 0] * 5 + speakers[:, 1, 0]
    starts = draw.table.samples - SEGMENT + 1
    p = [even(np.unique(pairs, return_inverse=True)[1], np.ones(20))]
    p += [even(rows[speakers.ravel() == who] % 2, np.ones(2)) for who in range(5)]
    p += [even(offset[rows == file], np.ones(starts[file])) for file in range(10)]
    p += [independent(rows, part), independent(part[:-1], part[1:])]
    first, second = rows.reshape(-1, 2, 2)[:, :, 0].ravel(), rows.reshape(-1, 2, 2)[:, :, 1].ravel()
    p.append(independent(first % 2, second % 2))
    p.append(independent(part.reshape(-1, 2)[:, 0], part.reshape(-1, 2)[:, 1]))
    assert min(p) > 1e-4
