"""What W&B has of a run, read back from its own files with its own reader."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, LightningSepWarning
from lightning_sep.fsio import PATIENCE, append_line, read_lines
from lightning_sep.settings import compose
from lightning_sep.tracking import Tracker, Tracking

SETTINGS = [
    "task=separation",
    "examples.train=16",
    "examples.val=4",
    "examples.test=4",
    "examples.batch_size=4",
    "examples.segment_s=0.25",
    "trainer.epochs=2",
    "trainer.progress=false",
    "reweighting=loss_softmax",
    "reweighting.alpha=0.25",
]


def inspect(folder: Path, *options: str) -> str:
    """A run's offline parts, oldest first, as ``wandb leet inspect`` prints them."""
    printed = []
    for part in sorted((folder / "wandb").glob("offline-run-*")):
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(part)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        )
        printed.append(done.stdout)
    return "".join(printed)


def items(folder: Path) -> list[dict[str, Any]]:
    """The rows of the history, of all parts."""
    records = map(json.loads, inspect(folder).splitlines())
    return [one["history"]["item"] for one in records if one["type"] == "history"]


def steps(folder: Path) -> list[int]:
    return [item["_step"] for item in items(folder)]


def opened(folder: Path, **changes: Any) -> Tracker:
    about: dict[str, Any] = {
        "folder": folder,
        "run_id": "abc123",
        "group": None,
        "job_type": "separation",
        "tags": [],
        "config": {},
        "monitor": ("val/r2", "max"),
    }
    return Tracking(mode="offline").open(**about | changes)


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, data_home: Path
) -> Iterator[tuple[experiment.Result, dict[str, str], dict[str, str]]]:
    """A run with its mirror, and the environment before and after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE")
        before = dict(os.environ)
        result = experiment.run(
            compose(SETTINGS),
            home=tmp_path_factory.mktemp("tracked"),
            sweep="heads",
            trial=3,
            purpose="final",
        )
        yield result, before, dict(os.environ)


@pytest.fixture(scope="module")
def about(tracked: tuple[experiment.Result, Any, Any]) -> dict[str, Any]:
    lines = inspect(tracked[0].folder).splitlines()
    [run] = [json.loads(line)["run"] for line in lines if json.loads(line)["type"] == "run"]
    return run


def test_wandb_knows_run_sweep_and_task(about, tracked):
    assert about["run_id"] == tracked[0].run_id
    assert about["run_group"] == "heads"
    assert about["job_type"] == "separation"
    assert {"final", "head=clip_at_eval", "reweighting=loss_softmax"} <= set(about["tags"])


def test_every_axis_of_a_sweep_is_in_the_config(about):
    config = about["config"]["update"]
    assert config["head"] == "clip_at_eval"
    assert config["reweighting.alpha"] == 0.25
    assert config["seed"] == 0


def test_the_mirror_holds_each_row_of_the_history_once(tracked):
    rows = read_lines(tracked[0].folder / "metrics.jsonl")
    seen = {item["_step"]: item for item in items(tracked[0].folder)}
    assert len(seen) == len(items(tracked[0].folder))
    assert [row["step"] for row in rows] == [4, 8]
    for row in rows:
        for name in ("epoch", "train/loss", "val/si_sdr_improvement_db", "train/effective_batch"):
            assert seen[row["step"]][name] == pytest.approx(row[name]), name


def test_weights_are_mirrored_as_a_histogram(tracked):
    rows = [item for item in items(tracked[0].folder) if "epoch" in item]
    assert len(rows) == 2
    for row in rows:
        assert row["train/weights._type"] == "histogram"
        assert sum(row["train/weights.values"]) == 16


def test_audio_of_the_first_test_examples_is_mirrored(tracked):
    [row] = [item for item in items(tracked[0].folder) if any("audio/" in key for key in item)]
    path = row["audio/0-estimate-1.path"]
    [part] = (tracked[0].folder / "wandb").glob("offline-run-*")
    assert (part / "files" / path).read_bytes()[:4] == b"RIFF"


def test_the_summary_holds_test_metrics(tracked):
    summary = json.loads(inspect(tracked[0].folder, "--summary"))["summary"]
    name = "test/si_sdr_improvement_db"
    assert summary[name] == pytest.approx(tracked[0].record["metrics"][name])


def test_wandb_leaves_nothing_in_the_environment(tracked):
    """With WANDB_SERVICE, workers started later would depend on this process's helper."""
    _, before, after = tracked
    assert {name: after[name] for name in after if "WANDB" in name} == {
        name: before[name] for name in before if "WANDB" in name
    }


def test_wandb_settings_of_the_user_that_turn_it_off_are_obeyed(home, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    result = experiment.run(compose([*SETTINGS, "seed=1"]), home=home)
    assert result.state == "finished"
    assert not (result.folder / "wandb").exists()


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(ConfigError, match=r"WANDB_MODE='nonsense'.*offline"):
        Tracking()


def test_fault_18_a_run_finishes_without_its_mirror_and_says_so(home):
    settings = compose([*SETTINGS, "seed=2"])
    folder = home / experiment.identify(settings)
    folder.mkdir(parents=True)
    (folder / "wandb").write_text("a file in the way")
    result = experiment.run(settings, home=home)
    assert result.state == "finished"
    assert "W&B is off for the rest of this run" in (folder / "log.txt").read_text()


def test_what_wandb_refuses_is_a_warning(tmp_path):
    with pytest.warns(LightningSepWarning, match=r"W&B is off.*cannot contain"):
        tracker = opened(tmp_path, run_id="a/b")
    tracker.log({"step": 1, "val/r2": 0.1})
    tracker.finish({}, {}, 8000)


def test_a_project_that_wandb_cannot_have_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"project = 'a/b'"):
        Tracking(project="a/b")


