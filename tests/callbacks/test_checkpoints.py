"""Checkpoints that survive kills, full disks and bad disks."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_sep import cli, experiment
from lightning_sep.callbacks.checkpoint import Checkpoints, SafeCheckpointIO
from lightning_sep.callbacks.history import History
from lightning_sep.checkpoint_files import newest as newest_of
from lightning_sep.checkpoint_files import verifies
from lightning_sep.errors import Interrupted, LeaseLost, LightningSepError, StorageError
from lightning_sep.fsio import read_lines, sha256_file
from lightning_sep.record import read_record
from lightning_sep.run_folder import RunFolder
from tests.callbacks.conftest import SETTINGS
from tests.mounts import mounted


def save(
    folder: Path, step: int, size: int = 1000, generation: int = 1, run_id: str | None = "a"
) -> Path:
    path = folder / f"step-{step:09d}.{generation}.ckpt"
    values = torch.full((size,), float(step))
    content = {"global_step": step, "state_dict": {"w": values}, "callbacks": {}, "loops": {}}
    SafeCheckpointIO(run_id).save_checkpoint(content, path)
    return path


def newest(checkpoints: Path, run_id: str = "a") -> Path | None:
    found = newest_of(RunFolder(checkpoints.parent), run_id)
    return None if found is None else found.path


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def history(folder: Path) -> list[dict[str, object]]:
    rows = read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "time_s"} for row in rows]


def test_a_checkpoint_comes_back_as_it_went(tmp_path):
    given = {
        "epoch": 3,
        "state_dict": {"w": torch.arange(5.0), "n": torch.tensor(2, dtype=torch.int64)},
        "loops": {"done": [1, None, True, "text", 0.5]},
    }
    SafeCheckpointIO().save_checkpoint(given, tmp_path / "a.ckpt")
    back = SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(back["state_dict"]["w"], given["state_dict"]["w"])
    assert back["loops"] == given["loops"]


def test_plain_torch_loads_it_safely(tmp_path):
    path = save(tmp_path, 4)
    assert torch.load(path, weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(
    "value", [Path("a"), np.float64(1.5), np.int64(2), np.zeros(2), {1, 2}, 1j, object(), print]
)
def test_what_would_not_load_safely_is_refused_by_name(tmp_path, value):
    checkpoint = {"callbacks": {"Watch": {"seen": [0, value]}}}
    with pytest.raises(TypeError, match=r"\['callbacks'\]\['Watch'\]\['seen'\]\[1\]"):
        SafeCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_real_checkpoint_holds_tensors_and_json_types_only(undisturbed):
    checkpoints = undisturbed.folder / "checkpoints"
    assert [path.name for path in checkpoints.glob("*.ckpt")] == ["best.1.ckpt"]
    for path in checkpoints.glob("*.ckpt"):
        assert torch.load(path, weights_only=True)["state_dict"]


def test_the_record_knows_the_hash_of_each_checkpoint(undisturbed):
    beside = {
        path.with_suffix(".ckpt").name: json.loads(path.read_text())["sha256"]
        for path in (undisturbed.folder / "checkpoints").glob("*.sha256")
    }
    assert undisturbed.record["checkpoints"] == beside


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    path.write_bytes(path.with_name("step-000000002.1.ckpt").read_bytes())


def lose_sum(path: Path) -> None:
    path.with_suffix(".sha256").unlink()


def tear_sum(path: Path) -> None:
    path.with_suffix(".sha256").write_text('{"sha256": "12')


@pytest.mark.parametrize("harm", [flip, truncate, swap, lose_sum, tear_sum])
def test_fault_13_after_harm_the_checkpoint_before_is_used(checkpoints, harm):
    older, newer = save(checkpoints, 2), save(checkpoints, 4)
    assert newest(checkpoints) == newer
    harm(newer)
    assert newest(checkpoints) == older
    with pytest.raises(LightningSepError, match="does not match its checksum"):
        SafeCheckpointIO().load_checkpoint(newer)


def test_fault_13_a_checkpoint_of_another_run_is_not_this_ones(checkpoints):
    save(checkpoints, 2)
    other = save(checkpoints, 4, run_id="b")
    found = newest(checkpoints)
    assert found is not None
    assert found.name == "step-000000002.1.ckpt"
    assert SafeCheckpointIO("b").load_checkpoint(other)["global_step"] == 4
    with pytest.raises(LightningSepError, match="is of run b"):
        SafeCheckpointIO("a").load_checkpoint(other)


def test_fault_13_what_is_no_checkpoint_is_passed_over_though_its_sum_fits(checkpoints):
    older = save(checkpoints, 2)
    parts = ["state_dict", "callbacks", "loops"]
    lacking = [{name: {} for name in parts if name != one} for one in parts]
    for number, content in enumerate([*lacking, [1]]):
        path = checkpoints / f"step-00000000{4 + number}.1.ckpt"
        torch.save(content, path)
        known = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        path.with_suffix(".sha256").write_text(json.dumps(known))
    assert newest(checkpoints) == older


def test_fault_26_the_newest_generation_counts_not_the_highest_step(checkpoints):
    save(checkpoints, 8, generation=1)
    heirs = save(checkpoints, 4, generation=2)
    assert newest(checkpoints) == heirs


def test_a_checkpoint_from_before_generations_is_read(checkpoints):
    path = save(checkpoints, 4)
    path.rename(checkpoints / "step-000000004.ckpt")
    path.with_suffix(".sha256").rename(checkpoints / "step-000000004.sha256")
    assert newest(checkpoints) == checkpoints / "step-000000004.ckpt"


def test_no_checkpoint_that_verifies_is_no_checkpoint(checkpoints):
    assert newest(checkpoints) is None
    truncate(save(checkpoints, 2))
    assert newest(checkpoints) is None


def test_removal_leaves_no_checksum_behind(tmp_path):
    SafeCheckpointIO().remove_checkpoint(save(tmp_path, 2))
    assert not list(tmp_path.iterdir())


def test_fault_10_a_kill_at_any_moment_leaves_the_last_good_checkpoint(tmp_path):
    """The child keeps two checkpoints, as a run does; its TMPDIR is on another disk."""
    told_path, draw = tmp_path / "told", random.Random(0)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    step, mid_write = 0, 0
    for _ in range(30):
        child = os.fork()
        if child == 0:
            os.environ["TMPDIR"] = "/dev/shm"
            try:
                for number in range(step + 1, step + 10_000):
                    save(folder, number, size=50_000)
                    told_path.write_text(str(number).zfill(9))
                    for old in sorted(folder.glob("step-*.ckpt"), reverse=True)[2:]:
                        SafeCheckpointIO().remove_checkpoint(old)
            finally:
                os._exit(1)
        time.sleep(0.01 + draw.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        mid_write += any(".aside-" in path.name for path in folder.iterdir())
        found = newest(folder)
        told = int((told_path.read_text() or "0") if told_path.exists() else 0)
        if told:
            assert found is not None
            loaded = SafeCheckpointIO("a").load_checkpoint(found)
            assert loaded["global_step"] >= told
            assert bool((loaded["state_dict"]["w"] == loaded["global_step"]).all())
            step = loaded["global_step"]
    assert step > 10
    assert mid_write, "no kill fell into a write"


def test_fault_11_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    small_disk, undisturbed, capsys, monkeypatch
):
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(small_disk))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_700_000))  # leaves room for three checkpoints, not for the fourth
    assert cli.main(["train", *SETTINGS]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no space left" in said
    folder = small_disk / undisturbed.run_id
    left = newest(folder / "checkpoints", undisturbed.run_id)
    assert left is not None
    assert read_record(folder) is None
    ballast.unlink()
    assert cli.main(["train", *SETTINGS]) == 0
    record = read_record(folder)
    assert record is not None
    assert record["metrics"] == undisturbed.record["metrics"]
    assert record["attempts"] == 2
    assert history(folder) == history(undisturbed.folder)
    assert not list((folder / "checkpoints").glob(".*"))


@pytest.mark.parametrize("free", [4096, 24_576])  # nothing can begin; or W&B's log can
def test_a_full_disk_stops_training_but_not_because_of_wandb(
    small_disk, undisturbed, capsys, monkeypatch, free
):
    monkeypatch.setattr("logging.raiseExceptions", True)
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(small_disk))
    (small_disk / "ballast").write_bytes(bytes(2**22 - free))
    settings = [one for one in SETTINGS if not one.startswith("tracking=")]
    assert cli.main(["train", *settings, "tracking=wandb"]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert "no space left" in last
    assert all("W&B is off" in line for line in before)


def test_fault_12_a_folder_that_may_not_be_written_is_told_before_training(
    tmp_path, capsys, monkeypatch
):
    with mounted(tmp_path / "readonly", "-t", "tmpfs", "-o", "ro", "tmpfs") as folder:
        monkeypatch.setenv("LIGHTNING_SEP_HOME", str(folder))
        assert cli.main(["train", *SETTINGS]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be written" in said
    assert "LIGHTNING_SEP_HOME" in said


def test_a_file_in_place_of_the_home_is_told_before_training(tmp_path, capsys, monkeypatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(tmp_path / "home"))
    assert cli.main(["train", *SETTINGS]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_run_goes_on_from_the_older_checkpoint_when_the_newer_is_harmed(
    tmp_path, settings, undisturbed
):
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        experiment.run(settings(), home=tmp_path, should_stop=lambda: next(asked) >= 8)
    folder = tmp_path / undisturbed.run_id
    left = newest(folder / "checkpoints", undisturbed.run_id)
    assert left is not None
    flip(left)
    before = newest(folder / "checkpoints", undisturbed.run_id)
    assert before is not None
    assert before < left
    result = experiment.run(settings(), home=tmp_path)
    assert result.record["metrics"] == undisturbed.record["metrics"]
    assert history(folder) == history(undisturbed.folder)


def test_who_has_lost_the_run_writes_no_checkpoint(tmp_path, settings, undisturbed):
    folder = tmp_path / undisturbed.run_id / "checkpoints"

    def guard() -> None:
        if list(folder.glob("*.ckpt")):
            raise LeaseLost("another process owns the run")

    with pytest.raises(LeaseLost):
        experiment.run(settings(), home=tmp_path, guard=guard)
    assert [path.name for path in folder.glob("*.ckpt")] == ["step-000000002.1.ckpt"]
    assert read_record(folder.parent) is None


def test_the_best_epoch_is_kept_beside_the_newest(undisturbed):
    rows = read_lines(undisturbed.folder / "metrics.jsonl")
    best = max(rows, key=lambda row: row["val/si_sdr_improvement_db"])
    path = undisturbed.folder / "checkpoints" / "best.1.ckpt"
    assert verifies(path)
    content = torch.load(path, weights_only=True)
    assert content["global_step"] == best["step"]
    assert not content.keys() & {"optimizer_states", "callbacks"}, "nobody goes on from it"


def test_the_last_epoch_is_saved_though_it_is_not_its_turn(tmp_path, settings):
    made = settings("trainer.checkpoint_every_epochs=2", "trainer.checkpoint_every_steps=null")
    child = os.fork()
    if child == 0:
        try:
            experiment.write_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            experiment.run(made, home=tmp_path)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    found = sorted(path.name for path in tmp_path.glob("*/checkpoints/step-*.ckpt"))
    assert found == ["step-000000008.1.ckpt", "step-000000012.1.ckpt"]


def test_a_checkpoint_is_due_some_minutes_after_the_last_one(tmp_path):
    now_s = [1000.0]
    folder, guard = RunFolder(tmp_path), lambda: None
    history = History(folder, generation=1, monitor="a", mode="max", told=print, guard=guard)
    made = Checkpoints(
        folder, history=history, generation=1, every_min=2.0, guard=guard, clock=lambda: now_s[0]
    )
    assert not made.due
    now_s[0] += 119.0
    assert not made.due
    now_s[0] += 2.0
    assert made.due


def test_what_is_due_is_saved_in_training_and_in_validation(tmp_path, settings, monkeypatch):
    saved: list[tuple[int, bool]] = []
    save = SafeCheckpointIO.save_checkpoint

    def noted(self, checkpoint, path, storage_options=None):
        if Path(path).name.startswith("step-"):
            saved.append((checkpoint["global_step"], "validation_pending" in checkpoint))
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(SafeCheckpointIO, "save_checkpoint", noted)
    rarely = ["trainer.checkpoint_every_steps=null", "trainer.checkpoint_every_epochs=100"]
    for every_min in ("1e-9", "1000"):
        experiment.run(
            settings(*rarely, "trainer.epochs=2", f"trainer.checkpoint_every_min={every_min}"),
            home=tmp_path / every_min,
        )
    first, second = [(1, False), (2, False), (3, False), (4, True), (4, False)], (8, False)
    later = [(step + 4, pending) for step, pending in first]
    assert saved == [*first, *later, second]
    saved.clear()
    batches: list[int] = []  # each takes a minute, those of validation too
    defaults = Checkpoints.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "clock", lambda: 60.0 * len(batches))
    experiment.run(
        settings(*rarely, "trainer.epochs=2", "trainer.checkpoint_every_min=1.5"),
        home=tmp_path,
        alive=lambda: batches.append(1),
    )
    assert saved == [(2, False), (4, True), (6, False), (8, True), (8, False)]


def test_validation_saves_nothing_by_itself(tmp_path, settings, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("nobody has asked for it, nor is it due")

    monkeypatch.setattr(Checkpoints, "save_before_validation", refuse)
    experiment.run(settings("trainer.epochs=1"), home=tmp_path)


def test_storage_errors_of_a_checkpoint_name_the_folder(small_disk):
    (small_disk / "ballast").write_bytes(bytes(4_100_000))
    with pytest.raises(StorageError, match=r"no space left on the disk of .*small"):
        save(small_disk, 1, size=100_000)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
