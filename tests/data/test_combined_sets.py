"""Several sets in one run: who is drawn how often, and nothing of a set is lost or mixed up."""

import numpy as np
import pytest
import soundfile

from lightning_sep.data.combined import Combination, Combined
from lightning_sep.data.folder import Folder
from lightning_sep.data.given_mixtures import GivenMixtures
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.songs import Songs
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.settings import build, compose


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Speech of nine speakers, and twenty-four noises in four classes; each file sounds alone."""
    home = tmp_path_factory.mktemp("sets")
    made = {}
    for name, count, column in (("voices", 27, "speaker"), ("noises", 24, "class")):
        folder = home / name
        folder.mkdir()
        lines = [f"filename,{column},group,session,split"]
        for number in range(count):
            samples = np.full(400 if name == "voices" else 700, number + 1, dtype=np.int16)
            samples[::2] = 2000 if name == "voices" else 4000
            soundfile.write(folder / f"{number:02d}.wav", samples, 8000)
            kind = number // 3 if name == "voices" else number % 4
            split = SPLITS[(number // 3 if name == "voices" else number // 4) % 3]
            group = "speech" if name == "voices" else "noise"
            lines.append(f"{number:02d}.wav,{name[0]}{kind},{group},day {number},{split}")
        (folder / "metadata.csv").write_text("\n".join(lines))
        made[name] = Folder(str(folder)).open(home / "home")
    return made


@pytest.fixture(scope="module")
def both(parts):
    return Combination(list(parts), list(parts.values()), [0.25, 0.75])


def test_every_piece_keeps_its_samples_names_and_place(parts, both):
    for split in SPLITS:
        table = both.table(split)
        first = 0
        for number, (name, part) in enumerate(parts.items()):
            own = part.table(split)
            for row in range(len(own)):
                there = first + row
                assert table.corpus[there] == number
                assert both.class_names[table.label[there]] == part.class_names[own.label[row]]
                assert both.group_names[table.group[there]] == part.group_names[own.group[row]]
                speaker = ""
                if own.speaker[row] >= 0:
                    speaker = f"{name}:{part.speaker_names[own.speaker[row]]}"
                found = table.speaker[there]
                assert (both.speaker_names[found] if found >= 0 else "") == speaker
                samples = part.reader.whole(int(own.recording[row]), 3, 100)
                assert np.array_equal(
                    both.reader.whole(int(table.recording[there]), 3, 100), samples
                )
            first += len(own)
        assert len(table) == first
        sessions = table.session.tolist()
        assert len(set(sessions)) == len(sessions)


def test_many_segments_are_read_at_once_from_the_right_set(both):
    table = both.table("train")
    order = np.random.default_rng(0).permutation(len(table))
    zeros = np.zeros(len(table), dtype=np.int64)
    together = both.reader.read(
        table.recording[order], table.start[order], table.samples[order], zeros + 5, 50
    )
    for row, samples in zip(order, together, strict=True):
        assert np.array_equal(samples, both.reader.whole(int(table.recording[row]), 5, 50))


def test_sources_are_of_each_set_by_the_priors(both):
    draw = Mixtures(segment_s=0.04, train=20_000).draw(both, "train")
    items, _ = draw.places(seed=1, epoch=0, index=np.arange(20_000))
    of_noise = (draw.table.corpus[items] == 1).sum(axis=1)
    found = np.bincount(of_noise, minlength=3)
    expected = 20_000 * np.array([0.0625, 0.375, 0.5625])
    # chi square with 2 degrees: 99.99 % below 18.4
    assert ((found - expected) ** 2 / expected).sum() < 18.4
    for row in items[:500].tolist():
        names = {(int(draw.table.speaker[i]), int(draw.table.label[i])) for i in row}
        assert len(names) == 2
    classes = np.bincount(draw.table.label[items[of_noise == 2]].ravel())
    classes = classes[classes > 0]
    assert len(classes) == 4
    assert classes == pytest.approx(classes.sum() / 4, rel=0.05)


def test_sequences_are_of_each_set_by_the_priors(both):
    examples = Sequences(frame_samples=20, frames=10, group="all", train=20_000)
    draw = examples.draw(both, "train")
    items, offsets = draw.places(seed=1, epoch=0, index=np.arange(20_000))
    share = (draw.table.corpus[items] == 1).mean()
    assert share == pytest.approx(0.75, abs=0.012)  # standard deviation 0.003
    assert (offsets <= draw.table.samples[items] - 200).all()
    for one, starts in ((0, 201), (1, 501)):  # every start of a set is equally likely
        rows = draw.table.corpus[items] == one
        assert offsets[rows].min() == 0
        assert offsets[rows].max() == starts - 1
        assert offsets[rows].mean() == pytest.approx((starts - 1) / 2, rel=0.05)
        files = np.flatnonzero(draw.table.corpus == one)  # of one length each, so equally often
        counts = np.bincount(items[rows], minlength=len(draw.table))[files]
        expected = rows.sum() / len(files)
        # chi square with up to 8 degrees: 99.99 % below 31.9
        assert ((counts - expected) ** 2 / expected).sum() < 31.9


def test_speakers_are_drawn_evenly_and_priors_refused(parts, both):
    with pytest.raises(ConfigError, match=r"speakers are drawn equally often"):
        Snippets().draw(both, "train")
    even = Combination(list(parts), list(parts.values()), None)
    draw = Snippets(speakers=3, snippets=2, segment_s=0.02).draw(even, "train")
    assert {even.speaker_names[s][:7] for s in draw.table.speaker} == {"voices:"}


def test_statistics_are_those_of_all_samples(parts, both):
    table = both.table("train")
    samples = [
        both.reader.whole(int(recording), 0, int(count))[0]
        for recording, count in zip(table.recording, table.samples, strict=True)
    ]
    everything = np.concatenate(samples).astype(np.float64) / 32768
    found = both.statistics
    assert found["peak"] == np.abs(everything).max()
    assert found["mean"] == pytest.approx(everything.mean())
    assert found["std"] == pytest.approx(everything.std())
    assert found["rms"] == pytest.approx(np.sqrt((everything**2).mean()))
    assert both.statistics_of("noise") == pytest.approx(parts["noises"].statistics_of("noise"))


def test_the_entry_opens_its_sets_at_one_rate(data_home, tmp_path):
    for number in range(4):
        noise = np.random.default_rng(number).normal(size=4000) / 10
        soundfile.write(tmp_path / f"{number}.wav", noise, 4000)
    told = [
        *("data=combined", "data.sample_rate=8000", "data.priors=[0.5,0.5]"),
        f"data.sets=[synthetic,{{folder: {{path: {tmp_path}}}}}]",
    ]
    combined = build(compose(told).tree["data"])
    prepared = combined.open(data_home)
    assert prepared.sample_rate == 8000
    assert prepared.hash == combined.open(data_home).hash
    assert len(prepared.table("train")) == sum(len(p.table("train")) for p in prepared.parts)
    assert prepared.priors == [0.5, 0.5]
    assert combined.key() != Combined(["synthetic", "esc10"]).key()
    prepared.verify()
    assert len(prepared.cuts("val")) == len(prepared.table("val"))
    assert prepared.summary()["counts"]["files"] == len(prepared.lengths)
    with (prepared.parts[1].folder / "statistics.json").open("a") as file:
        file.write(" ")
    with pytest.raises(DataError, match=r"statistics\.json: differs"):
        prepared.verify()


def test_sets_of_different_rates_are_refused(tmp_path, tone):
    parts = []
    for rate in (8000, 16000):
        (tmp_path / f"{rate}").mkdir()
        for number in range(3):
            soundfile.write(tmp_path / f"{rate}" / f"{number}.wav", tone(number, rate=rate), rate)
        parts.append(Folder(str(tmp_path / f"{rate}")).open(tmp_path / "home"))
    with pytest.raises(DataError, match=r"a is at 8000 Hz, b is at 16000 Hz: set data.sample_rate"):
        Combination(["a", "b"], parts, None)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"sets": "esc10"}, r"a list is needed"),
        ({"sets": ["esc10"]}, r"needs two sets or more"),
        ({"sets": ["esc10", "esc10"]}, r"each set once"),
        ({"sets": ["esc10", "combined"]}, r"none of them combined"),
        ({"sets": ["esc10", "esc11"]}, r"no data 'esc11' in conf/data. Did you mean 'esc10'"),
        ({"sets": [{"synthetic": {"sede": 1}}, "esc10"]}, r"synthetic has no setting sede"),
        ({"sets": [{"synthetic": {}, "esc10": {}}]}, r"a list is needed"),
        ({"sets": ["esc10", "piano"], "priors": [0.5]}, r"2 numbers above 0 that add up to 1"),
        ({"sets": ["esc10", "piano"], "priors": [0.5, 0.6]}, r"add up to 1"),
        ({"sets": ["esc10", "piano"], "priors": [1.0, 0.0]}, r"above 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, told, message):
    with pytest.raises(ConfigError, match=message):
        Combined(**told).open(tmp_path)


def test_stems_and_mixtures_of_unlike_sets_keep_their_names(songs, mixtures, tmp_path):
    parts = [
        Songs(str(songs), channels="mean").open(tmp_path / "home"),
        GivenMixtures(str(mixtures)).open(tmp_path / "home"),
    ]
    both = Combination(["songs", "talk"], parts, None)
    assert both.stem_names == ["bass", "drums", "mixture", "other", "s1", "s2", "vocals"]
    for split in SPLITS:
        table, row = both.everything(split), 0
        assert len(both.mixtures(split)) == len(parts[1].mixtures(split)) > 0
        for name, part in zip(("songs", "talk"), parts, strict=True):
            own = part.everything(split)
            for stem, mixture in zip(own.stem, own.mixture, strict=True):
                assert both.stem_names[table.stem[row]] == part.stem_names[stem]
                whole = f"{name}:{part.mixture_names[mixture]}"
                assert both.mixture_names[table.mixture[row]] == whole
                row += 1
        assert row == len(table)


def test_a_sound_in_two_parts_of_two_sets_is_refused_and_in_one_part_taken(tmp_path, tone):
    made = []
    for name, splits in (  # of each sound by its number; 0 is silence, which is heard nowhere
        ("one", {0: "train", 1: "val", 2: "test", 3: "train"}),
        ("two", {0: "test", 1: "test", 4: "val", 5: "train"}),
        ("three", {1: "val", 2: "test", 3: "train"}),
    ):
        (tmp_path / name).mkdir()
        for number in splits:
            sound = np.sign(number) * tone(number, 0.1)
            soundfile.write(tmp_path / name / f"{number}.wav", sound, 8000)
        rows = [f"{number}.wav,{split}" for number, split in splits.items()]
        (tmp_path / name / "metadata.csv").write_text("\n".join(["filename,split", *rows]))
        made.append(Folder(str(tmp_path / name)).open(tmp_path / "home"))
    one, two, three = made
    told = (
        "1 recordings of a and b are in two parts.*: '1.wav' in val of a and '1.wav' in test of b"
    )
    with pytest.raises(DataError, match=told):
        Combination(["a", "b"], [one, two], None)
    both = Combination(["a", "b"], [one, three], None)
    assert len(both.table("train")) == 3
    with pytest.raises(DataError, match="recordings of both and c are in two parts"):
        Combination(["both", "c"], [both, two], None)
    (tmp_path / "long").mkdir()
    soundfile.write(tmp_path / "long" / "a.wav", tone(9), 8000)
    long = Folder(str(tmp_path / "long")).open(tmp_path / "home")  # split in time, in both alike
    assert len(Combination(["a", "b"], [long, long], None).table("test")) == 2
