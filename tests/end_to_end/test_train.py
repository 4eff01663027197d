"""One run: the same bits again, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_sep.checkpoint_files import newest
from lightning_sep.fsio import read_lines
from lightning_sep.record import read_record, read_records
from lightning_sep.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SETTINGS = [
    "task=separation",
    "examples.train=96",
    "examples.val=8",
    "examples.test=8",
    "examples.batch_size=8",
    "examples.segment_s=0.5",
    "trainer.epochs=2",
    "trainer.checkpoint_every_steps=5",
    "seed=3",
]


def start(home: Path, *more: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_sep", "train", *SETTINGS, *more],
        env={**os.environ, "LIGHTNING_SEP_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def only_run(home: Path) -> Path:
    [record] = read_records(home)
    return home / record["run_id"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_home: Path) -> Path:
    home = tmp_path_factory.mktemp("undisturbed")
    finish(start(home))
    return only_run(home)


def assert_same_result(one: Path, other: Path) -> None:
    a, b = read_record(one), read_record(other)
    assert a is not None
    assert b is not None
    assert a["run_id"] == b["run_id"]
    assert a["metrics"] == b["metrics"]
    assert a["hashes"]["weights"] == b["hashes"]["weights"]
    first, second = (
        torch.load(RunFolder(run).bests()[0], weights_only=True)["state_dict"]
        for run in (one, other)
    )
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    strip = [
        [
            {k: v for k, v in row.items() if k != "time_s"}
            for row in read_lines(run / "metrics.jsonl")
        ]
        for run in (one, other)
    ]
    assert strip[0] == strip[1]


def test_one_seed_gives_the_same_metrics_bit_for_bit(undisturbed: Path, tmp_path: Path) -> None:
    finish(start(tmp_path))
    assert_same_result(undisturbed, only_run(tmp_path))


def test_a_run_killed_in_mid_epoch_ends_with_the_same_weights(
    undisturbed: Path, tmp_path: Path
) -> None:
    """Its examples come from two more processes, which changes nothing either."""
    process = start(tmp_path, "trainer.workers=2")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("*/checkpoints/step-000000005.1.sha256")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    [folder] = [path for path in tmp_path.iterdir() if path.name != "leases"]
    assert read_record(folder) is None
    where = newest(RunFolder(folder), folder.name)
    assert where is not None
    assert where.step % 12 != 0, "the kill came too late to be mid-epoch"
    finish(start(tmp_path, "trainer.workers=2"))
    assert_same_result(undisturbed, only_run(tmp_path))
    record = read_record(folder)
    assert record is not None
    assert record["attempts"] == 2


def test_a_run_asked_to_stop_says_how_to_go_on_and_does(undisturbed: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("*/checkpoints/step-000000005.1.sha256")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"stopped on request" in errors
    assert b"Traceback" not in errors
    finish(start(tmp_path))
    assert_same_result(undisturbed, only_run(tmp_path))


def test_a_finished_run_is_not_trained_twice(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    finish(start(undisturbed.parent))
    after = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert before == after


def test_a_record_holds_what_others_need(undisturbed: Path) -> None:
    text = (undisturbed / "record.json").read_text()
    record = json.loads(text)
    assert next(iter(record)) == "format"
    needed = {
        *("run_id", "state", "task", "settings", "seed", "sweep", "trial", "metrics"),
        *("parameters", "data", "environment", "started", "finished"),
    }
    assert needed <= record.keys()
    assert record["state"] == "finished"
    assert record["task"] == "separation"
    assert "test/si_sdr_improvement_db" in record["metrics"]
    values = json.loads((undisturbed / record["examples_file"]).read_text())
    values = values["test/si_sdr_improvement_db"]
    assert sum(values) / len(values) == pytest.approx(
        record["metrics"]["test/si_sdr_improvement_db"], abs=1e-4
    )
