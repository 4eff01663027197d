"""What a machine, a file or a number does not give is said in one line."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import lightning_sep
from lightning_sep.cli import main

ROOT = Path(lightning_sep.__file__).parent.parent
TINY = [
    "train", "net.levels=1", "examples.train=16", "examples.val=4", "examples.test=4",
    "trainer.epochs=1", "examples.segment_s=0.25", "tracking=none", "head=tanh",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line[:1] not in "0123456789"]
    assert len(told) == 1, told
    return told[0].removeprefix("lightning-sep: error: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("trainer.device=cuda", "trainer.device = 'cuda': torch finds no GPU here"),
        ("trainer.precision=16-mixed", "trainer.precision = '16-mixed' needs a GPU, and torch"),
        ("SLURM_JOB_GPUS=0,1", "this job has GPUs (0,1), and torch finds none on "),
    ],
)
def test_what_this_machine_does_not_compute_is_refused_and_leaves_no_run(
    capsys, home, setting, told, monkeypatch
):
    if setting.startswith("SLURM"):  # set by Slurm in a job with GPUs
        monkeypatch.setenv(*setting.split("="))
        setting = "trainer.device=auto"
    assert refused(capsys, *TINY, setting).startswith(told)
    assert not home.exists()


def test_too_little_memory_is_one_line_and_no_stop(capsys):
    """With 12 GB of addresses, as much as a segment of more than a day does not have."""
    limit = 12 * 2**30

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "lightning_sep", *TINY, "examples.segment_s=100000"],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("lightning-sep: error: not enough memory (")
    assert main(["status"]) == 0
    _, told = capsys.readouterr().out.splitlines()
    assert told.startswith("    failed: ")
    assert told.endswith("; the same command tries again")


@pytest.fixture
def run(capsys, home) -> str:
    assert main([*TINY, "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["run_id"])


def test_what_is_no_file_is_said(capsys, folder, run):
    assert refused(capsys, "separate", run, "no.wav", "--out", "o") == "no.wav: no such file"
    (folder / "sounds").mkdir()
    told = refused(capsys, "separate", run, "sounds", "--out", "o")
    assert told == "sounds is a folder: name the audio files in it, such as sounds/*.wav"
    (folder / "notes.txt").touch()
    told = refused(capsys, "separate", run, "a.wav", "--out", "notes.txt")
    assert told == "notes.txt is a file: sources are written into a folder"


def test_a_disk_that_is_full_while_audio_is_written_is_one_line(capsys, folder, run, small_disk):
    soundfile.write(folder / "a.wav", np.zeros(80000, np.float32), 8000, subtype="FLOAT")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * 2**20 - 40_000))  # neither all nor nothing fits beside it
    out = small_disk / "o"
    told = refused(capsys, "separate", run, "a.wav", "--out", str(out))
    assert told.startswith(f"no space left on the disk of {out} for a-")
    assert list(out.iterdir()) == []
    few = ("examples.train=16", "examples.val=4", "examples.test=4", "trainer.epochs=1")
    assert main(["train", "task=autoregression", *few, "tracking=none", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run_id"]
    told = refused(capsys, "generate", run, "--seconds", "10", "--out", str(out / "b.wav"))
    assert told.startswith(f"no space left on the disk of {out} for b.wav")
    assert list(out.iterdir()) == []
    ballast.unlink()
    assert main(["separate", run, "a.wav", "--out", str(out)]) == 2  # of another task
    assert main(["generate", run, "--seconds", "10", "--out", str(out / "b.wav")]) == 0
    assert soundfile.info(out / "b.wav").frames == 80000


def test_scores_that_are_not_finite_end_a_run_with_their_reason(capsys, home):
    """A learning rate far too high: the epoch's line says it, and what to do comes after it."""
    assert main([*TINY, "head=linear", "optimizer.learning_rate=1e18", "trainer.epochs=2"]) == 1
    *_, epoch, error = capsys.readouterr().err.splitlines()
    assert epoch.startswith("epoch 1/2 · train/loss ")
    assert " · val/si_sdr_improvement_db not finite · " in epoch
    assert error.startswith("lightning-sep: error: the parameters are no longer finite after epoch")
    [path] = home.glob("*/record.json")
    record = json.loads(path.read_text())
    assert "no longer finite" in record["error"]
    assert record["choices"]["net"] == "wave_unet_small"  # the default, which nobody has said


def test_a_place_where_nothing_can_be_written_is_named(capsys, folder, run, monkeypatch):
    soundfile.write(folder / "a.wav", np.zeros(8000), 8000)
    for words in (
        ["leaderboard", "single", "--html", "/proc/x.html"],
        ["separate", run, "a.wav", "--out", "/proc/x"],
        ["export", "single", "--csv", "/proc/x.csv"],
    ):
        assert main(words) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(
            r"lightning-sep: error: /proc/\.?x\S*: No such file or directory; name another place",
            told,
        ), told
    for variable in ("LIGHTNING_SEP_HOME", "LIGHTNING_SEP_DATA"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "/proc/x")
            assert "/proc/" in refused(capsys, *TINY, "seed=9")
    told = refused(capsys, "leaderboard", "single", "--html", "notes.md")
    assert told == "--html notes.md: a page is called .html, such as notes.html"
    assert not list(folder.glob("notes*"))


def test_init_on_a_disk_that_may_not_be_written_is_one_line(capsys, small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.chdir(small_disk)
    told = refused(capsys, "init")
    assert told.endswith("(Read-only file system): change its permissions, or name another place")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_is_another_place_not_the_home(capsys, folder, run):
    soundfile.write(folder / "a.wav", np.zeros(8000), 8000)
    (folder / "o").mkdir(mode=0o500)
    told = refused(capsys, "separate", run, "a.wav", "--out", "o")
    assert told.endswith("change its permissions, or name another place")
