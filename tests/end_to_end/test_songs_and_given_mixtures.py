"""Songs with stems and recorded mixtures through the commands: prepare, train, evaluate."""

import json

import pytest
import soundfile
import torch

from lightning_sep.cli import main
from lightning_sep.data.given import Given
from lightning_sep.functional.si_sdr import si_sdr
from lightning_sep.homes import data_home as prepared_home
from lightning_sep.record import read_records
from lightning_sep.settings import build
from lightning_sep.use import load_run
from tests.trees import COUNTS, name

FEW = ["tracking=none", "trainer.epochs=1", "trainer.progress=false", "examples.batch_size=4"]


def values_of(home, record):
    return json.loads((home / record["run_id"] / record["examples_file"]).read_text())


def test_songs_are_prepared_trained_on_and_tested_whole(songs, home, capsys):
    assert main(["data", "prepare", "songs", "--source", str(songs)]) == 0
    assert "2 test" in capsys.readouterr().out
    told = ["data=songs", f"data.path={songs}", "examples=stems", "examples.segment_s=0.5"]
    assert (
        main(["train", *told, "task.sources=4", "task.order=fixed", *FEW, "examples.train=8"]) == 0
    )
    [record] = read_records(home)
    assert record["state"] == "finished"
    assert record["facts"]["channels"] == 2
    values = values_of(home, record)
    assert values["test/mixture"] == ["test/Fig"] * 3 + ["test/Grape"] * 3
    assert values["test/start_s"] == [0.0, 0.5, 1.0] * 2
    assert values["test/classes"] == [["bass", "drums", "other", "vocals"]] * 6
    assert values["test/index"] == list(range(6))
    assert record["coverage"]["test"] == {"files": 1.0, "seconds": 1.0}


def test_sources_can_be_sums_of_stems(songs, home, capsys):
    told = ["data=songs", f"data.path={songs}", "examples=stems", "examples.segment_s=0.5"]
    sums = "examples.sources={vocals: [vocals], accompaniment: [drums, bass, other]}"
    assert main(["train", *told, sums, "examples.train=8", *FEW]) == 0
    [record] = read_records(home)
    assert values_of(home, record)["test/classes"] == [["vocals", "accompaniment"]] * 6
    assert main(["train", *told, "examples.train=8", *FEW]) == 2
    assert "set task.sources=4" in capsys.readouterr().err


@pytest.fixture
def given_run(mixtures, home):
    told = ["data=given_mixtures", f"data.path={mixtures}", "examples=given"]
    assert main(["train", *told, "examples.segment_s=0.5", *FEW]) == 0
    [record] = read_records(home)
    return record


def names_of(split):
    return sorted(f"{split}/{name(split, number)}" for number in range(COUNTS[split]))


@pytest.mark.parametrize("split", ["test", "val"])
def test_all_given_mixtures_are_evaluated_whole_and_in_order(given_run, mixtures, home, split):
    record = given_run
    told = ["data=given_mixtures", f"data.path={mixtures}", "--split", split, "--json"]
    assert main(["evaluate", record["run_id"], *told]) == 0
    [path] = sorted((home / record["run_id"] / "evaluations").glob(f"*-{split}-????????????.json"))
    result = json.loads(path.read_text())
    values = json.loads((path.parent / result["examples_file"]).read_text())
    expected = names_of("tt" if split == "test" else "cv")
    assert values[f"{split}/mixture"] == expected
    assert values[f"{split}/mixture_number"] == list(range(len(expected)))
    if split == "test":
        trained = values_of(home, record)
        assert trained["test/mixture"] == expected
        gains = values["test/si_sdr_improvement_db"]
        assert gains == pytest.approx(trained["test/si_sdr_improvement_db"], abs=1e-9)
        # each by itself, computed from its files
        task = load_run(record["run_id"], home)
        for title, gain in zip(expected, gains, strict=True):
            folder, _, file = title.partition("/")
            mixture, *sources = (
                torch.from_numpy(soundfile.read(mixtures / folder / part / f"{file}.wav")[0])
                for part in ("mix", "s1", "s2")
            )
            with torch.no_grad():
                estimate = task.separate(mixture[None, None].float())[0, :, 0].double()
            target = torch.stack(sources)
            before = si_sdr(estimate=mixture.expand_as(target), target=target)
            both = [
                (si_sdr(estimate=estimate[order], target=target) - before).mean().item()
                for order in ([0, 1], [1, 0])
            ]
            assert gain == pytest.approx(max(both), abs=1e-4)


def test_a_run_of_drawn_mixtures_is_tested_on_given_ones(mixtures, home, capsys):
    """Dynamic mixing in training, the published mixtures in the test."""
    told = ["data=given_mixtures", f"data.path={mixtures}"]
    few = ["examples.train=8", "examples.val=4", "examples.test=4", "examples.segment_s=0.5"]
    assert main(["train", *told, *few, *FEW]) == 0
    [record] = read_records(home)
    capsys.readouterr()
    assert main(["evaluate", record["run_id"], *told, "examples=given", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["examples"] == 4
    assert result["settings"]["examples"]["sources"] == 2
    path = home / record["run_id"] / "evaluations" / result["examples_file"]
    assert json.loads(path.read_text())["test/mixture"] == names_of("tt")
    assert main(["evaluate", record["run_id"], *told, "examples=snippets"]) == 2
    assert "Snippets are no examples for" in capsys.readouterr().err
    assert main(["evaluate", record["run_id"], *told, "examples=givn"]) == 2
    assert "givn" in capsys.readouterr().err


def test_what_was_prepared_by_the_command_is_opened_by_a_run(mixtures, home, data_home):
    assert main(["data", "prepare", "given_mixtures", "--source", str(mixtures)]) == 0
    entry = {"_target_": "lightning_sep.data.given_mixtures.GivenMixtures", "path": str(mixtures)}
    corpus = build(entry)
    assert corpus.prepared_folder(prepared_home()) is not None
    assert len(list(Given().loader(corpus.open(prepared_home()), "test", seed=0))) == 4
