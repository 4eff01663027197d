"""A real run keeps what variables hold to itself, and calls nobody."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-of-a-variable"
TINY = [
    "net.levels=1", "examples.train=16", "examples.val=16", "examples.test=16",
    "examples.segment_s=0.25", "trainer.epochs=2", "tracking=wandb",
]  # fmt: skip
# A message or a connection to anything but another process of this machine. A library that asks
# whether there is IPv6 makes a socket for it and sends nothing.
OUTSIDE = re.compile(r"sin_addr|sin6_addr|sin6_port")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code.
        told: stdout and stderr.
        calls: system calls that concern networks.
    """

    code: int
    told: str
    calls: str


def command(folder: Path, *arguments: str) -> Ended:
    """A command under strace, with a secret among its variables and W&B as it is by default."""
    variables = {
        "LIGHTNING_SEP_HOME": str(folder / "runs"),
        "LIGHTNING_SEP_DATA": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        "A_SECRET": SECRET,
        "WANDB_API_KEY": SECRET * 3,
        "SOUNDS": str(folder / "sounds"),
        "HOME": str(folder),
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    calls = folder / "calls"
    traced = [
        *("strace", "-f", "-qq", "--seccomp-bpf", "-o", str(calls)),
        *("-e", "trace=socket,connect,sendto,sendmsg,sendmmsg"),
    ]
    done = subprocess.run(
        [*traced, sys.executable, "-m", "lightning_sep", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=inherited | variables,
    )
    return Ended(done.returncode, done.stdout + done.stderr, calls.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with sounds of one's own, split by their folders."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("work")
    generator = np.random.default_rng(3)
    for split in ("train", "val", "test"):
        for name in ("dog", "rain"):
            place = folder / "sounds" / split / name
            place.mkdir(parents=True)
            for number in range(2):
                noise = generator.normal(0, 0.1, 8000).astype(np.float32)
                soundfile.write(place / f"{split}-{name}-{number}.wav", noise, 8000)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Ended:
    """A run whose path of data is a variable's, mirrored offline."""
    return command(folder, "train", *TINY, "data=folder", "data.path=${oc.env:SOUNDS}")


def holding(folder: Path, text: str) -> list[str]:
    """The files below that hold a text, in whatever form files have it."""
    wanted = [text.encode(), text.encode("utf-16-le")]
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    ]


def test_a_run_keeps_the_path_as_it_was_written(folder, trained):
    assert trained.code == 0, trained.told
    runs = folder / "runs"
    kept = [one for one in holding(runs, "oc.env:SOUNDS") if "wandb" not in one]
    assert {Path(one).name for one in kept} >= {"settings.yaml", "record.json"}
    assert holding(runs, str(folder / "sounds")) == []


def test_a_secret_is_nowhere(folder, trained):
    assert SECRET not in trained.told
    assert holding(folder, SECRET) == []


@pytest.mark.parametrize("setting", ["tracking.project", "net.levels", "trainer.epochs"])
def test_a_setting_that_would_show_it_is_refused_in_one_line(folder, trained, setting):
    ended = command(folder, "train", *TINY, f"{setting}=${{oc.env:A_SECRET}}")
    assert ended.code == 2
    assert ended.told == (
        f"lightning-sep: error: {setting}: only paths of data (data.path) may come from the "
        "environment; give the value itself\n"
    )
    assert holding(folder, SECRET) == []


def test_a_run_calls_nobody(trained):
    assert "AF_UNIX" in trained.calls  # it was watched, with W&B's own helper
    assert OUTSIDE.findall(trained.calls) == []


@pytest.mark.parametrize("arguments", [["status"], ["leaderboard"], ["train", *TINY]])
def test_no_other_command_calls_anybody(folder, trained, arguments):
    more = [] if len(arguments) == 1 else ["data=folder", "data.path=${oc.env:SOUNDS}"]
    ended = command(folder, *arguments, *more)  # the run is finished: it is only shown
    assert ended.code == 0, ended.told
    assert OUTSIDE.findall(ended.calls) == []


SWEEP = """
from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    settings=SETTINGS,
    metric="val/si_sdr_improvement_db",
    direction="maximize",
    trials=2,
    finalists=1,
    final_seeds=1,
)


def overrides(trial):
    yield f"head={trial.suggest_categorical('head', ['tanh', 'sine'])}"
"""


def test_a_sweep_its_workers_and_its_board_call_nobody(folder, trained):
    settings = [*TINY, "data=folder", "data.path=${oc.env:SOUNDS}"]
    (folder / "quiet.py").write_text(SWEEP.replace("SETTINGS", repr(settings)))
    swept = command(folder, "sweep", "quiet.py", "--workers", "1")
    assert swept.code == 0, swept.told
    assert "AF_UNIX" in swept.calls  # its workers were watched
    alone = command(folder, "worker", "quiet")
    assert alone.code == 0, alone.told
    for ended in (swept, alone):
        assert OUTSIDE.findall(ended.calls) == []
    assert holding(folder, SECRET) == []


def test_separating_calls_nobody(folder, trained):
    [run] = re.findall(r"run ([0-9a-f]{12}) finished", trained.told)
    sound = folder / "sounds" / "test" / "dog" / "test-dog-0.wav"
    ended = command(folder, "separate", run, str(sound), "--out", str(folder / "separated"))
    assert ended.code == 0, ended.told
    assert OUTSIDE.findall(ended.calls) == []
