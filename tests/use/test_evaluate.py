"""A trained run on other data: the same numbers on its own, nothing measured anew on others."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lightning_sep import experiment
from lightning_sep.cli.entry import main
from lightning_sep.data.draws import uniform
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.evaluate import evaluate
from lightning_sep.homes import data_home as prepared_home
from lightning_sep.parts import open_data
from lightning_sep.record import read_record
from lightning_sep.settings import build, compose
from lightning_sep.use import load_run

SMALL = {
    "separation": [
        "examples.train=8",
        "examples.val=4",
        "examples.test=6",
        "examples.batch_size=4",
    ],
    "autoregression": [
        *("examples.train=8", "examples.val=4", "examples.test=5", "examples.batch_size=4"),
        *("examples.frames=8", "task.frame_samples=64"),
    ],
    "verification": ["examples.train=2", "examples.val=4", "examples.speakers=4"],
}


@pytest.fixture(scope="module")
def home(data_home: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_SEP_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def runs(home):
    """A run of each task, by the task's name."""
    common = ["tracking=none", "trainer.epochs=1", "trainer.progress=false"]
    return {
        task: experiment.run(compose([f"task={task}", *own, *common]), home=home).run_id
        for task, own in SMALL.items()
    }


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two voices with three files each, at 16 kHz, and nothing to train on."""
    folder = tmp_path_factory.mktemp("sounds")
    lines = ["filename,class,speaker"]
    for number in range(6):
        index = np.arange(16000)
        noise = uniform(seed=number, epoch=0, index=index, purpose="sounds")[:, 0] - 0.5
        soundfile.write(folder / f"{number}.wav", 0.5 * noise, 16000)
        lines.append(f"{number}.wav,kind{number % 2},voice{number % 2}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("task", SMALL)
def test_on_its_own_data_a_run_scores_what_its_record_says(home, runs, task):
    record = read_record(home / runs[task])
    result, path = evaluate(runs[task], ["data=synthetic"], home=home)
    expected = {name: v for name, v in record["metrics"].items() if name.startswith("test/")}
    assert result["metrics"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert set(result["metrics"]) == set(expected)
    assert result["data"] == record["data"]
    assert result["hashes"]["weights"] == record["hashes"]["weights"]
    assert result["coverage"] == record["coverage"]["test"]
    assert json.loads(path.read_text()) == result
    assert path.parent == home / runs[task] / "evaluations"


def test_the_validation_part_can_be_asked_for(home, runs):
    record = read_record(home / runs["separation"])
    result, _ = evaluate(runs["separation"], ["data=synthetic"], home=home, split="val")
    name = "val/si_sdr_improvement_db"
    assert result["metrics"][name] == pytest.approx(record["metrics"][name], rel=1e-6)
    with pytest.raises(ConfigError, match=r"no split 'train' to evaluate on: known are val, test"):
        evaluate(runs["separation"], ["data=synthetic"], home=home, split="train")


@pytest.mark.parametrize("task", SMALL)
def test_a_set_for_testing_only_is_scored_at_the_runs_rate(home, runs, task, sounds):
    told = ["data=folder", f"data.path={sounds}", "data.test_only=true"]
    result, _ = evaluate(runs[task], told, home=home)
    assert result["settings"]["data"]["sample_rate"] == 8000
    assert result["coverage"]["files"] >= 5 / 6
    assert all(np.isfinite(v) for v in result["metrics"].values() if v is not None)
    others = [*told, "data.sample_rate=16000"]
    with pytest.raises(ConfigError, match="the run was trained at 8000 Hz"):
        evaluate(runs[task], others, home=home)


def test_the_gain_is_that_of_the_training(home, runs, sounds):
    told = ["data=folder", f"data.path={sounds}", "data.test_only=true"]
    task = load_run(runs["autoregression"], home)
    result, _ = evaluate(runs["autoregression"], [*told, "examples.test=1"], home=home)
    prepared = build(result["settings"]["data"]).open(prepared_home())
    samples = prepared.reader.whole(0, 0, 512) / 32768 * task.facts.gain
    frames = samples.reshape(8, 64)
    examples = build(result["settings"]["examples"]).as_trained(task.facts)
    batch = next(iter(examples.loader(prepared, "test", seed=0)))
    np.testing.assert_allclose(batch.waveform[0, 0].numpy().reshape(8, 64), frames, rtol=1e-6)


def test_examples_can_be_others_in_number(home, runs):
    result, _ = evaluate(runs["separation"], ["data=synthetic", "examples.test=3"], home=home)
    assert result["examples"] == 3
    assert result["settings"]["examples"]["test"] == 3


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([], r"evaluate on what\? Name the data"),
        (["data=synthetic", "head=tanh"], "head=tanh: only the data and their examples"),
        (["data=synthetic", "examples.tset=3"], "examples.tset: no such setting; known are batch"),
        (["data=synthetic", "examples.test=[1"], "cannot be read as a value"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(home, runs, told, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(runs["separation"], told, home=home)


def test_a_set_for_testing_only_is_not_trained_on(home, sounds):
    told = ["data=folder", f"data.path={sounds}", "data.test_only=true"]
    with pytest.raises(DataError, match="was prepared for testing only"):
        open_data(compose(told))


def test_the_command_prints_the_metrics_or_the_result(home, runs, capsys):
    told = ["evaluate", runs["verification"], "data=synthetic"]
    assert main([*told, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(told) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"run {runs['verification']} on synthetic ")
    rate = result["metrics"]["test/equal_error_rate"]
    assert f"    {'test/equal_error_rate':<36} {rate:.6g}" in lines
    assert lines[-1].startswith("    the test part of synthetic has 4 speakers: its error rates")
    assert main(["evaluate", runs["verification"]]) == 2
