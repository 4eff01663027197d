"""What seldom happens to a set: papers of another one, damage, nothing to draw from."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from lightning_sep.data import commands
from lightning_sep.data.adapter import prepared_folders, read_source, read_table
from lightning_sep.data.aligned import drawn_or_named
from lightning_sep.data.audio_files import AudioFile, BadAudio
from lightning_sep.data.cache import CacheFile, MappedReader, StreamReader
from lightning_sep.data.combined import Combination, Combined
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.esc10 import Esc10
from lightning_sep.data.folder import Folder
from lightning_sep.data.given import Given
from lightning_sep.data.given_mixtures import GivenMixtures
from lightning_sep.data.manifests import Origin, build, sweep_builds
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.ones import Ones
from lightning_sep.data.parts import Parts
from lightning_sep.data.passes import Groups, Pass
from lightning_sep.data.sequences import Sequences, _sets
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.songs import Songs
from lightning_sep.data.stems import Stems
from lightning_sep.errors import ConfigError, DataError
from tests.trees import STEMS


@pytest.fixture
def prepared(tmp_path, tone):
    """Six sounds of 0.1 s, as 16-bit files that are used as they lie."""
    (tmp_path / "sounds").mkdir()
    for number in range(6):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", tone(number, 0.1), 8000)
    return Folder(str(tmp_path / "sounds")).open(tmp_path / "home")


# --- papers

ROWS = [{"filename": f"{n}.wav", "fold": n, "src_file": n, "category": "dog"} for n in (1, 2, 3)]


def without_audio(source: Path) -> None:
    (source / "audio").rename(source / "sounds")


def with_half_a_line(source: Path) -> None:
    with (source / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}\n")


def without_a_line(source: Path) -> None:
    lines = (source / "SHA256SUMS").read_text().splitlines()
    (source / "SHA256SUMS").write_text("\n".join(one for one in lines if "2.wav" not in one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_audio, r"has no folder audio/: fetch the set again"),
        (with_half_a_line, r"SHA256SUMS, line 5: no checksum and file name"),
        (without_a_line, r"no line for 1 files of metadata\.csv \(first: 2\.wav\)"),
    ],
)
def test_papers_that_do_not_fit_are_told(published, change, message):
    source = published(ROWS)
    rows, checksums = read_source(source, ("fold",))
    assert [row["fold"] for row in rows] == ["1", "2", "3"]
    assert {"1.wav", "2.wav", "3.wav", "metadata.csv"} == set(checksums)
    change(source)
    with pytest.raises(DataError, match=message):
        read_source(source, ("fold",))


def test_a_table_of_no_file_is_refused(tmp_path):
    (tmp_path / "metadata.csv").write_text("filename,fold\n")
    with pytest.raises(DataError, match=r"metadata\.csv lists no file"):
        read_table(tmp_path / "metadata.csv", ("fold",))


def test_a_set_of_other_classes_is_another_one(published, tmp_path):
    source = published([row | {"category": "plates"} for row in ROWS])
    known = r"chainsaw, clock_tick, crackling_fire, crying_baby and 6 more classes"
    with pytest.raises(DataError, match=rf"is not esc10, which has {known}: it has plates\."):
        Esc10().prepare_from(source, tmp_path / "home")


def test_what_cannot_be_read_of_other_sets_is_passed_over(published, tmp_path):
    home, source = tmp_path / "home", published(ROWS)
    folder = Esc10().prepare_from(source, home).folder
    for name, content in (("a", "{"), ("b", '{"name": "esc10"}'), ("c", "[]")):
        (home / "prepared" / f"{name}.json").write_text(content)
    assert prepared_folders(home, "esc10") == [folder]
    (folder / "source.json").write_text("{}")
    again = Esc10().prepare_from(source, home)
    assert again.folder == folder
    assert set(again.source["files"]) == {"1.wav", "2.wav", "3.wav"}


# --- files


def test_a_file_that_is_too_short_for_another_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(3, 0.5), 96_000)
    with pytest.raises(BadAudio, match="is too short to resample to 1000 Hz: remove it"):
        list(AudioFile(tmp_path / "a.wav", sample_rate=1000).blocks())


def test_a_stem_that_is_twice_in_a_mixture_is_told():
    numbers = {name: np.zeros(3, np.int64) for name in Table.columns()}
    numbers |= {"samples": np.full(3, 10), "stem": np.array([0, 1, 1])}
    about = SimpleNamespace(name="x", stem_names=["a", "b"], mixture_names=["song"])
    with pytest.raises(DataError, match=r"mixtures whose stems \(a, b\) are .* such as song"):
        Parts.of(about, Table(**numbers), ["a", "b"], "train")
    one = Parts.of(about, Table(**numbers).where(np.array([1, 1, 0]) > 0), ["b", "a"], "train")
    assert one.rows.tolist() == [[1, 0]]


def test_sets_without_any_recording_have_no_share_of_the_starts():
    numbers = {name: np.zeros(3, np.int64) for name in Table.columns()}
    numbers["corpus"] = np.array([0, 2, 2])
    edges, stretches = _sets(Table(**numbers), np.array([4, 6, 9]), [0.5, 0.3, 0.25])
    assert edges == pytest.approx([0, 2 / 3, 1])
    assert stretches.tolist() == [0, 4, 9]


def test_a_build_of_nothing_is_refused_and_only_its_own_leftovers_are_swept(tmp_path):
    with pytest.raises(DataError, match="mine lists no audio file"):
        build([], Origin("x", "mine", "", ""), home=tmp_path, sample_rate=None)
    for name in (".building-notes", ".building-x-12-ab", ".building-x-made-ab", ".building-y-1-c"):
        (tmp_path / name).mkdir()
    sweep_builds(tmp_path, "x")
    assert [path.name for path in tmp_path.glob(".building-*")] == [".building-notes"]


def test_a_recording_too_short_for_all_stretches_leaves_a_part_empty(tmp_path):
    (tmp_path / "one").mkdir()
    soundfile.write(tmp_path / "one" / "a.wav", np.full(4, 0.5), 8000)  # 3 to train, 1, and 0
    with pytest.raises(DataError, match=r"nothing is left for test \(in time"):
        Folder(str(tmp_path / "one")).open(tmp_path / "home")


def test_no_folder_is_named_by_an_empty_path():
    for path in ("", 3):
        with pytest.raises(ConfigError, match=f"^path = {path!r}: the path of a folder is needed"):
            Folder(path)


# --- decoded samples


def test_a_reader_is_sent_to_workers_without_what_it_has_mapped(prepared):
    reader = prepared.reader
    samples = reader.whole(2, 10, 50)
    sent = pickle.dumps(reader)
    assert len(sent) < 2000  # the samples are 9600 bytes
    assert np.array_equal(pickle.loads(sent).whole(2, 10, 50), samples)


def test_samples_that_are_not_there_are_told(prepared, tmp_path):
    with pytest.raises(DataError, match="holds no samples: prepare the set again"):
        MappedReader(tmp_path / "none", np.zeros(1, np.int64)).whole(0, 0, 1)
    path = tmp_path / "sounds" / "3.wav"
    with pytest.raises(DataError, match=r"3\.wav: 100 samples, not 300"):
        StreamReader([path]).whole(0, 700, 300)
    cache = CacheFile(tmp_path, "key")
    [told] = cache.problems()
    assert told.startswith(f"{cache.samples_path}: cannot be checked (")


def test_lengths_that_the_files_do_not_have_are_told(prepared):
    path = prepared.folder / "items.json"
    columns = json.loads(path.read_text())
    columns["recordings"][4]["samples"] += 1
    path.write_text(json.dumps(columns))
    with pytest.raises(DataError, match=r"does not fit its manifests: delete .*home/folder-"):
        _ = Prepared(prepared.folder).reader


def test_a_file_with_other_samples_of_the_same_length_is_told(prepared, tmp_path, tone):
    prepared.cache.facts_path.unlink()
    soundfile.write(tmp_path / "sounds" / "2.wav", tone(9, 0.1), 8000)
    with pytest.raises(DataError, match=r"2\.wav has changed since folder was prepared"):
        _ = Prepared(prepared.folder).reader


def test_verifying_tells_how_far_it_is(prepared):
    told = []
    prepared.verify(lambda done, total, text: told.append((done, total, Path(text).name)))
    names = [*prepared.source["manifests"], *(f"{number}.wav" for number in range(6))]
    assert told == [(number, len(names), name) for number, name in enumerate(names)]


# --- several sets


def test_sets_are_put_together_and_not_prepared(prepared, tmp_path):
    made = Combined(["synthetic", {"folder": {"path": str(tmp_path / "sounds")}}])
    with pytest.raises(DataError, match="are prepared one by one"):
        made.make(tmp_path, None)
    with pytest.raises(ConfigError, match="takes no --source: prepare its sets one by one"):
        made.prepare_from(tmp_path, tmp_path / "home")
    assert made.prepared_folder(tmp_path) is None
    streamed = Prepared(prepared.folder, cache_limit_mb=0)
    both = Combination(["a", "b", "c"], [streamed, prepared, streamed], None)
    first, second = both.remark().split("; ")
    for one in (first, second):
        assert one.startswith("folder is read from its files, about ")


def test_an_entry_that_is_no_set_is_refused(tmp_path, monkeypatch):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    mine = tmp_path / "conf" / "data" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    mine.write_text("_target_: [lightning_sep")
    with pytest.raises(ConfigError, match=r"mine\.yaml cannot be read: .*line 1"):
        commands.entry("mine")
    mine.write_text("_target_: lightning_sep.heads.tanh.Tanh\n")
    with pytest.raises(ConfigError, match=r"lightning_sep\.heads\.tanh\.Tanh is no Corpus"):
        commands.corpus("mine")


# --- examples


def test_what_has_nothing_to_say_says_nothing(prepared, songs, mixtures, tmp_path):
    index = np.arange(2)
    assert Mixtures().remarks(prepared) == []
    examples = Mixtures(segment_s=0.05)
    assert examples.as_trained(examples.facts(prepared)) is examples
    assert Mixtures(segment_s=0.05).draw(prepared, "test").described(index) == {}
    given = GivenMixtures(str(mixtures)).open(tmp_path / "home")
    assert Given(segment_s=0.1).draw(given, "train").described(index) == {}
    stems = Songs(str(songs)).open(tmp_path / "home")
    assert Stems(segment_s=0.1).draw(stems, "train").described(index) == {}
    table = stems.table("train")
    nothing = table.where(np.zeros(len(table), dtype=bool))
    with pytest.raises(DataError, match="the val part of songs has no mixtures with bass, drums"):
        Parts.of(stems, nothing, STEMS, "val")
    rows, offsets = Ones().draw(prepared, "train").places(seed=0, epoch=0, index=np.arange(5))
    assert rows.shape == offsets.shape == (5, 0)


def test_a_trained_net_keeps_the_gain_of_its_own_set(prepared, tmp_path):
    own = Sequences(frame_samples=4, frames=2)
    facts = replace(own.facts(prepared), gain=0.125)
    trained = own.as_trained(facts)
    assert trained.gain(prepared) == trained.facts(prepared).gain == 0.125
    assert own.gain(prepared) == 1 / prepared.statistics["peak"] != 0.125
    one, other = (
        examples.draw(prepared, "test").batch(seed=0, epoch=0, index=np.arange(3)).waveform
        for examples in (own, trained)
    )
    np.testing.assert_allclose(other, one * 0.125 * prepared.statistics["peak"], rtol=1e-6)
    with pytest.raises(ConfigError, match="sequences need the facts of sequences, got MixtureFac"):
        own.as_trained(Mixtures().facts(prepared))


def test_a_train_part_of_nothing_but_silence_has_no_gain(tmp_path, tone):
    (tmp_path / "set").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "set" / split).mkdir()
        sound = tone(1, 0.1) if split == "val" else np.zeros(800)
        soundfile.write(tmp_path / "set" / split / "a.wav", sound, 8000)
    prepared = Folder(str(tmp_path / "set")).open(tmp_path / "home")
    with pytest.raises(DataError, match="the train part of folder is digital silence: nothing to"):
        Sequences(frame_samples=4, frames=2).draw(prepared, "train")


def test_settings_that_do_not_go_together_are_refused(prepared):
    with pytest.raises(ConfigError, match=r"^pairing = 'speech_noise': it needs examples\.sources"):
        Mixtures(pairing="speech_noise", sources=1)
    for examples in (Snippets(segment_s=1e-5), Mixtures(segment_s=1e-5)):
        with pytest.raises(ConfigError, match=r"segment_s = 1e-05: less than one sample at 8000 H"):
            examples.draw(prepared, "train")


def test_orders_are_sent_to_workers_without_what_they_keep_at_hand():
    one = Pass(5000)
    order = one.order(seed=1, epoch=2)
    sent = pickle.dumps(one)
    assert len(sent) < 500
    assert np.array_equal(pickle.loads(sent).order(seed=1, epoch=2), order)
    groups = Groups(np.full(500, 7), 4, 2)
    fresh = len(pickle.dumps(groups))
    plan = groups.plan(seed=1, epoch=2)
    assert len(pickle.dumps(groups)) == fresh
    again = pickle.loads(pickle.dumps(groups)).plan(seed=1, epoch=2)
    assert np.array_equal(again.speakers, plan.speakers)
    assert np.array_equal(again.turns, plan.turns)


def test_val_is_taken_from_train_only_where_nothing_else_is_called_so():
    drawn = dict(zip("abcd", ("val", "test", "train", "val"), strict=True))
    for given, made in (
        (("train", "train", "train", "test"), ("val", "train", "train", "test")),
        (("train", "val", "train", "test"), ("train", "val", "train", "test")),
        (("test", "test", "test", "test"), ("test", "test", "test", "test")),
    ):
        splits = dict(zip("abcd", given, strict=True))
        assert drawn_or_named(splits, drawn) == dict(zip("abcd", made, strict=True))
