"""What a W&B server has of runs after `lightning-sep sync`, and after `wandb sync`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from lightning_sep import cli, experiment
from lightning_sep.fsio import append_line
from lightning_sep.record import write_record
from lightning_sep.settings import compose
from lightning_sep.tracking import Tracker
from lightning_sep.tracking.dashboard import FILE
from tests.faults.harness import HOOK, ROOT, at, until, write_sweep
from tests.tracking.conftest import SETTINGS, mirror
from tests.tracking.server import RunOnServer, Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")  # of the runs; an upload is one all the same
    with serving() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # it keeps in mind which server there is
        yield server
        wandb.teardown()


def told(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> str:
    """What a command says, on its own."""
    capsys.readouterr()
    assert cli.main([*command]) == code
    said = capsys.readouterr()
    return said.out + said.err


def apart(*command: str, code: int = 0, **environment: str) -> str:
    """What a command says as a process of its own, while this one has runs open."""
    done = subprocess.run(
        [sys.executable, "-m", "lightning_sep", *command],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def steps(run: RunOnServer) -> list[int]:
    """Steps of all lines that were ever sent, not only of those that were kept."""
    return [json.loads(line)["_step"] for line in run.sent]


def begun(home: Path, run: str, **changes: Any) -> Tracker:
    folder = home / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text("seed: 0\n")
    return Tracker(mirror(run_id=run, **changes), folder=folder, mode="offline")


def went_on(tracker: Tracker, folder: Path, *of: int) -> None:
    for step in of:
        row = {"step": step, "epoch": step // 10, "val/r2": step / 100}
        append_line(folder / "metrics.jsonl", json.dumps(row))
        tracker.log(row)


def ended(tracker: Tracker, folder: Path, state: str = "finished") -> None:
    outcome = {"state": state, "metrics": {"test/r2": 0.5}, "parameters": 7, "wall_s": 1.5}
    tracker.finish(outcome)
    write_record(folder, {"run_id": folder.name, "settings": {}, "hashes": {}, **outcome})


def test_a_finished_run_is_uploaded_as_the_board_knows_it(server, tracked, tmp_path, capsys):
    original = tracked[0].folder
    folder = Path(shutil.copytree(original, tmp_path / original.name))
    assert "1 run uploaded" in told(capsys, "sync")
    [run] = server.runs.values()
    assert run.told["displayName"] == "clip_at_eval alpha=0.25 s0"
    assert run.told["groupName"] == "heads/clip_at_eval alpha=0.25"
    assert run.told["jobType"] == "final"
    assert (run.entity, run.project) == ("me", "lightning-sep")
    assert steps(run) == [4, 8, 9]
    assert (run.complete, run.exit_code) == (True, 0)
    record = tracked[0].record
    name = "test/si_sdr_improvement_db"
    assert run.summary[name] == pytest.approx(record["metrics"][name])
    assert run.summary["state"] == "finished"
    assert run.summary["val/si_sdr_improvement_db"]["max"] == record["monitor"]["value"]
    assert run.rows[0]["train/weights"]["_type"] == "histogram"
    assert run.config["data_hash"] == record["data"]["synthetic"]
    [table] = [one for one in server.artifacts.values() if one["artifactTypeName"] == "run_table"]
    assert sum(one.endswith(".flac") for one in table["files"]) == 15
    rows = json.loads(table["files"]["test/examples.table.json"])
    for sound in ("mixture", "estimate-1", "target-2"):
        cells = [row[rows["columns"].index(sound)] for row in rows["data"]]
        files = [folder / "audio" / f"{number}-{sound}.flac" for number in range(3)]
        known = [one.read_bytes() for one in files]
        assert [one and table["files"][one["path"]] for one in cells] == [*known, None]
    assert not any(one["artifactTypeName"] == "model" for one in server.artifacts.values())

    [part] = (folder / "wandb").glob("offline-run-*/*.wandb")
    assert part.with_suffix(".wandb.synced").exists()  # for `wandb sync`, which would add it again
    asked = len(server.queries)
    assert "nothing new: 1 run up to date" in told(capsys, "sync")
    assert len(server.queries) == asked
    (folder / "wandb" / "synced.json").unlink()  # as after an upload that was cut off at its end
    told(capsys, "sync", folder.name[:5])
    assert steps(run) == [4, 8, 9]


def test_the_weights_are_uploaded_on_request(server, tracked, tmp_path, capsys):
    folder = Path(shutil.copytree(tracked[0].folder, tmp_path / tracked[0].run_id))
    kept = json.loads((folder / "wandb/mirror.json").read_text())
    (folder / "wandb/mirror.json").write_text(json.dumps(kept | {"checkpoint": True}))
    told(capsys, "sync", "--project", "bounds", "--entity", "lab")
    [run] = server.runs.values()
    assert (run.entity, run.project) == ("lab", "bounds")
    [model] = [one for one in server.artifacts.values() if one["artifactTypeName"] == "model"]
    [best] = (folder / "checkpoints").glob("best.*.ckpt")
    assert model["files"]["best.ckpt"] == best.read_bytes()
    assert {one["alias"] for one in model["aliases"]} == {"latest", "best"}


def test_what_runs_is_uploaded_as_far_as_it_is_and_each_step_once(server, tmp_path, capsys):
    """Uploaded while it trains, stopped, gone on with by another attempt, and done."""
    folder = tmp_path / "abc123"
    first = begun(tmp_path, "abc123")
    went_on(first, folder, 10, 20)
    apart("sync")
    run = server.runs["abc123"]
    assert steps(run) == [10, 20]
    assert run.complete is None
    went_on(first, folder, 30)
    first.left(None, None, None)
    second = begun(tmp_path, "abc123")
    went_on(second, folder, 40)
    apart("sync")
    assert steps(run) == [10, 20, 30, 40]
    assert run.complete is None
    went_on(second, folder, 50)
    ended(second, folder)
    told(capsys, "sync")
    assert steps(run) == [10, 20, 30, 40, 50]
    assert [row["epoch"] for row in run.rows] == [1, 2, 3, 4, 5]
    assert (run.complete, run.summary["state"], run.summary["test/r2"]) == (True, "finished", 0.5)


def test_an_upload_goes_on_where_it_was_cut_off(server, tmp_path, capsys):
    for name in ("aaa", "bbb", "ccc"):
        tracker = begun(tmp_path, name)
        went_on(tracker, tmp_path / name, 10, 20)
        ended(tracker, tmp_path / name, "pruned" if name == "ccc" else "finished")
    told(capsys, "sync", "aaa")
    assert "2 runs uploaded, 1 up to date" in told(capsys, "sync")
    for name in ("aaa", "bbb", "ccc"):
        assert steps(server.runs[name]) == [10, 20]
    assert server.runs["ccc"].summary["state"] == "pruned"
    # What W&B was told of one project another one does not know.
    assert "1 run uploaded" in told(capsys, "sync", "aaa", "--project", "other")
    assert "1 run uploaded" in told(capsys, "sync", "aaa", "--entity", "lab")


def test_how_a_run_ended_or_that_it_goes_on_is_what_wandb_shows(server, tmp_path, capsys):
    for name, state in (("aaa", "failed"), ("bbb", "pruned"), ("ccc", ""), ("ddd", "")):
        tracker = begun(tmp_path, name)
        went_on(tracker, tmp_path / name, 10)
        if state:
            ended(tracker, tmp_path / name, state)
        else:
            tracker.left(None, None, None)
    lease = {"generation": 1, "token": "held", "worker": "w", "owner": None, "crashes": 0}
    (tmp_path / "ddd" / "lease.json").write_text(json.dumps(lease))
    told(capsys, "sync")
    found = {name: (run.summary["state"], run.exit_code) for name, run in server.runs.items()}
    assert found["aaa"] == ("failed", 1)
    assert found["bbb"] == ("pruned", 0)
    assert [found[name][0] for name in ("ccc", "ddd")] == ["stopped", "running"]
    assert [server.runs[name].complete for name in sorted(found)] == [True, True, None, None]


def test_a_project_gets_one_view_of_its_boards(server, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")

    def made(name: str, **more: Any) -> None:
        tracker = begun(tmp_path, name, **more)
        went_on(tracker, tmp_path / name, 10)
        ended(tracker, tmp_path / name)

    made("aaa")
    made("bbb")
    made("ccc", monitor=("val/equal_error_rate", "min"))
    said = told(capsys, "sync")
    [view] = server.views
    assert (view["entityName"], view["projectName"]) == ("me", "lightning-sep")
    assert f"view of the boards: {server.url}/me/lightning-sep?nw=" in said
    section = view["spec"]["section"]
    [runs] = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    order = [(one["key"]["name"], one["ascending"]) for one in runs["sort"]["keys"]]
    assert order == [("test/equal_error_rate", True), ("test/r2", False)]
    assert (section["settings"]["xAxis"], section["settings"]["xAxisActive"]) == ("epoch", True)
    shown = section["panelBankConfig"]["sections"]
    assert [one["name"] for one in shown] == ["Board by test/equal_error_rate", "Board by test/r2"]
    scores, curves = (one["config"] for one in shown[1]["panels"])
    assert (scores["metrics"], curves["metrics"]) == (["test/r2"], ["val/r2"])
    assert (scores["groupBy"], curves["groupBy"], curves["xAxis"]) == ("group", "group", "epoch")
    titles = [one["config"]["chartTitle"] for each in shown for one in each["panels"]]
    assert ["lower" in one for one in titles] == [True, True, False, False]
    made("ddd")
    assert "view" not in told(capsys, "sync")
    assert len(server.views) == 1
    told(capsys, "sync", "aaa", "--project", "other")
    assert [one["projectName"] for one in server.views] == ["lightning-sep", "other"]


def test_without_the_package_an_upload_says_how_to_get_the_view(
    server, tmp_path, capsys, monkeypatch
):
    for name in ("wandb_workspaces", "wandb_workspaces.reports.v2"):
        monkeypatch.setitem(sys.modules, name, None)
    tracker = begun(tmp_path, "aaa")
    ended(tracker, tmp_path / "aaa")
    said = told(capsys, "sync")
    assert said.count("pip install 'lightning_sep[workspaces]'") == 1
    assert "1 run uploaded" in said
    assert not server.views
    assert not (tmp_path / "wandb-views.json").exists()


@pytest.mark.slow
def test_two_hundred_runs_are_uploaded_once_each(server, tmp_path, capsys):
    names = {f"{number:06x}": number for number in range(200)}
    for name, number in names.items():
        head, seed = number % 10, 1000 + number // 10
        about = {"name": f"h{head} s{seed}", "group": f"heads/h{head}"}
        tracker = begun(tmp_path, name, **about)
        went_on(tracker, tmp_path / name, 10, 20)
        ended(tracker, tmp_path / name)
    assert "200 runs uploaded" in told(capsys, "sync")
    assert set(server.runs) == set(names)
    for name, number in names.items():
        run = server.runs[name]
        assert steps(run) == [10, 20]
        assert run.told["displayName"] == f"h{number % 10} s{1000 + number // 10}"
        assert run.told["groupName"] == f"heads/h{number % 10}"
        assert (run.complete, run.summary["state"]) == (True, "finished")
    asked = len(server.queries)
    assert "nothing new: 200 runs up to date" in told(capsys, "sync")
    assert len(server.queries) == asked


def test_a_run_that_cannot_be_uploaded_keeps_back_no_other_one(
    server, tmp_path, capsys, monkeypatch
):
    for name in ("aaa", "bbb", "ccc"):
        tracker = begun(tmp_path, name)
        went_on(tracker, tmp_path / name, 10)
        ended(tracker, tmp_path / name)
    (tmp_path / "aaa" / "metrics.jsonl").write_text('{"epoch": 1}\n')
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    said = told(capsys, "sync", code=1)
    assert "1 of 3 runs could not be uploaded (aaa: " in said
    assert "\r1 of 3 runs\r2 of 3 runs\r3 of 3 runs\n" in said
    assert steps(server.runs["bbb"]) == steps(server.runs["ccc"]) == [10]


def test_without_a_key_it_says_so_in_a_line(server, tmp_path):
    ended(begun(tmp_path, "aaa"), tmp_path / "aaa")
    said = apart("sync", code=2, WANDB_API_KEY="", HOME=str(tmp_path / "nobody"))
    assert said.count("\n") == 1
    assert "wandb login" in said
    assert not server.runs


def test_what_wandb_itself_uploads_is_the_same_and_goes_on_where_it_was(server, tmp_path):
    def wandb_sync() -> None:
        parts = (tmp_path / "abc123" / "wandb").glob("offline-run-*")
        command = [sys.executable, "-m", "wandb", "sync", *map(str, parts)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    folder = tmp_path / "abc123"
    first = begun(tmp_path, "abc123")
    went_on(first, folder, 10, 20)
    first.left(None, None, None)
    wandb_sync()
    second = begun(tmp_path, "abc123")
    went_on(second, folder, 30)
    ended(second, folder)
    wandb_sync()
    [run] = server.runs.values()
    assert steps(run) == [10, 20, 30]
    assert (run.told["displayName"], run.told["groupName"]) == ("tanh s0", "heads/tanh")
    assert run.summary["state"] == "finished"


def test_a_mirror_is_made_of_a_run_that_had_none(home, server, tmp_path, capsys):
    settings = compose([*SETTINGS, "seed=3", "tracking=none", "head=tanh"])
    result = experiment.run(settings, home=tmp_path)
    assert "`lightning-sep mirror" in told(capsys, "sync", result.run_id, code=2)
    history = (result.folder / "metrics.jsonl").read_bytes()
    [line] = told(capsys, "mirror", result.run_id).splitlines()
    assert Path(line).parent == result.folder / "wandb"
    assert (result.folder / "metrics.jsonl").read_bytes() == history
    (result.folder / "wandb" / FILE).unlink()  # as before there was such a file: the record says it
    told(capsys, "sync", result.run_id)
    [run] = server.runs.values()
    assert steps(run)[:2] == [4, 8]
    assert run.told["displayName"] == "tanh loss_softmax alpha=0.25 s3"
    assert run.told["jobType"] == "train"
    # what was asked for, and the class where nothing was
    assert (run.config["head"], run.config["net"]) == ("tanh", "wave_unet_small")

    shutil.rmtree(result.folder / "wandb")
    (result.folder / "wandb").write_text("a file in the way")
    said = told(capsys, "mirror", result.run_id, code=1)
    assert "no mirror of" in said


def test_only_the_runs_of_a_sweep_are_uploaded(server, tmp_path, capsys):
    (tmp_path / "sweeps" / "heads").mkdir(parents=True)
    for name, sweep in [("aaa", "heads"), ("bbb", None), ("ccc", None), ("ddd", None)]:
        tracker = begun(tmp_path, name, config={"sweep": sweep})
        went_on(tracker, tmp_path / name, 10)
        ended(tracker, tmp_path / name)
    # two that the sweep found finished
    report = {"trials": [{"runs": ["ccc", None]}], "finals": [{"run_id": "ddd"}]}
    (tmp_path / "sweeps" / "heads" / "trials.json").write_text(json.dumps(report))
    assert "3 runs uploaded" in told(capsys, "sync", "heads")
    assert sorted(server.runs) == ["aaa", "ccc", "ddd"]
    assert "is no run and no sweep" in told(capsys, "sync", "nobody", code=2)


def test_a_sweep_is_uploaded_while_it_runs_and_its_worker_is_killed(server, tmp_path, data_home):
    """From a node with internet, again and again, while another one trains without."""
    path = write_sweep(tmp_path / "two.py", "yield 'head=tanh'", ["tracking=wandb"])
    home, gate = tmp_path / "runs", tmp_path / "gate"
    gate.touch()
    at_work = os.environ | {
        "LIGHTNING_SEP_HOME": str(home),
        "LIGHTNING_SEP_LEASE_S": "2",
        "PYTHONPATH": os.pathsep.join([str(HOOK), str(ROOT)]),
        "FAULT": json.dumps(at("write", r"/metrics\.\d+\.jsonl", 3, gate=gate)),  # of two epochs
    }
    command = [sys.executable, "-m", "lightning_sep"]
    sweep = subprocess.Popen([*command, "sweep", str(path), "--workers", "1"], env=at_work)
    here = {"LIGHTNING_SEP_HOME": str(home)}
    until(lambda: list(tmp_path.glob("gate.*")))
    apart("sync", "two", **here)
    [begun_first] = server.runs.values()
    lease = json.loads(next(iter(home.glob("*/lease.json"))).read_text())
    os.kill(lease["owner"]["pid"], signal.SIGKILL)
    gate.unlink()
    while sweep.poll() is None:
        apart("sync", "two", **here)
        time.sleep(1)
    assert sweep.returncode == 0
    apart("sync", "two", **here)
    folders = {one.parent.name: one.parent for one in home.glob("*/record.json")}
    assert len(folders) == 2
    assert server.runs.keys() == folders.keys()
    for name, folder in folders.items():
        run = server.runs[name]
        rows = (folder / "metrics.jsonl").read_text().splitlines()
        assert steps(run)[: len(rows)] == [json.loads(row)["step"] for row in rows]
        assert len(steps(run)) == len(set(steps(run)))
        assert run.complete
    assert begun_first.complete
