"""One run over several attempts: what is taken over, trained again, kept and removed."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.callbacks.checkpoint import SafeCheckpointIO
from lightning_sep.errors import Busy, Interrupted, LeaseLost, NonFiniteLoss
from lightning_sep.fsio import PATIENCE, append_line, read_lines
from lightning_sep.record import misfits, read_record
from lightning_sep.run_folder import RunFolder
from lightning_sep.sweep.singles import run_state


def history(folder: Path) -> list[dict[str, object]]:
    rows = read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "time_s"} for row in rows]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def killed_before_its_record(settings: Any, home: Path) -> Path:
    """A run that is trained and tested, whose process is gone then; its folder."""
    child = os.fork()
    if child == 0:
        try:
            experiment.write_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            experiment.run(settings, home=home)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    [folder] = [path for path in home.iterdir() if path.name != "leases"]
    assert read_record(folder) is None
    return folder


def stopped(settings: Any, home: Path, after: int, **more: Any) -> None:
    asked = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        experiment.run(settings, home=home, should_stop=lambda: next(asked) >= after, **more)


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "gone"])
def test_fault_13_best_weights_that_are_lost_before_the_test_are_trained_again(
    tmp_path, settings, undisturbed, gone
):
    folder = killed_before_its_record(settings(), tmp_path)
    [best] = RunFolder(folder).bests()
    if gone:
        best.unlink()
    else:
        flip(best)
    result = experiment.run(settings(), home=tmp_path)
    assert result.record["metrics"] == undisturbed.record["metrics"]
    assert result.record["hashes"]["weights"] == undisturbed.record["hashes"]["weights"]
    assert history(folder) == history(undisturbed.folder)
    log = (folder / "log.txt").read_text()
    assert "the best epoch's weights are damaged or gone: train again" in log
    starts = [line.split("start at step ")[1] for line in log.splitlines() if "start at" in line]
    assert starts == ["0 of 12", "12 of 12", "0 of 12"]


def test_fault_13_best_weights_that_are_lost_while_it_trains_are_trained_from_the_start(
    tmp_path, settings, undisturbed
):
    reported = []

    def report(epoch: int, value: float) -> bool:
        reported.append(epoch)
        if len(reported) == 3:
            for path in RunFolder(tmp_path / undisturbed.run_id).bests():
                path.unlink()
        return False

    result = experiment.run(settings(), home=tmp_path, report=report)
    assert reported == [0, 1, 2] * 2
    assert result.record["metrics"] == undisturbed.record["metrics"]
    assert history(result.folder) == history(undisturbed.folder)


def test_an_attempt_that_lost_its_run_removes_nothing_to_begin_anew(tmp_path, settings):
    folder = killed_before_its_record(settings(), tmp_path)
    [best] = RunFolder(folder).bests()
    flip(best)
    left = {path for path in folder.rglob("*.ckpt*")}

    def guard() -> None:
        if "train again" in (folder / "log.txt").read_text():
            raise LeaseLost("another process has the run")

    with pytest.raises(LeaseLost):
        experiment.run(settings(), home=tmp_path, guard=guard)
    assert left <= {path for path in folder.rglob("*.ckpt*")}


def test_a_runs_folder_holds_what_is_known_of_it_and_no_more(undisturbed):
    found = {path.name for path in undisturbed.folder.iterdir()} - {"audio", "evaluations"}
    assert found == {
        *("settings.yaml", "attempts.jsonl", "log.txt", "lease.json", "record.json"),
        *("metrics.jsonl", "metrics.1.jsonl", "test_examples.1.json", "checkpoints"),
    }


def test_fault_26_the_weights_of_another_step_are_not_the_best_ones(
    tmp_path, settings, undisturbed
):
    """A copy that woke has put a whole checkpoint of a worse epoch in their place."""
    folder = killed_before_its_record(settings("trainer.epochs=3"), tmp_path)
    run = RunFolder(folder)
    [best] = run.bests()
    content = torch.load(best, weights_only=True)
    other = experiment.run(settings(), home=tmp_path / "other")
    assert other.record["metrics"] == undisturbed.record["metrics"]
    content["global_step"] += 4
    content["state_dict"] = {key: 0 * value for key, value in content["state_dict"].items()}

    SafeCheckpointIO(folder.name).save_checkpoint(content, best)
    result = experiment.run(settings(), home=tmp_path)
    assert result.record["metrics"] == undisturbed.record["metrics"]


def test_a_finished_run_keeps_the_weights_that_its_record_names_and_no_more(
    tmp_path, settings, undisturbed
):
    stopped(settings(), tmp_path, after=7)
    result = experiment.run(settings(), home=tmp_path)
    left = sorted(path.name for path in (result.folder / "checkpoints").iterdir())
    assert left == ["best.2.ckpt", "best.2.sha256"]
    assert list(result.record["checkpoints"]) == ["best.2.ckpt"]
    assert misfits(result.folder, result.record, checkpoint=True) == []
    left = sorted(path.name for path in result.folder.iterdir() if path.is_file())
    assert left == [
        *("attempts.jsonl", "lease.json", "log.txt", "metrics.2.jsonl", "metrics.jsonl"),
        *("record.json", "settings.yaml", "test_examples.2.json"),
    ]
    assert json.loads((result.folder / "lease.json").read_text())["token"] == ""


def test_a_run_that_another_has_finished_keeps_what_that_ones_record_names(
    tmp_path, settings, undisturbed
):
    """A copy that woke was done first: its record stands, so its weights and examples stay."""
    stopped(settings(), tmp_path, after=7)
    folder = tmp_path / undisturbed.run_id
    theirs = ("record.json", "test_examples.1.json", "checkpoints/best.1.ckpt")

    def report(epoch: int, value: float) -> bool:
        if epoch == 2:
            for name in theirs:
                shutil.copy(undisturbed.folder / name, folder / name)
        return False

    result = experiment.run(settings(), home=tmp_path, report=report)
    assert result.record == undisturbed.record
    assert misfits(folder, result.record, checkpoint=True) == []
    assert [path.name for path in RunFolder(folder).bests()] == ["best.1.ckpt"]


LOST, SWEPT = 7, 8  # exit codes: told so, or by a temporary file that its heir has removed


def frozen(settings: Any, home: Path, event: str, name: str, turn: int) -> int:
    """A process that trains and stands still before a file operation; its id.

    Args:
        settings: of the run.
        home: where runs lie.
        event: of Python's audit hooks.
        name: of the file, as a regular expression.
        turn: at the how manieth of these, from 1.
    """
    child = os.fork()
    if child:
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]), "it should stand still"
        return child
    seen = 0

    def hook(what: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if what != event or threading.current_thread() is not threading.main_thread():
            return
        path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        if re.fullmatch(name, Path(os.fsdecode(path)).name):
            seen += 1
            if seen == turn:
                os.kill(os.getpid(), signal.SIGSTOP)

    try:
        sys.addaudithook(hook)
        experiment.run(settings, home=home)
        os._exit(0)
    except LeaseLost:
        os._exit(LOST)
    except FileNotFoundError:
        os._exit(SWEPT)
    finally:
        os._exit(1)


@pytest.mark.parametrize(
    ("event", "name", "turn", "when"),
    [
        ("os.rename", r"metrics\.jsonl", 1, "tests"),
        ("open", r"metrics\.1\.jsonl", 2, "has ended"),
        ("os.rename", r"best\.1\.ckpt", 1, "tests"),
        ("os.rename", r"step-000000006\.1\.ckpt", 1, "trains"),
        ("os.link", r"record\.json", 1, "trains"),
    ],
)
def test_fault_26_and_4_what_a_frozen_copy_writes_when_it_wakes_is_not_read(
    tmp_path, settings, undisturbed, monkeypatch, event, name, turn, when
):
    """It has lost its run to another one, which trains, tests or has ended by then."""
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", "0.5")
    child, reported, ends = frozen(settings(), tmp_path, event, name, turn), [], []

    def wake() -> None:
        if not ends:
            os.kill(child, signal.SIGCONT)
            ends.append(os.waitpid(child, 0)[1])

    def report(epoch: int, value: float) -> bool:
        reported.append(epoch)
        if when == "trains":
            wake()
        return False

    def alive() -> None:
        if when == "tests" and 2 in reported:
            wake()

    asks: dict[str, Any] = {"report": report, "alive": alive, "busy": lambda _: time.sleep(0.05)}
    try:
        result = experiment.run(settings(), home=tmp_path, **asks)
    finally:
        wake()
    assert os.waitstatus_to_exitcode(ends[0]) == (SWEPT if "record" in name else LOST)
    assert read_record(result.folder) == result.record
    assert misfits(result.folder, result.record, checkpoint=True) == []
    assert result.record["metrics"] == undisturbed.record["metrics"]
    for what in ("weights", "examples"):
        assert result.record["hashes"][what] == undisturbed.record["hashes"][what]
    assert history(result.folder) == history(undisturbed.folder)
    assert not list(result.folder.rglob(".*aside*"))


def test_a_record_tells_every_attempt_and_on_what_it_ran(tmp_path, settings):
    stopped(settings(), tmp_path, after=3, sweep="one", trial=7, purpose="search")
    stopped(settings(), tmp_path, after=3, sweep="one", trial=7, purpose="search")
    [noted] = tmp_path.glob("*/attempts.jsonl")
    for damaged in ('{"generation": 9}', "[]", '{"star'):
        append_line(noted, damaged)
    assert run_state(noted.parent)["state"] == "stopped"
    record = experiment.run(
        settings(), home=tmp_path, sweep="one", trial=7, purpose="search"
    ).record
    assert record["attempts"] == 3
    assert [one["generation"] for one in record["attempted"]] == [1, 2, 3]
    assert {one["fingerprint_hash"] for one in record["attempted"]} == {record["fingerprint_hash"]}
    assert all(one["host"] for one in record["attempted"])
    assert record["started"] == record["attempted"][0]["started"]
    assert (record["sweep"], record["trial"], record["purpose"]) == ("one", 7, "search")
    assert record["error"] is None
    assert record["parameters"] > 0
    assert record["wall_s"] >= record["device_s"] > 0


def test_a_search_writes_no_audio_and_others_as_much_as_they_are_asked_for(tmp_path, settings):
    made = settings("trainer.epochs=1", "tracking.audio_examples=1")
    searched = experiment.run(made, home=tmp_path / "search", purpose="search")
    assert not (searched.folder / "audio").exists()
    single = experiment.run(made, home=tmp_path / "single")
    names = sorted(path.name for path in (single.folder / "audio").iterdir())
    assert "0-mixture.flac" in names
    assert {name.split("-")[0] for name in names} == {"0"}
    assert single.record["metrics"] == searched.record["metrics"]


def test_a_run_that_is_trained_elsewhere_is_refused_with_who_does_it(tmp_path, settings):
    begun, go_on = threading.Event(), threading.Event()

    def report(epoch: int, value: float) -> bool:
        begun.set()
        assert go_on.wait(60)
        return False

    made, done = settings(), []
    thread = threading.Thread(
        target=lambda: done.append(experiment.run(made, home=tmp_path, report=report))
    )
    thread.start()
    try:
        assert begun.wait(60)
        with pytest.raises(Busy, match=f"is being trained by process {os.getpid()}"):
            experiment.run(made, home=tmp_path)
        waited = []

        def busy(owner: Any) -> None:
            waited.append(owner.pid)
            go_on.set()
            thread.join(60)

        result = experiment.run(made, home=tmp_path, busy=busy)
    finally:
        go_on.set()
        thread.join(60)
    assert waited == [os.getpid()]
    assert result.record == done[0].record
    assert len(read_lines(result.folder / "attempts.jsonl")) == 1


def test_what_fails_by_its_settings_has_a_record_and_what_the_machine_breaks_has_none(
    tmp_path, settings
):
    def broken(error: Exception) -> Any:
        def report(epoch: int, value: float) -> bool:
            raise error

        return report

    for error in (ValueError("two\nlines"), MemoryError()):
        home = tmp_path / type(error).__name__
        with pytest.raises(type(error)):
            experiment.run(settings(), home=home, report=broken(error))
        [folder] = [path for path in home.iterdir() if path.name != "leases"]
        record = read_record(folder)
        if isinstance(error, ValueError):
            assert record is not None
            assert (record["state"], record["error"]) == ("failed", "two")
        else:
            assert record is None
    begun = tmp_path / "ValueError" / folder.name

    def goes_on(epoch: int, value: float) -> bool:
        assert read_record(begun) is None, "nobody is told that it has failed while it goes on"
        return False

    result = experiment.run(settings(), home=tmp_path / "ValueError", report=goes_on)
    assert (result.state, result.folder) == ("finished", begun)
    assert (result.folder / "record.failed.json").exists()


def test_a_run_whose_values_were_never_finite_has_failed(tmp_path, settings):
    made = settings("optimizer.learning_rate=1e38", "trainer.gradient_clip=null")
    for _ in range(2):  # the second time from what the first has left
        with pytest.raises(NonFiniteLoss):
            experiment.run(made, home=tmp_path)


def test_an_edited_record_is_kept_apart_and_the_run_is_done_again(
    tmp_path, settings, undisturbed, capsys
):
    folder = experiment.run(settings(), home=tmp_path).folder
    record = json.loads((folder / "record.json").read_text())
    record["metrics"]["test/si_sdr_improvement_db"] = 99.0
    (folder / "record.json").write_text(json.dumps(record))
    result = experiment.run(settings(), home=tmp_path)
    assert result.record["metrics"] == undisturbed.record["metrics"]
    assert "was changed after it was written" in capsys.readouterr().err
    [kept] = folder.glob("record.json.damaged-*")
    assert json.loads(kept.read_text())["metrics"]["test/si_sdr_improvement_db"] == 99.0


def test_ctrl_c_in_python_is_a_keyboard_interrupt_and_the_next_one_too(tmp_path, settings):
    asked = iter(range(1000))

    def press() -> bool:
        if next(asked) == 2:
            signal.raise_signal(signal.SIGINT)
        return False

    held = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            experiment.run(settings(), home=tmp_path, should_stop=press)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, held)
    assert experiment.run(settings(), home=tmp_path).state == "finished"


def test_fault_14_what_leads_to_the_first_step_is_progress(tmp_path, settings, monkeypatch):
    """On a busy machine it may take longer than a step may."""
    told: list[str] = []
    monkeypatch.setattr(PATIENCE, "pulse", lambda: told.append("gets ready"))
    experiment.run(settings(), home=tmp_path, alive=lambda: told.append("step"))
    assert told[: told.index("step")] == ["gets ready"] * 3
