"""What W&B has of a run, read back from its own files with its own reader."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_sep import experiment
from lightning_sep.errors import ConfigError, Interrupted, LightningSepWarning
from lightning_sep.fsio import PATIENCE, append_line, read_lines
from lightning_sep.parts import identify
from lightning_sep.settings import compose
from lightning_sep.tracking import Tracker, Tracking
from tests.tracking.conftest import SETTINGS, mirror


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
    return Tracker(mirror(**changes), folder=folder, mode="offline")


@pytest.fixture(scope="module")
def about(tracked: tuple[experiment.Result, Any, Any]) -> dict[str, Any]:
    lines = inspect(tracked[0].folder).splitlines()
    [run] = [json.loads(line)["run"] for line in lines if json.loads(line)["type"] == "run"]
    return run


def test_wandb_knows_a_run_by_its_setting_its_seed_and_its_sweep(about, tracked):
    assert about["run_id"] == tracked[0].run_id
    assert about["display_name"] == "clip_at_eval alpha=0.25 s0"
    assert about["run_group"] == "heads/clip_at_eval alpha=0.25"
    assert about["job_type"] == "final"
    assert {"final", "head=clip_at_eval", "reweighting=loss_softmax"} <= set(about["tags"])


def test_the_config_holds_who_asked_what_counts_and_nothing_else(about, tracked):
    config = about["config"]["update"]
    record = tracked[0].record
    assert config["head"] == "clip_at_eval"
    assert config["reweighting.alpha"] == 0.25
    assert (config["sweep"], config["trial"], config["purpose"]) == ("heads", 3, "final")
    assert (config["seed"], config["task"]) == (0, "separation")
    assert config["config_hash"] == record["config_hash"]
    assert config["code_hash"] == record["hashes"]["code"]
    assert config["data_hash"] == record["data"]["synthetic"]
    assert config["versions.torch"] == record["environment"]["versions"]["torch"]
    cannot_matter = ("tracking", "launcher", "trainer.workers", "trainer.progress", "data.path")
    assert [key for key in config if key.startswith(cannot_matter)] == []


def test_the_mirror_holds_each_row_of_the_history_once(tracked):
    rows = read_lines(tracked[0].folder / "metrics.jsonl")
    seen = {item["_step"]: item for item in items(tracked[0].folder)}
    assert len(seen) == len(items(tracked[0].folder))
    assert [row["step"] for row in rows] == [4, 8]
    for row in rows:
        for name in ("epoch", "train/loss", "val/si_sdr_improvement_db", "train/effective_batch"):
            assert seen[row["step"]][name] == pytest.approx(row[name]), name


def test_weights_are_mirrored_as_a_histogram(tracked):
    rows = [item for item in items(tracked[0].folder) if "train/loss" in item]
    assert len(rows) == 2
    for row in rows:
        assert row["train/weights._type"] == "histogram"
        assert sum(row["train/weights.values"]) == 16


def test_the_scores_of_the_examples_are_a_table_with_the_sounds_of_the_first(tracked):
    folder = tracked[0].folder
    [row] = [item for item in items(folder) if "test/examples._type" in item]
    assert (row["_step"], row["test/examples.nrows"]) == (9, 4)
    [part] = (folder / "wandb").glob("offline-run-*")
    table = json.loads((part / "files" / row["test/examples.path"]).read_text())
    record = tracked[0].record
    values = json.loads((folder / record["examples_file"]).read_text())
    column = table["columns"].index("si_sdr_improvement_db")
    name = "test/si_sdr_improvement_db"
    assert [one[column] for one in table["data"]] == pytest.approx(values[name])
    heard = [one[table["columns"].index("estimate-1")] for one in table["data"]]
    assert [one is not None for one in heard] == [True, True, True, False]
    staged = [one.read_bytes()[:4] for one in (folder / "wandb/artifacts").rglob("tmp*")]
    assert staged.count(b"fLaC") == 15


def test_the_summary_says_what_came_of_the_run(tracked):
    summary = json.loads(inspect(tracked[0].folder, "--summary"))["summary"]
    record = tracked[0].record
    name = "test/si_sdr_improvement_db"
    assert summary[name] == pytest.approx(record["metrics"][name])
    assert (summary["state"], summary["parameters"]) == ("finished", record["parameters"])
    assert summary["wall_s"] == pytest.approx(record["wall_s"], abs=5)


def test_charts_have_epochs_below_them_and_metrics_a_direction(tracked):
    records = map(json.loads, inspect(tracked[0].folder).splitlines())
    defined = [one["metric"] for one in records if one["type"] == "metric"]
    directions = {one.get("name") or one["glob_name"]: one.get("summary") for one in defined}
    assert directions["val/si_sdr_improvement_db"] == {"max": True}
    assert directions["test/si_sdr_improvement_db*"] == {"max": True}
    assert directions["test/loss*"] == {"min": True}
    steps = {one.get("name") or one["glob_name"]: one.get("step_metric") for one in defined}
    assert steps["*"] == "epoch"


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


@pytest.mark.parametrize(
    ("word", "mode"),
    [("dryrun", "offline"), ("run", "online"), ("true", "online"), ("Offline", "offline")],
)
def test_wandbs_old_words_for_modes_are_understood(monkeypatch, word, mode):
    monkeypatch.setenv("WANDB_MODE", word)
    assert Tracking().mode == mode


def test_project_and_entity_come_from_wandbs_variables_unless_settings_say_them(monkeypatch):
    assert (Tracking().project, Tracking().entity) == ("lightning-sep", None)
    assert Tracking().checkpoint is False  # no weights leave unless that is asked for
    monkeypatch.setenv("WANDB_PROJECT", "bounds")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    assert (Tracking().project, Tracking().entity) == ("bounds", "lab")
    assert Tracking(audio_examples=0).audio_examples == 0  # none is wanted
    with pytest.raises(ConfigError, match="audio_examples"):
        Tracking(audio_examples=-1)
    said = Tracking(project="other", entity="me")
    assert (said.project, said.entity) == ("other", "me")


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(ConfigError, match=r"WANDB_MODE='nonsense'.*offline"):
        Tracking()


def test_fault_18_a_run_finishes_without_its_mirror_and_says_so_in_a_line(home, capsys):
    settings = compose([*SETTINGS, "seed=2"])
    folder = home / identify(settings)
    folder.mkdir(parents=True)
    (folder / "wandb").write_text("a file in the way")
    result = experiment.run(settings, home=home)
    assert result.state == "finished"
    assert "W&B is off for the rest of this run" in (folder / "log.txt").read_text()
    [line] = capsys.readouterr().err.splitlines()
    assert f"`lightning-sep mirror {result.run_id}`" in line


def test_what_wandb_refuses_is_a_warning(tmp_path):
    with pytest.warns(LightningSepWarning, match=r"W&B is off.*cannot contain"):
        tracker = opened(tmp_path, run_id="a/b")
    tracker.log({"step": 1, "val/r2": 0.1})
    tracker.finish({})


def test_a_project_that_wandb_cannot_have_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"project = 'a/b'"):
        Tracking(project="a/b")


def test_lines_that_a_kill_took_from_the_mirror_are_sent_when_it_opens_again(tmp_path):
    for step in (10, 20, 30):
        append_line(tmp_path / "metrics.jsonl", json.dumps({"step": step, "val/r2": step / 100}))
    first = opened(tmp_path)
    first.left(None, None, None)
    append_line(tmp_path / "metrics.jsonl", json.dumps({"step": 40, "val/r2": 0.4}))
    second = opened(tmp_path)
    second.log({"step": 30, "val/r2": 0.3})  # an epoch repeated after the kill
    second.log({"step": 50, "val/r2": 0.5})
    second.left(None, None, None)
    assert steps(tmp_path) == [10, 20, 30, 40, 50]


def test_a_kill_between_mirror_and_record_doubles_no_table(tmp_path):
    append_line(tmp_path / "metrics.jsonl", json.dumps({"step": 10, "val/r2": 0.1}))
    (tmp_path / "test_examples.1.json").write_text(json.dumps({"test/r2": [0.5, 0.25]}))
    outcome = {"state": "finished", "metrics": {}, "examples_file": "test_examples.1.json"}
    for _ in range(2):
        opened(tmp_path).finish(outcome)
    rows = items(tmp_path)
    assert [row["_step"] for row in rows] == [10, 11]
    assert rows[1]["test/examples.nrows"] == 2
    opened(tmp_path, job_type="search").finish(outcome)  # of a search none is sent
    assert [row["_step"] for row in items(tmp_path)] == [10]


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [(Interrupted(), "stopped", 1), (ValueError("x"), "failed", 1)],
)
def test_a_run_that_did_not_end_says_whether_it_was_stopped_or_failed(tmp_path, error, state, code):
    tracker = opened(tmp_path)
    tracker.left(type(error), error, None)
    assert json.loads(inspect(tmp_path, "--summary"))["summary"]["state"] == state
    ends = [json.loads(line) for line in inspect(tmp_path).splitlines()]
    assert [one["exit"].get("exit_code", 0) for one in ends if one["type"] == "exit"] == [code]


def test_a_search_run_that_was_stopped_keeps_few_files_and_its_histograms(home):
    """A quota counts files: those of W&B are written anew by each attempt."""
    asked = iter([False] * 5 + [True])
    settings = compose([*SETTINGS, "seed=4"])
    about = {"home": home, "sweep": "heads", "trial": 0, "purpose": "search"}
    with pytest.raises(Interrupted):
        experiment.run(settings, should_stop=lambda: next(asked, False), **about)
    result = experiment.run(settings, **about)
    files = [path for path in result.folder.rglob("*") if path.is_file()]
    assert len(files) <= 16, files
    assert [item["train/weights._type"] for item in items(result.folder)] == ["histogram"] * 2


CHILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from lightning_sep.fsio import append_line
from lightning_sep.tracking import Tracker
from tests.tracking.conftest import mirror
import json
folder = Path(sys.argv[1])
tracker = Tracker(mirror(), folder=folder, mode="offline")
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
    opened(tmp_path).left(None, None, None)
    told = [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")]
    assert steps(tmp_path) == told == list(range(len(told)))


def test_fault_18_training_goes_on_when_the_helper_of_wandb_is_killed(tmp_path):
    code = f"""
