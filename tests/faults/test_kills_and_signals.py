"""Kills and signals at chosen moments of real runs: nothing is lost, doubled or told twice."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import (
    PLUGIN,
    Lab,
    at,
    epochs,
    equal,
    invariants,
    steps,
    trials_of,
    write_sweep,
)

MakeLab = Callable[..., Lab]
GRACE_S = 30.0


def killed_in_each(lab: Lab, sweep: Path, kills: int) -> None:
    """Kill a worker when it has written one more checkpoint of an epoch, again and again.

    Every other time within the write of the next one, its temporary file half there.
    """
    lab.begin(sweep)
    for kill in range(kills):
        event, when = ("rename", 2) if kill % 2 == 0 else ("write", 2)
        fault = at(event, r"/checkpoints/\.?step-\d+[^/]*ckpt", when, signal=signal.SIGKILL)
        lab.worker(sweep.stem, fault=fault).end(-signal.SIGKILL)
        [run] = lab.runs()
        assert epochs(run) == [], "all of this happens within the first epoch"
    lab.worker(sweep.stem).end()
    lab.conclude(sweep)


@pytest.mark.parametrize(
    "kills", [3, pytest.param(6, marks=pytest.mark.slow)], ids=["three", "six"]
)
def test_fault_1_10_and_17_kills_within_one_epoch_fail_no_trial_that_gets_further(
    kills: int, make_lab: MakeLab, sweeps: Path
) -> None:
    sweep = write_sweep(
        sweeps / f"kills{kills}.py",
        "yield 'head=tanh'",
        ["examples.train=64", "trainer.checkpoint_every_steps=2", "trainer.epochs=2"],
        finalists=0,
        attempts=2 if kills == 3 else 3,
    )
    reference, lab = make_lab("reference"), make_lab("killed")
    reference.begin(sweep)
    undisturbed = reference.worker(sweep.stem)
    killed_in_each(lab, sweep, kills)
    undisturbed.end()
    reference.conclude(sweep)
    [trial] = lab.report(sweep.stem)["trials"]
    assert trial["state"] == "finished"
    equal(reference.home, lab.home)
    assert lab.report_bytes(sweep.stem) == reference.report_bytes(sweep.stem)
    invariants(lab, sweep.stem)


def test_fault_6_and_22_all_die_between_trained_and_told_and_one_goes_on(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """One dies before its record, one with a record that nobody was told of."""
    lab.begin(tiny)
    before = at("write", r"/\.?record\.json", signal=signal.SIGKILL)
    after = at("write", r"/journal\.log$", 7, signal=signal.SIGKILL)
    dying = [lab.worker(fault=before), lab.worker(fault=after)]
    for each in dying:
        each.end(-signal.SIGKILL)
    assert trials_of(lab.home, "tiny")
    lab.worker().end()
    lab.conclude(tiny)
    equal(undisturbed.home, lab.home)
    assert lab.report_bytes() == undisturbed.report_bytes()
    invariants(lab)


@pytest.fixture(scope="module")
def long_validation(sweeps: Path) -> Path:
    """A run of two epochs without checkpoints within them."""
    more = ["trainer.epochs=2", "trainer.checkpoint_every_steps=null", "examples.val=40"]
    return write_sweep(sweeps / "long.py", "yield 'head=faulty'", more, finalists=0)


def evaluations(lab: Lab) -> int:
    """How many batches have been validated or tested by processes that slow that down."""
    path = lab.root / "evaluated"
    return len(path.read_text()) if path.exists() else 0


def test_fault_2_a_signal_in_validation_keeps_the_epoch_that_was_trained(
    make_lab: MakeLab, long_validation: Path
) -> None:
    """Validation takes forty seconds then; nobody waits for its end."""
    reference, lab = make_lab("reference"), make_lab("signalled")
    for each in (reference, lab):
        plugged = each.plug_in()
        each.begin(long_validation, config_dir=PLUGIN / "conf")
    whole = reference.worker("long")
    slow = {"EVALUATED": str(lab.root / "evaluated"), "SLOWLY": "4"}
    for number in (signal.SIGTERM, signal.SIGUSR1):  # both in the first epoch's validation
        before = evaluations(lab)
        worker = lab.worker("long", **slow)
        worker.until(lambda before=before: evaluations(lab) > before)
        worker.send(number)
        worker.end(75, limit_s=GRACE_S)
        assert max(steps(lab.runs()[0])) == 10
        [trial] = trials_of(lab.home, "long")
        assert not trial.state.is_finished()
    lab.worker("long").end()
    starts = re.findall(r"start at step (\d+)", (lab.runs()[0] / "log.txt").read_text())
    assert starts == ["0", "10", "10"], "no step was trained again"
    whole.end()
    for each in (reference, lab):
        each.conclude(long_validation, *plugged)
    equal(reference.home, lab.home)
    assert lab.report_bytes("long") == reference.report_bytes("long")
    invariants(lab, "long")


@pytest.mark.slow
def test_fault_3_a_signal_within_a_write_only_sets_a_flag(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """One meets the write of a checkpoint, one the flush of the history, one a journal's line."""
    lab.begin(tiny)
    moments = [
        at("rename", r"/checkpoints/\.?step-\d+[^/]*ckpt", 3, signal=signal.SIGTERM),
        at("write", r"/metrics", 2, signal=signal.SIGUSR1),
        at("write", r"/journal\.log$", 4, signal=signal.SIGTERM),
    ]
    for fault in moments:
        lab.worker(fault=fault).end(75, limit_s=GRACE_S + 30)
    lab.worker().end()
    lab.conclude(tiny)
    equal(undisturbed.home, lab.home)
    assert lab.report_bytes() == undisturbed.report_bytes()
    invariants(lab)
