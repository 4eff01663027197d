"""What a prepared folder says about its files: every column, level, length and stretch."""

import csv

import numpy as np
import pytest
import soundfile

from lightning_sep.data.folder import Folder
from lightning_sep.data.splits import SPLITS

ROWS = [  # name, class, speaker, split, group, source, session, text; and the samples' peak
    ("a.wav", "yes", "ann", "train", "", "book 1", "day 1", "well, yes", -9000),
    ("b.wav", "no", "ann", "train", "", "book 1", "", "no", 5000),
    ("c.wav", "rain", "", "train", "noise", "", "", "", -2000),
    ("d.wav", "yes", "ben", "val", "", "", "day 1", "", 20000),
    ("e.wav", "hush", "", "val", "", "", "", "", 3),
    ("f.wav", "rain", "", "test", "noise", "field", "", "", 100),
    ("g.wav", "hush", "", "test", "", "", "", "", 3),
]
NAMES = ("filename", "class", "speaker", "split", "group", "source", "session", "text")


def samples_of(number: int) -> np.ndarray:
    """Ramps whose largest sample is the peak of the row, on one side of 0 alone."""
    peak = ROWS[number][-1]
    if abs(peak) == 3:
        return np.full(700, 3, dtype=np.int16)  # one step below -80 dBFS
    return np.linspace(0, peak, 800 + number).astype(np.int16)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "set"
    folder.mkdir()
    for number, row in enumerate(ROWS):
        soundfile.write(folder / row[0], samples_of(number), 8000)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(row[:-1] for row in ROWS)
    return Folder(str(folder)).open(folder.parent / "home")


def test_every_column_of_the_table_is_in_the_cuts(told):
    found = {}
    for split in SPLITS:
        for cut in told.cuts(split):
            (one,) = cut.supervisions
            found[cut.recording.id] = (
                *(one.custom["class_name"], one.speaker or "", split, one.custom["group"]),
                *(one.custom.get("session", ""), one.text or "", one.custom["silent"]),
            )
            assert (one.start, one.duration) == (0, cut.duration)
    expected = {}
    for name, kind, who, split, group, _, session, text, peak in ROWS:
        group = group or ("speech" if who else "sound")
        expected[name] = (kind, who, split, group, session, text, peak == 3)
    assert found == expected


def test_every_column_of_the_table_is_in_what_examples_are_drawn_from(told):
    seen, sessions = set(), {}
    for split in SPLITS:
        table = told.table(split)
        for place in range(len(table)):
            number = int(table.recording[place])
            name, kind, who, its, group, _, session, _, _ = ROWS[number]
            seen.add(name)
            assert its == split
            assert told.class_names[table.label[place]] == kind
            own = told.speaker_names[table.speaker[place]] if table.speaker[place] >= 0 else ""
            assert own == who
            assert told.group_names[table.group[place]] == group or not group
            sessions.setdefault(session, set()).add(int(table.session[place]))
            assert (table.start[place], table.samples[place]) == (0, len(samples_of(number)))
    assert seen == {row[0] for row in ROWS}
    assert sessions[""] == {-1}
    assert len(sessions["day 1"]) == 1
    assert sessions["day 1"] != {-1}
    assert told.group_names == ["noise", "sound", "speech"]
    assert told.speaker_names == ["ann", "ben"]


@pytest.mark.parametrize(("group", "files"), [("", [0, 1, 2]), ("speech", [0, 1]), ("noise", [2])])
def test_statistics_are_of_the_train_part_of_a_group_whatever_the_sign(told, group, files):
    heard = np.concatenate([samples_of(number) for number in files]).astype(np.float64) / 32768
    found = told.statistics_of(group)
    assert found["samples"] == len(heard)
    assert found["peak"] == np.abs(heard).max()
    assert found["mean"] == pytest.approx(heard.mean(), rel=1e-12)
    assert found["rms"] == pytest.approx(np.sqrt(np.square(heard).mean()), rel=1e-12)
    assert found["std"] == pytest.approx(heard.std(), rel=1e-9)
    assert (heard.mean() < 0) == (found["mean"] < 0)


def test_what_nobody_hears_is_counted_as_silent_and_is_no_copy(told):
    assert told.source["counts"]["silent"] == 2  # alike, in two splits, and not refused


def test_the_length_of_a_part_is_told_in_hours(told):
    for split in SPLITS:
        count = sum(len(samples_of(n)) for n, row in enumerate(ROWS) if row[3] == split)
        assert told.hours(split) == pytest.approx(count / 8000 / 3600, rel=1e-12)


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ([8000, 16000, 16000, 11025], 16000),
        ([8000, 8000, 16000, 11025], 8000),
        ([16000, 16000, 8000, 8000], 8000),
        ([48000, 44100, 22050, 32000], 22050),
    ],
)
def test_the_rate_is_that_of_most_files_and_in_a_tie_the_lowest(tmp_path, rates, chosen):
    folder = tmp_path / "rates"
    folder.mkdir()
    for number, rate in enumerate(rates):
        noise = np.random.default_rng(number).integers(-900, 900, rate // 20)
        soundfile.write(folder / f"{number}.wav", noise.astype(np.int16), rate)
    assert Folder(str(folder)).open(tmp_path / "home").sample_rate == chosen


def test_stretches_of_one_recording_are_cuts_of_it(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    samples = np.arange(2000).astype(np.int16)
    soundfile.write(folder / "a.wav", samples, 8000)
    prepared = Folder(str(folder)).open(tmp_path / "home")
    for split, low, high in (("train", 0, 1600), ("val", 1600, 1800), ("test", 1800, 2000)):
        (cut,) = prepared.cuts(split)
        assert np.array_equal(np.rint(cut.load_audio()[0] * 32768), samples[low:high])
        assert (cut.supervisions[0].start, cut.supervisions[0].duration) == (0, cut.duration)
        found = prepared.table(split)
        assert (found.start.tolist(), found.samples.tolist()) == ([low], [high - low])
    assert prepared.statistics["peak"] == 1599 / 32768