def test_lines_that_a_kill_took_from_the_mirror_are_sent_when_it_opens_again(tmp_path):
    for step in (10, 20, 30):
        append_line(tmp_path / "metrics.jsonl", json.dumps({"step": step, "val/r2": step / 100}))
    first = opened(tmp_path)
    first.close()
    append_line(tmp_path / "metrics.jsonl", json.dumps({"step": 40, "val/r2": 0.4}))
    second = opened(tmp_path)
    second.log({"step": 30, "val/r2": 0.3})  # an epoch repeated after the kill
    second.log({"step": 50, "val/r2": 0.5})
    second.close()
    assert steps(tmp_path) == [10, 20, 30, 40, 50]


def test_a_kill_between_mirror_and_record_doubles_no_audio(tmp_path):
    audio = {"0-mixture": np.zeros(800, np.float32)}
    append_line(tmp_path / "metrics.jsonl", json.dumps({"step": 10, "val/r2": 0.1}))
    for _ in range(2):
        opened(tmp_path).finish({"test/r2": 0.5}, audio, 8000)
    rows = items(tmp_path)
    assert [row["_step"] for row in rows] == [10, 11]
    assert "audio/0-mixture._type" in rows[1]


CHILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from lightning_sep.fsio import append_line
from lightning_sep.tracking import Tracking
import json
folder = Path(sys.argv[1])
tracker = Tracking(mode="offline").open(folder=folder, run_id="abc123", group=None,
    job_type="separation", tags=[], config={{}}, monitor=("val/r2", "max"))
first = 1 + max([-1, *(json.loads(line)["step"] for line in
    ((folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists()
     else []))])
for step in range(first, 10**6):
    row = {{"step": step, "val/r2": step / 100}}
    append_line(folder / "metrics.jsonl", json.dumps(row))
    tracker.log(row)
    print(step, flush=True)
    time.sleep(0.05)
"""


def test_fault_18_after_kill_and_resume_no_step_is_missing_or_doubled(tmp_path):
    """The whole process group is killed, so that W&B's helper loses what it had not written."""
    code = CHILD.format(here=str(Path(__file__).parents[2]))
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None
        for _ in range(30):
            assert child.stdout.readline()
        os.killpg(child.pid, 9)
        child.wait()
    opened(tmp_path).close()
    told = [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")]
    assert steps(tmp_path) == told == list(range(len(told)))


def test_fault_18_training_goes_on_when_the_helper_of_wandb_is_killed(tmp_path):
    code = f"""
import json, os, signal, sys, time, warnings
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from lightning_sep.tracking import Tracking
tracker = Tracking(mode="offline").open(folder=Path(sys.argv[1]), run_id="abc123", group=None,
    job_type="separation", tags=[], config={{}}, monitor=("val/r2", "max"))
tracker.log({{"step": 1, "val/r2": 0.1}})
for status in Path("/proc").glob("[0-9]*/stat"):
    try:
        name, rest = status.read_text().rsplit(")", 1)
    except OSError:
        continue
    if "wandb-core" in name and int(rest.split()[1]) == os.getpid():
        os.kill(int(status.parent.name), signal.SIGKILL)
        print("killed")
time.sleep(0.2)
for step in range(2, 6):
    tracker.log({{"step": step, "val/r2": 0.1}})
tracker.finish({{"test/r2": 0.5}}, {{}}, 8000)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["killed", "done"]


def test_a_mirror_that_cannot_be_opened_warns(tmp_path):
    (tmp_path / "wandb").write_text("a file in the way")
    with pytest.warns(LightningSepWarning, match="W&B is off"):
        tracker = opened(tmp_path)
    tracker.log({"step": 1, "val/r2": 0.1})
    tracker.finish({}, {}, 8000)


def test_fault_18_and_14_a_slow_mirror_is_no_hang(tmp_path, monkeypatch):
    """The watchdog would end the process, and count that against the setting."""
    beats: list[float] = []
    monkeypatch.setattr(PATIENCE, "pulse", lambda: beats.append(time.monotonic()))
    about: dict[str, Any] = {"group": None, "job_type": "separation", "tags": [], "config": {}}
    about |= {"folder": tmp_path, "run_id": "r", "monitor": ("val/r2", "max")}
    tracker = Tracking(mode="disabled").open(**about)

    def slow() -> None:
        end_s = time.monotonic() + 60
        while len(beats) < 3 and time.monotonic() < end_s:
            time.sleep(0.01)

    tracker._try(slow)
    assert len(beats) >= 3
    assert "tracking" not in {thread.name for thread in threading.enumerate()}
