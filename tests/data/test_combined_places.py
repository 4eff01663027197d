"""Sets whose speakers, stretches and sessions are numbered anew when they are put together."""

import numpy as np
import pytest
import soundfile

from lightning_sep.data.combined import Combination, Combined
from lightning_sep.data.folder import Folder
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.splits import SPLITS


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """One recording that is split in time, and twice speakers, of whom some are called alike."""
    home = tmp_path_factory.mktemp("sets")
    made = {}
    (home / "long").mkdir()
    soundfile.write(home / "long" / "a.wav", np.arange(4000).astype(np.int16), 8000)
    made["long"] = Folder(str(home / "long")).open(home / "home")
    for name, people in (("one", ["cy", "ann", "ben"]), ("two", ["dee", "ben", "ann"])):
        (home / name).mkdir()
        lines = ["filename,class,speaker,split,session"]
        for number, who in enumerate(people):
            for take in (0, 1):
                file = f"{number}-{take}.wav"
                start = 5000 + 1000 * number + 500 * take + (10000 if name == "two" else 0)
                samples = start + np.arange(300 + 10 * number)
                soundfile.write(home / name / file, samples.astype(np.int16), 8000)
                session = f"day {take}" if number != 1 else ""
                lines.append(f"{file},{name}{number},{who},{SPLITS[number]},{session}")
        (home / name / "metadata.csv").write_text("\n".join(lines))
        made[name] = Folder(str(home / name)).open(home / "home")
    return made


@pytest.fixture(scope="module")
def together(parts):
    return Combination(list(parts), list(parts.values()), None)


def test_speakers_of_one_name_in_two_sets_are_two(together):
    assert together.speaker_names == [
        *("one:ann", "one:ben", "one:cy", "two:ann", "two:ben", "two:dee")
    ]
    found = {}
    for split in SPLITS:
        table = together.table(split)
        for place, number in zip(table.corpus, table.speaker, strict=True):
            who = together.speaker_names[number] if number >= 0 else ""
            found.setdefault((int(place), split), set()).add(who)
    assert found == {
        **{(0, split): {""} for split in SPLITS},
        **{(1, "train"): {"one:cy"}, (1, "val"): {"one:ann"}, (1, "test"): {"one:ben"}},
        **{(2, "train"): {"two:dee"}, (2, "val"): {"two:ben"}, (2, "test"): {"two:ann"}},
    }


def test_a_stretch_begins_where_it_did_and_each_piece_is_read_from_its_set(parts, together):
    for split in SPLITS:
        table = together.table(split)
        zeros = np.zeros(len(table), dtype=np.int64)
        read = together.reader.read(table.recording, table.start, table.samples, zeros, 200)
        row = 0
        for part in parts.values():
            own = part.table(split)
            for place in range(len(own)):
                expected = part.reader.whole(int(own.recording[place]), int(own.start[place]), 200)
                assert np.array_equal(read[row], expected)
                assert table.start[row] == own.start[place]
                assert table.samples[row] == own.samples[place]
                row += 1
        assert row == len(table)
    assert together.table("test").start[0] == 3600


def test_sessions_of_two_sets_are_never_one_and_unknown_ones_stay_unknown(together):
    seen: dict[int, set[int]] = {}
    for split in SPLITS:
        table = together.table(split)
        for place, session in zip(table.corpus.tolist(), table.session.tolist(), strict=True):
            seen.setdefault(place, set()).add(session)
    assert seen[0] == {-1}
    assert len(seen[1] - {-1}) == len(seen[2] - {-1}) == 2
    assert seen[1] & seen[2] == {-1}


def test_sequences_of_several_sets_keep_to_their_stretches(together):
    examples = Sequences(frame_samples=10, frames=3, train=300, group="all")
    for split in SPLITS:
        draw = examples.draw(together, split)
        index = np.arange(draw.count)
        rows, offset = draw.places(seed=2, epoch=0, index=index)
        waveform = draw.batch(seed=2, epoch=0, index=index).waveform.numpy()
        first = waveform.reshape(draw.count, -1)[:, 0] / examples.facts(together).gain * 32768
        table = draw.table
        base = {0: 0, 1: 5000, 2: 15000}
        number = {"train": 0, "val": 1, "test": 2}[split]
        for row, place, value in zip(rows, offset, first, strict=True):
            corpus = int(table.corpus[row])
            start = int(table.start[row]) if corpus == 0 else base[corpus] + 1000 * number
            assert (round(float(value)) - start - int(place)) in ((0,) if corpus == 0 else (0, 500))
        assert set(table.corpus[rows].tolist()) == {0, 1, 2}


def test_the_hash_is_that_of_all_sets_and_their_names(parts):
    made = {}
    for names in (["long", "one"], ["long", "two"], ["one", "long"], ["one", "two"]):
        made[tuple(names)] = Combination(names, [parts[name] for name in names], None).hash
    assert len(set(made.values())) == 4
    renamed = Combination(["x", "one"], [parts["long"], parts["one"]], None)
    assert renamed.hash not in made.values()


def test_settings_of_the_whole_reach_every_set_and_each_set_is_part_of_the_key(tmp_path):
    one = {"folder": {"path": str(tmp_path)}}
    for keep in (False, True):
        made = Combined(["synthetic", one], keep=keep, sample_rate=4000, cache_limit_mb=3.0)
        for corpus in made.corpora():
            assert (corpus.sample_rate, corpus.cache_limit_mb) == (4000, 3.0)
            assert corpus.keep == keep
    own = Combined([{"synthetic": {"sample_rate": 2000}}, one], sample_rate=4000).corpora()
    assert [corpus.sample_rate for corpus in own] == [2000, 4000]  # what a set says goes first
    keys = {
        Combined(sets).key()
        for sets in (
            *(["synthetic", one], ["full_scale", one], ["synthetic", "full_scale"]),
            *([{"synthetic": {"seed": 1}}, one], ["synthetic", {"full_scale": {"clipped": 0.1}}]),
        )
    }
    assert len(keys) == 5
