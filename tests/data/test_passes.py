"""Epochs that visit everything once, and how much of a set the examples hold."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_sep.data.examples import Heard
from lightning_sep.data.folder import Folder
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.ones import Ones
from lightning_sep.data.passes import Groups, Stretches, shuffled
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets

EPOCHS = range(5)


def places(draw, epoch, seed=3):
    return draw.places(seed=seed, epoch=epoch, index=np.arange(draw.count))


@pytest.mark.parametrize("pairing", ["any", "speech_noise"])
def test_every_file_comes_first_once_an_epoch(synthetic, pairing):
    examples = Mixtures(sources=3, order="pass", pairing=pairing)
    draw = examples.draw(synthetic, "train")
    table = draw.table
    wanted = np.arange(len(table))
    if pairing == "speech_noise":
        wanted = wanted[table.group == synthetic.group_names.index("speech")]
    orders = {tuple(places(draw, epoch=0, seed=4)[0][:, 0])}
    for epoch in EPOCHS:
        items, _ = places(draw, epoch)
        assert sorted(items[:, 0]) == wanted.tolist()
        assert all(len(set(row)) == 3 for row in table.label[items].tolist())
        orders.add(tuple(items[:, 0]))
    assert len(orders) == len(EPOCHS) + 1
    assert len(list(examples.loader(synthetic, "train", seed=3))) == -(-len(wanted) // 16)


def test_every_stretch_comes_once_an_epoch(synthetic):
    draw = Sequences(frames=49, order="pass").draw(synthetic, "train")
    phases = set()
    for epoch in EPOCHS:
        items, offsets = places(draw, epoch)
        heard = np.zeros((len(draw.table), draw.table.samples.max()), dtype=int)
        for item, offset in zip(items, offsets, strict=True):
            assert 0 <= offset <= draw.table.samples[item] - draw.samples
            heard[item, offset : offset + draw.samples] += 1
        assert heard.max() == 1
        missed = draw.table.samples - heard.sum(axis=1)
        assert (missed == draw.table.samples % draw.samples).all()
        phases.add(int(offsets[items == 0].min()))
    assert len(phases) > 1


def test_every_file_of_every_speaker_is_in_an_epoch_once(tmp_path, tone):
    (tmp_path / "set").mkdir()
    lines = ["filename,speaker,split"]
    for number in range(60):  # speakers with 1, 2, 4, 7, 11 and 16 files, then others to hold out
        speaker = int(np.searchsorted(np.cumsum([1, 2, 4, 7, 11, 16]), number, side="right"))
        split = ("train", "val", "test")[max(0, number - 40) % 3 if number > 40 else 0]
        soundfile.write(tmp_path / "set" / f"{number}.wav", tone(number, 0.05), 8000)
        lines.append(f"{number}.wav,{speaker if number < 41 else split + str(number % 2)},{split}")
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(lines))
    prepared = Folder(str(tmp_path / "set")).open(tmp_path / "home")
    examples = Snippets(speakers=3, snippets=4, segment_s=0.02, order="pass")
    draw = examples.draw(prepared, "train")
    for epoch in EPOCHS:
        items, _ = places(draw, epoch)
        counts = np.bincount(items, minlength=len(draw.table))
        assert counts.min() == 1
        speakers = draw.table.speaker[items].reshape(-1, 3, 4)
        assert (speakers == speakers[:, :, :1]).all()
        assert all(len(set(row)) == 3 for row in speakers[:, :, 0].tolist())
    one, other = (places(draw, 0, seed=seed)[0] for seed in (1, 2))
    assert not np.array_equal(one, other)
    # Drawn without a pass, all files of a speaker are equally likely, however many there are.
    drawn = Snippets(speakers=3, snippets=4, segment_s=0.02, train=400).draw(prepared, "train")
    items, _ = places(drawn, 0)
    counts = np.bincount(items, minlength=len(drawn.table))
    own = [counts[drawn.table.speaker == who] for who in range(6)]
    assert sorted(map(len, own)) == [1, 2, 4, 7, 11, 16]
    assert min(stats.chisquare(one).pvalue for one in own if len(one) > 1) > 1e-4


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=12),
    st.integers(2, 6),
    st.integers(1, 5),
    st.integers(0, 2**40),
)
def test_parts_are_dealt_so_that_no_speaker_meets_itself(sizes, places, size, seed):
    groups = Groups(np.array(sizes), min(places, len(sizes)), size)
    plan = groups.plan(seed=seed, epoch=1)
    met = []
    for row, parts in zip(plan.speakers.tolist(), plan.parts.tolist(), strict=True):
        there = [speaker for speaker in row if speaker >= 0]
        assert len(set(there)) == len(there)
        assert row[len(there) :] == [-1] * (len(row) - len(there))
        met += [(s, p) for s, p in zip(row, parts, strict=True) if s >= 0]
    assert sorted(met) == [(s, p) for s, n in enumerate(sizes) for p in range(-(-n // size))]
    for speaker, count in enumerate(sizes):
        first = plan.firsts[speaker]
        assert sorted(plan.turns[first : first + count]) == list(range(count))


def test_a_recording_is_cut_from_every_start_that_leaves_as_many_stretches():
    stretches = Stretches(np.array([7, 8, 6, 2]), 3)
    found: dict[int, set[int]] = {row: set() for row in range(4)}
    for epoch in range(60):
        rows, firsts = stretches.places(seed=1, epoch=epoch, index=np.arange(stretches.count))
        assert sorted(rows) == [0, 0, 1, 1, 2, 2, 3]
        for row in range(4):
            own = sorted(firsts[rows == row])
            assert row == 3 or own[1] == own[0] + 3
            found[row].add(int(own[0]))
    assert found == {0: {0, 1}, 1: {0, 1, 2}, 2: {0}, 3: {0}}


def test_every_order_is_equally_likely():
    orders = [tuple(shuffled(3, seed=1, epoch=e, purpose="x").tolist()) for e in range(6000)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 150  # standard deviation 29


def test_a_pass_depends_on_seed_and_epoch_alone(synthetic):
    for examples in (
        Mixtures(order="pass"),
        Sequences(order="pass"),
        Snippets(speakers=3, order="pass"),
    ):
        draw, again = (examples.draw(synthetic, "train") for _ in range(2))
        places(again, 7)  # another epoch in between
        for one, other in zip(places(draw, 2), places(again, 2), strict=True):
            assert np.array_equal(one, other)
        index = np.array([5, 2])
        for one, other in zip(
            draw.places(seed=3, epoch=2, index=index), places(draw, 2), strict=True
        ):
            assert np.array_equal(one, other[index])


def by_marking(draw, epochs, seed):
    """Shares of files and samples heard, counted sample by sample."""
    marks = [np.zeros(size, dtype=bool) for size in draw.table.samples]
    for epoch in epochs:
        rows, offsets = places(draw, epoch, seed)
        for row, offset in zip(rows.ravel(), offsets.ravel(), strict=True):
            if draw.repeats and len(marks[row]) < draw.samples:
                marks[row][:] = True
            marks[row][max(offset, 0) : max(offset + draw.samples, 0)] = True
    heard = {int(r) for r, mark in zip(draw.table.recording, marks, strict=True) if mark.any()}
    return {
        "files": len(heard) / len(set(draw.table.recording.tolist())),
        "seconds": sum(mark.sum() for mark in marks) / sum(map(len, marks)),
    }


@pytest.mark.parametrize(
    "examples",
    [
        Mixtures(train=5),
        Mixtures(train=9, segment_s=2.7),
        Sequences(train=6),
        Snippets(speakers=2, snippets=2, train=3),
        Snippets(speakers=2, snippets=2, train=3, segment_s=2.6),
    ],
)
def test_coverage_is_what_marking_every_sample_gives(synthetic, examples):
    draw = examples.draw(synthetic, "train")
    heard = Heard(draw, 4)
    for epoch in range(3):
        heard.add(epoch)
        assert heard.share() == pytest.approx(by_marking(draw, range(epoch + 1), 4))
    assert 0 < heard.share()["seconds"] < 1


def test_a_pass_covers_everything_in_the_first_epoch(synthetic):
    for examples in (Sequences(order="pass"), Snippets(order="pass"), Mixtures(order="pass")):
        assert examples.coverage(synthetic, seed=1, epochs=1)["first_epoch"]["files"] == 1


def test_examples_of_no_recording_cover_nothing(synthetic):
    told = Ones().coverage(synthetic, seed=1, epochs=2)
    assert {tuple(shares.values()) for shares in told.values()} == {(0.0, 0.0)}


def test_coverage_of_all_splits_is_told(synthetic):
    examples = Sequences(train=4, val=1, test=None)
    told = examples.coverage(synthetic, seed=1, epochs=3)
    assert told["first_epoch"] == pytest.approx(
        by_marking(examples.draw(synthetic, "train"), [0], 1)
    )
    assert told["train"] == pytest.approx(
        by_marking(examples.draw(synthetic, "train"), range(3), 1)
    )
    assert told["val"] == pytest.approx(by_marking(examples.draw(synthetic, "val"), [0], 9))
    assert told["test"]["files"] == 1
    mixed = Mixtures(train=40, val=40, test=3, batch_size=4)
    told = mixed.coverage(synthetic, seed=1, epochs=2, times=2, limit=1)
    for split, count, seed in (("train", 8, 1), ("val", 4, 9), ("test", 3, 8)):
        draw = mixed.draw(synthetic, split)
        draw.count = count  # a batch of it, of training twice as large
        expected = by_marking(draw, range(2 if split == "train" else 1), seed)
        assert told[split] == pytest.approx(expected)
