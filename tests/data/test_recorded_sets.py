"""The recorded sets themselves, where a developer has them."""

import csv
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightning_sep.data.arabic_commands import ArabicCommands
from lightning_sep.data.esc10 import Esc10
from lightning_sep.data.librispeech import Librispeech
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets
from lightning_sep.data.splits import SPLITS
from lightning_sep.data.violin import Violin
from lightning_sep.errors import DataError

SHARED = Path(__file__).parents[3] / "shared/data"
FOLDERS = {
    Esc10: "env_esc10_8k",
    ArabicCommands: "speech_arabic_commands_16k",
    Violin: "music_violin_bach_16k",
    Librispeech: "speech_librispeech_16k",
}
BY_NAME = {corpus.name: folder for corpus, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda corpus: corpus.name)
def prepared(request, home):
    source = SHARED / FOLDERS[request.param]
    if not source.is_dir():
        pytest.skip(f"{source} is not on this machine")
    return request.param().prepare_from(source, home)


def test_every_file_of_the_table_is_in(prepared):
    lines = (SHARED / BY_NAME[prepared.name] / "metadata.csv").read_text().splitlines()
    assert prepared.source["counts"]["files"] == len(lines) - 1


def test_splits_share_no_speaker_and_no_stretch(prepared):
    speakers = [set(prepared.table(split).speaker.tolist()) - {-1} for split in SPLITS]
    assert sum(map(len, speakers)) == len(prepared.speaker_names)
    pieces = sorted(
        (cut.recording.id, cut.start, cut.end) for split in SPLITS for cut in prepared.cuts(split)
    )
    for (name, _, end), (other, start, _) in itertools.pairwise(pieces):
        assert name != other or start >= end


RULES = {
    "esc10": "fold",
    "arabic_commands": "by speaker: those published for training train, the others are halved",
    "violin": "in time",
    "librispeech": "by speaker: those of the train parts train, those of the others validate",
}


def test_the_rule_that_is_written_down_is_the_one_that_was_used(prepared):
    assert prepared.source["split_rule"].startswith(RULES[prepared.name])
    if prepared.name not in ("arabic_commands", "librispeech"):
        return
    with (SHARED / BY_NAME[prepared.name] / "metadata.csv").open() as file:
        column = "split" if prepared.name == "arabic_commands" else "part"
        trains = {row["filename"]: row[column].startswith("train") for row in csv.DictReader(file)}
    for split in SPLITS:
        marks = {trains[cut.recording.id] for cut in prepared.cuts(split)}
        assert marks == {split == "train"}


def test_what_lhotse_reads_is_in_the_cache(prepared):
    cuts = prepared.cuts("test")
    table = prepared.table("test")
    for row in range(0, len(table), max(len(table) // 5, 1)):
        samples = prepared.reader.whole(
            int(table.recording[row]), int(table.start[row]), int(table.samples[row])
        )
        assert np.array_equal(np.rint(cuts[row].load_audio() * 32768), samples)


def test_examples_can_be_drawn_from_every_split(prepared):
    kinds = {
        "esc10": Mixtures(),
        "arabic_commands": Snippets(),
        "violin": Sequences(),
        "librispeech": Snippets(),
    }
    for split in SPLITS:
        batch = next(iter(kinds[prepared.name].loader(prepared, split, seed=0)))
        assert batch.waveform.isfinite().all()
        assert batch.active.float().mean() > 0.5


def test_verification_passes(prepared):
    prepared.verify()


def test_a_copy_with_a_cut_off_file_is_refused(tmp_path):
    source = SHARED / FOLDERS[Violin]
    if not source.is_dir():
        pytest.skip(f"{source} is not on this machine")
    copy = shutil.copytree(source, tmp_path / "copy")
    victim = sorted((copy / "audio").glob("*.flac"))[0]
    victim.write_bytes(victim.read_bytes()[:100_000])
    with pytest.raises(DataError, match=victim.name):
        Violin().prepare_from(copy, tmp_path / "home")
