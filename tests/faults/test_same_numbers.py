"""One setting, one number: whatever the number of workers, the order, or who else is at it."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import (
    ROOT,
    Lab,
    Raw,
    at,
    equal_runs,
    frozen_below,
    history,
    invariants,
    no_worker,
    record_of,
    same,
    same_run,
    trials_of,
    until,
    write_sweep,
)

MakeLab = Callable[..., Lab]
LONG_S = "600"  # a process that stands still for less than that is not taken for gone
IN_THE_MIDDLE = at("write", r"/metrics", 2, signal=signal.SIGSTOP)


def test_fault_30_and_24_other_numbers_of_workers_and_a_stop_change_no_number(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """One worker, and the sweep is stopped when its last run has begun; then two."""
    last = at("write", r"/\.settings\.yaml", 4, signal=signal.SIGSTOP)
    first = lab.start("sweep", str(tiny), "--workers", "1", fault=last)
    first.until(lambda: frozen_below(first.pid))
    assert lab.say("stop", "tiny") == 0
    for pid in frozen_below(first.pid):
        os.kill(pid, signal.SIGCONT)
    first.end(1)
    until(lambda: no_worker(lab.home))
    assert len(list(lab.home.glob("*/record.json"))) == 3
    lab.start("sweep", str(tiny), "--workers", "2").end()
    same(lab, undisturbed, tiny)


@pytest.mark.slow
def test_fault_30_one_worker_finds_what_two_find(lab: Lab, undisturbed: Lab, tiny: Path) -> None:
    lab.start("sweep", str(tiny), "--workers", "1").end()
    same(lab, undisturbed, tiny)


def copied(folder: Path) -> Path:
    """The package as it is now, to be edited."""
    for name in ("lightning_sep", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def test_fault_31_an_edited_head_is_another_run_and_undone_it_is_the_first_one(
    lab: Lab, tmp_path: Path
) -> None:
    tree = copied(tmp_path / "tree")
    head = tree / "lightning_sep" / "heads" / "tanh.py"
    text = head.read_text()
    head.write_text(text.replace(".tanh()", ".tanh() * 0.5"))
    assert head.read_text() != text
    first, edited = lab.train("head=tanh"), lab.train("head=tanh", PYTHONPATH=str(tree))
    first.end()
    edited.end()
    said = [re.findall(r"run (\w+) finished", one.text())[0] for one in (first, edited)]
    assert said[0] != said[1]
    assert history(lab.home / said[0]) != history(lab.home / said[1])
    head.write_text(text)
    before = {path: path.stat().st_mtime_ns for path in (lab.home / said[0]).rglob("*")}
    undone = lab.train("head=tanh", PYTHONPATH=str(tree))
    undone.end()
    assert f"run {said[0]} finished" in undone.text()
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_a_sweep_without_a_pruner_takes_no_pruned_run_for_its_own(
    lab: Lab, undisturbed: Lab, sweeps: Path
) -> None:
    body = "yield f\"head={trial.suggest_categorical('head', ['tanh', 'sine'])}\""
    pruner = Raw("optuna.pruners.ThresholdPruner(lower=1000.0)")
    pruned = write_sweep(sweeps / "pruned.py", body, finalists=0, pruner=pruner)
    whole = write_sweep(sweeps / "whole.py", body, finalists=0)
    for path in (pruned, whole):
        lab.begin(path)
        lab.worker(path.stem).end()
        lab.conclude(path)
    assert [trial["state"] for trial in lab.report("pruned")["trials"]] == ["pruned"] * 2
    assert [trial["state"] for trial in lab.report("whole")["trials"]] == ["finished"] * 2
    for run in lab.runs():
        equal_runs(undisturbed.home / run.name, run)
    invariants(lab, "whole")


@pytest.mark.slow
def test_a_sweep_that_is_begun_anew_under_its_name_takes_no_pruned_run_of_the_first(
    lab: Lab, undisturbed: Lab, sweeps: Path
) -> None:
    body = "yield f\"head={trial.suggest_categorical('head', ['tanh', 'sine'])}\""
    for pruner in (Raw("optuna.pruners.ThresholdPruner(lower=1000.0)"), None):
        path = write_sweep(sweeps / "anew.py", body, finalists=0, pruner=pruner)
        lab.begin(path)
        lab.worker("anew").end()
        lab.conclude(path)
        states = [trial["state"] for trial in lab.report("anew")["trials"]]
        assert states == ["finished" if pruner is None else "pruned"] * 2
        if pruner is not None:
            shutil.rmtree(lab.home / "sweeps" / "anew")
    for run in lab.runs():
        equal_runs(undisturbed.home / run.name, run)


def test_fault_5_one_of_three_processes_trains_a_run_and_the_others_say_or_wait(
    lab: Lab, undisturbed: Lab, one: Path
) -> None:
    """A ``train``, held in the middle; the same ``train`` again; a worker on the same run."""
    lab.extra["LIGHTNING_SEP_LEASE_S"] = LONG_S
    lab.begin(one)
    first = lab.train("head=tanh", fault=IN_THE_MIDDLE)
    first.until(first.frozen)
    [run] = lab.runs()
    assert record_of(run) is None
    second, worker = lab.train("head=tanh"), lab.worker("one")
    second.end(1, 2)
    assert str(first.pid) in second.text().splitlines()[-1]
    assert "Traceback" not in second.text()
    worker.until(lambda: trials_of(lab.home, "one"))
    assert worker.running()
    first.wake()
    first.end()
    worker.end()
    same_run(lab, undisturbed, one)
    assert len((run / "attempts.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_train_beside_a_worker_on_its_run_says_who_does_it(
    lab: Lab, undisturbed: Lab, one: Path
) -> None:
    lab.extra["LIGHTNING_SEP_LEASE_S"] = LONG_S
    lab.begin(one)
    worker = lab.worker("one", fault=IN_THE_MIDDLE)
    worker.until(worker.frozen)
    beside = lab.train("head=tanh")
    beside.end(1, 2)
    assert str(worker.pid) in beside.text().splitlines()[-1]
    worker.wake()
    worker.end()
    same_run(lab, undisturbed, one)


def test_fault_31_a_head_edited_while_a_sweep_runs_gives_no_number_under_the_old_id(
    lab: Lab, undisturbed: Lab, sweeps: Path, tmp_path: Path
) -> None:
    """The worker reaches the second head, and imports it, when it has trained the first.

    Undone, the same command goes on.
    """
    tree = copied(tmp_path / "tree")
    lab.extra["PYTHONPATH"] = str(tree)
    sweep = write_sweep(sweeps / "late.py", finalists=0)
    first = lab.start("sweep", str(sweep), "--workers", "1", fault=IN_THE_MIDDLE)
    first.until(lambda: frozen_below(first.pid))
    [begun] = lab.runs()
    texts = {head: head.read_text() for head in (tree / "lightning_sep" / "heads").glob("*.py")}
    for head, text in texts.items():
        head.write_text(text.replace("return raw", "return 0.5 * raw"))
    for pid in frozen_below(first.pid):
        os.kill(pid, signal.SIGCONT)
    first.end(2)
    assert re.search(r"error: .*/heads/\w+\.py was edited after this process", first.text())
    assert [run.name for run in lab.home.iterdir() if (run / "record.json").exists()] == [
        begun.name
    ]
    for head, text in texts.items():
        head.write_text(text)
    lab.start("sweep", str(sweep), "--workers", "1").end()
    for run in lab.runs():
        equal_runs(undisturbed.home / run.name, run)
    invariants(lab, "late")


def test_fault_19_defaults_edited_while_a_sweep_runs_are_refused_and_never_mixed(
    lab: Lab, undisturbed: Lab, sweeps: Path, tmp_path: Path
) -> None:
    """The worker reads entries anew for its second trial; undone, the same command goes on."""
    tree = copied(tmp_path / "tree")
    lab.extra["PYTHONPATH"] = str(tree)
    sweep = write_sweep(sweeps / "defaults.py", finalists=0)
    first = lab.start("sweep", str(sweep), "--workers", "1", fault=IN_THE_MIDDLE)
    first.until(lambda: frozen_below(first.pid))
    entry = tree / "conf" / "net" / "wave_unet_small.yaml"
    text = entry.read_text()
    entry.write_text(text.replace("down_kernel: 15", "down_kernel: 13"))
    assert entry.read_text() != text
    for pid in frozen_below(first.pid):
        os.kill(pid, signal.SIGCONT)
    first.end(2)
    again = lab.start("sweep", str(sweep), "--workers", "1")
    again.end(2)
    for process in (first, again):
        assert "begun with conf/net/wave_unet_small.yaml" in process.text()
    assert len(list(lab.home.glob("*/record.json"))) == 1, "the run that had begun"
    entry.write_text(text)
    lab.start("sweep", str(sweep), "--workers", "1").end()
    for run in lab.runs():
        equal_runs(undisturbed.home / run.name, run)
    invariants(lab, "defaults")
