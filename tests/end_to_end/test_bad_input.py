"""Wrong input: one line that names it and what would work, exit code 2, nothing lost."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lightning_sep import cli
from lightning_sep.record import read_records

TINY = [
    "tracking=none",
    "trainer.epochs=1",
    "trainer.progress=false",
    "examples.train=8",
    "examples.val=4",
    "examples.test=4",
    "examples.batch_size=4",
]
RATE = 8000


@pytest.fixture(autouse=True)
def own_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors must not depend on where they are made; data of a test are its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys, home):
    """Runs a command that must be refused, and gives what it says."""

    def run(*arguments: str) -> str:
        before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        assert cli.main(list(arguments)) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert said.err.endswith("\n")
        after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        assert after == before
        return said.err

    return run


def one_line(said: str) -> str:
    # A slow machine says how far the data are that a run needs.
    said = re.sub(r"^\d+/\d+ \w+: .*\n", "", said, flags=re.MULTILINE)
    assert said.count("\n") == 1, said
    assert said.startswith("lightning-sep: error: ")
    return said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["head=tahn"], ["tahn", "Did you mean 'tanh'", "clip_at_eval"]),
        (["task=seperation"], ["seperation", "Did you mean 'separation'"]),
        (["hed=tanh"], ["hed", "Did you mean 'head'"]),
        (["trainer.epochs=many"], ["trainer.epochs", "'many'", "whole number"]),
        (["optimizer.learning_rate=fast"], ["optimizer.learning_rate", "'fast'", "number"]),
        (["trainer.epochs=0"], ["epochs", "0"]),
        (["trainer.epochs=2.5"], ["trainer.epochs", "2.5"]),
        (["seed=-1"], ["seed", "-1"]),
        (["seed=abc"], ["seed", "abc"]),
        (["task=verification", "loss.margin=0"], ["margin = 0", "above 0"]),
        (["task=verification", "loss.margin=-1"], ["margin = -1", "above 0"]),
        (["task=verification", "loss.marign=1"], ["loss.marign", "Did you mean 'margin'"]),
        (["examples.batchsize=4"], ["examples.batchsize", "Did you mean 'batch_size'"]),
        (["net=lstm_small"], ["net=lstm_small", "task=separation", "wave_unet"]),
        (
            ["task=verification", "net=wave_unet_small"],
            ["net=wave_unet_small", "task=verification", "blstm"],
        ),
        (["head=softmax"], ["head=softmax", "task=separation", "clip_at_eval"]),
        (["task=verification", "head=tanh"], ["head=tanh", "task=verification", "unit_sphere"]),
        (["task=verification", "loss=mse"], ["loss=mse", "task=verification", "kl_hinge"]),
        (["task=verification", "examples=mixtures"], ["examples"]),
        (["head._target_=os.system"], ["head._target_", "class"]),
        (["+head.new=1"], ["+head.new=1", "changed, not added"]),
        (["head=tanh,sine"], ["head=tanh,sine", "--grid"]),
        (["trainer.epochs"], ["trainer.epochs"]),
    ],
    ids=lambda value: " ".join(value) if all("=" in one for one in value) else "",
)
def test_a_wrong_setting_is_told_in_one_line(refused, overrides, words):
    said = one_line(refused("train", *overrides))
    for word in words:
        assert word in said


def test_several_wrong_settings_are_told_at_once(refused):
    said = refused("train", "head=tahn", "trainer.epochs=many", "los.margin=1")
    for word in ("tahn", "many", "los.margin"):
        assert word in said
    assert said.count("lightning-sep: error") == 1


def test_a_wrong_wandb_mode_is_told_in_one_line(refused, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    assert "WANDB_MODE='nonsense'" in one_line(refused("train"))


def test_a_command_that_is_none_is_told_in_one_line(refused):
    assert "trian" in one_line(refused("trian"))


@pytest.mark.parametrize(
    "command",
    [
        ["separate", "nothing", "a.wav", "--out", "out"],
        ["generate", "nothing", "--out", "a.wav"],
        ["embed", "nothing", "a.wav", "--out", "a.json"],
    ],
    ids=lambda command: command[0],
)
def test_a_run_that_is_none_is_told_in_one_line(refused, command):
    assert "no run 'nothing'" in one_line(refused(*command))


def noise(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    samples: np.ndarray = 0.2 * np.random.default_rng(seed).standard_normal(
        (round(RATE * seconds), channels)
    )
    return samples


@pytest.fixture
def folder(tmp_path):
    """A usable folder of two classes."""
    folder = tmp_path / "sounds"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for number in range(7):
            samples = noise(0.6, seed=number)
            soundfile.write(folder / name / f"{number}.wav", samples, RATE)
    return folder


def train(folder: Path, *more: str) -> list[str]:
    return ["train", "data=folder", f"data.path={folder}", *TINY, "examples.segment_s=0.25", *more]


def test_data_without_a_path_say_what_is_missing(refused):
    said = one_line(refused("train", "data=folder", *TINY))
    assert "data.path" in said


def test_a_folder_that_is_not_there_is_named(refused, tmp_path):
    said = one_line(refused(*train(tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere") in said


def test_a_folder_without_audio_is_named(refused, tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "readme.txt").write_text("no audio")
    said = one_line(refused(*train(tmp_path / "sounds")))
    assert str(tmp_path / "sounds") in said
    assert "wav" in said


def truncated(folder: Path) -> None:
    path = folder / "one" / "bad.flac"
    soundfile.write(path, noise(2.0), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder: Path) -> None:
    soundfile.write(folder / "one" / "bad.wav", np.zeros(0), RATE)


def no_bytes(folder: Path) -> None:
    (folder / "one" / "bad.wav").touch()


def not_audio(folder: Path) -> None:
    (folder / "one" / "bad.wav").write_text("a text that is called wav")


def not_finite(folder: Path) -> None:
    samples = noise(0.6)
    samples[100] = np.nan
    soundfile.write(folder / "one" / "bad.wav", samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize("harm", [truncated, empty, no_bytes, not_audio, not_finite])
def test_a_file_that_cannot_be_used_is_named(refused, folder, harm):
    harm(folder)
    said = one_line(refused(*train(folder)))
    assert "one/bad." in said
    assert "0x" not in said  # no address of an object


def test_a_mended_folder_is_used_by_the_same_command(refused, folder, home):
    not_finite(folder)
    refused(*train(folder))
    (folder / "one" / "bad.wav").unlink()
    assert cli.main(train(folder)) == 0
    assert [record["state"] for record in read_records(home)] == ["finished"]


def test_stereo_other_rates_and_silence_are_used_and_counted(folder, home, data_home):
    soundfile.write(folder / "one" / "stereo.wav", noise(0.6, channels=2), RATE)
    soundfile.write(folder / "one" / "rate.wav", noise(1.2), 2 * RATE)
    for number in range(3):  # however they are split, one is tested
        soundfile.write(folder / "two" / f"silent{number}.wav", np.zeros(5000), RATE)
    assert cli.main(train(folder)) == 0
    [record] = read_records(home)
    assert record["state"] == "finished"
    assert np.isfinite(record["metrics"]["test/si_sdr_improvement_db"])
    sources = [json.loads(path.read_text()) for path in data_home.glob("folder-*/source.json")]
    [source] = [one for one in sources if one["hash"] == record["data"]["folder"]]
    assert source["counts"] | {"files": 19, "silent": 3} == source["counts"]
    assert source["counts"]["averaged to mono"] == 1
    assert source["counts"]["resampled"] == 1


def test_silent_targets_are_counted_and_left_out_of_the_mean(tmp_path, home):
    """Of three classes one is silent: some mixtures have a silent target."""
    for number in range(9):
        for seed, name in enumerate(["one", "two", "silent"]):
            samples = noise(0.6, seed=100 * seed + number) * (name != "silent")
            path = tmp_path / "sounds" / name / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, RATE)
    assert cli.main(train(tmp_path / "sounds", "examples.test=16", "examples.val=16")) == 0
    [record] = read_records(home)
    values = json.loads((home / record["run_id"] / record["examples_file"]).read_text())
    each = values["test/si_sdr_improvement_db"]
    scored = [value for value in each if value is not None]
    # Where one of two sources is silent, the other is the mixture: neither can be improved.
    assert record["metrics"]["test/silent_targets"] == len(each) - len(scored) >= 1
    assert record["metrics"]["test/lone_targets"] == len(each) - len(scored)
    assert np.isfinite(scored).all()
    assert record["metrics"]["test/si_sdr_improvement_db"] == pytest.approx(
        float(np.mean(scored)), abs=1e-4
    )
    assert record["metrics"]["train/non_finite"] == 0
