"""What `preflight` finds out before a sweep is sent, and that it leaves nothing behind."""

import json
import sys
from pathlib import Path

import pytest

from lightning_sep import cli
from lightning_sep.launchers.shared_disk import disk
from lightning_sep.launchers.slurm import minutes
from tests.faults.harness import PLUGIN, TINY, write_sweep


def told(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["preflight", *command])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_each_entry_that_the_space_reaches_makes_real_steps(home, tmp_path, capsys) -> None:
    body = (
        "yield f\"head={trial.suggest_categorical('head', ['tanh', 'sine'])}\"\n"
        "    yield f\"optimizer.learning_rate={trial.suggest_float('lr', 1e-3, 1e-2)}\""
    )
    path = write_sweep(tmp_path / "tiny.py", body, trials=6, final_seeds=3, repeats=2)
    code, out, _ = told(capsys, str(path), "--json")
    assert code == 0
    found = json.loads(out)
    assert [one["overrides"][0] for one in found["tried"]] in (
        ["head=tanh", "head=sine"],
        ["head=sine", "head=tanh"],
    )
    assert found["tried"][1]["shows"] == [found["tried"][1]["overrides"][0]]
    assert {one["steps"] for one in found["tried"]} == {40}  # 4 epochs of 40 examples by fours
    assert found["runs"] == 6 * 2 + 1 * 3
    mean_s = sum(one["step_s"] for one in found["tried"]) / 2
    assert found["device_hours"] == pytest.approx(15 * 40 * mean_s / 3600, abs=1e-4)
    assert found["needed_gb"] > 0
    assert not home.exists()


def test_what_cannot_train_is_named_and_the_others_are_tried(
    home, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "faulty_heads")
    home.mkdir(parents=True)
    body = """head = trial.suggest_categorical('head', ['faulty', 'tanh'])
    yield f'head={head}'
    if head == 'faulty':
        yield 'head.fault=cuda'"""
    path = write_sweep(tmp_path / "two.py", body)
    code, out, err = told(capsys, "--config-dir", str(PLUGIN / "conf"), str(path))
    sys.modules["faulty_heads"].BROKEN.clear()
    assert (code, err.count("\n")) == (2, 1), err
    assert "two: head=faulty head.fault=cuda: CUDA error: uncorrectable ECC" in err
    assert "two: head=tanh: " in out
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_written_is_a_line(tmp_path, data_home, capsys, monkeypatch) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path / "runs"))
    code, _, err = told(capsys, "--grid", *TINY, "head=tanh,sine")
    assert (code, err.count("\n")) == (2, 1)
    assert str(tmp_path / "runs") in err


def test_a_file_is_needed(capsys) -> None:
    assert told(capsys, "head=tanh")[0] == 2


def test_the_kind_of_a_disk_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    mounts.write_text(f"root / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\nt {tmp_path} xfs\n")
    assert disk(inner / "runs", mounts) == "nfs4"
    assert disk(tmp_path, mounts) == "xfs"
    assert disk(Path("/nowhere"), mounts) == "ext4"
    assert disk(inner, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("limit", "found"),
    [("5:00", 5), ("1:30:00", 90), ("2-00:00:00", 2880), ("30", 30), ("infinite", None)],
)
def test_times_are_read_as_slurm_writes_them(limit: str, found: float | None) -> None:
    assert minutes(limit) == found