import json, os, signal, sys, time, warnings
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from lightning_sep.tracking import Tracker
from tests.tracking.conftest import mirror
tracker = Tracker(mirror(), folder=Path(sys.argv[1]), mode="offline")
tracker.log({{"step": 1, "val/r2": 0.1}})
for status in Path("/proc").glob("[0-9]*/stat"):
    try:
        name, rest = status.read_text(errors="replace").rsplit(")", 1)
    except OSError:
        continue
    if "wandb-core" in name and int(rest.split()[1]) == os.getpid():
        os.kill(int(status.parent.name), signal.SIGKILL)
        print("killed")
time.sleep(0.2)
for step in range(2, 6):
    tracker.log({{"step": step, "val/r2": 0.1}})
tracker.finish({{"state": "finished", "metrics": {{"test/r2": 0.5}}}})
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
    tracker.finish({})


def test_fault_18_and_14_a_slow_mirror_is_no_hang(tmp_path, monkeypatch):
    """The watchdog would end the process, and count that against the setting."""
    beats: list[float] = []
    monkeypatch.setattr(PATIENCE, "pulse", lambda: beats.append(time.monotonic()))
    tracker = Tracker(mirror(), folder=tmp_path, mode="disabled")

    def slow() -> None:
        end_s = time.monotonic() + 60
        while len(beats) < 3 and time.monotonic() < end_s:
            time.sleep(0.01)

    tracker._try(slow)
    assert len(beats) >= 3
    assert "tracking" not in {thread.name for thread in threading.enumerate()}
