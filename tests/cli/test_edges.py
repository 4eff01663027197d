"""What a machine, a file or a number does not give is said in one line."""

import errno
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import lightning_sep
from lightning_sep import use
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
    ],
)
def test_what_this_machine_does_not_compute_is_refused_and_leaves_no_run(
    capsys, home, setting, told
):
    assert refused(capsys, *TINY, setting).startswith(told)
    assert not home.exists()


def test_too_little_memory_is_one_line(folder):
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


@pytest.fixture
def run(capsys, home) -> str:
    assert main([*TINY, "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["run_id"])


def test_what_is_no_file_is_said(capsys, folder, run):
    assert refused(capsys, "separate", run, "no.wav", "--out", "o") == "no.wav: no such file"
    (folder / "sounds").mkdir()
    told = refused(capsys, "separate", run, "sounds", "--out", "o")
    assert told == "sounds is a folder: name the audio files in it, such as sounds/*.wav"


def test_a_disk_that_is_full_while_sources_are_written_is_one_line(
    capsys, folder, run, monkeypatch
):
    soundfile.write(folder / "a.wav", np.zeros(80000, np.float32), 8000, subtype="FLOAT")

    class Full(io.BytesIO):
        def write(self, content):
            if self.tell() > 60000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(use, "TemporaryFile", lambda dir: Full())
    told = refused(capsys, "separate", run, "a.wav", "--out", "o")
    assert told.startswith("no space left on the disk of o for a-")
    assert list((folder / "o").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_is_another_place_not_the_home(capsys, folder, run):
    soundfile.write(folder / "a.wav", np.zeros(8000), 8000)
    (folder / "o").mkdir(mode=0o500)
    told = refused(capsys, "separate", run, "a.wav", "--out", "o")
    assert told.endswith("change its permissions, or name another place")
