"""Kills and signals at chosen moments of real runs: nothing is lost, doubled or told twice."""

import random
import re
import signal
import time
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
    same,
    steps,
    trials_of,
    write_sweep,
)

MakeLab = Callable[..., Lab]
GRACE_S = 30.0


@pytest.mark.slow
def test_fault_1_10_and_17_five_kills_within_one_epoch_fail_no_trial_that_gets_further(
    make_lab: MakeLab, sweeps: Path
) -> None:
    """A worker is killed when it has written one more checkpoint of the epoch, again and again.

    Every other time within the write of the next one, its temporary file half there.
    """
    more = ["examples.train=64", "trainer.checkpoint_every_steps=2", "trainer.epochs=2"]
    sweep = write_sweep(sweeps / "kills.py", "yield 'head=tanh'", more, finalists=0, attempts=3)
    reference, lab = make_lab("reference"), make_lab("killed")
    reference.begin(sweep)
    undisturbed = reference.worker(sweep.stem)
    lab.begin(sweep)
    for kill in range(5):
        event = "rename" if kill % 2 == 0 else "write"
        fault = at(event, r"/checkpoints/\.?step-\d+[^/]*ckpt", 2, signal=signal.SIGKILL)
        lab.worker(sweep.stem, fault=fault).end(-signal.SIGKILL)
        [run] = lab.runs()
        assert epochs(run) == [], "all of this happens within the first epoch"
    lab.worker(sweep.stem).end()
    lab.conclude(sweep)
    undisturbed.end()
    reference.conclude(sweep)
    [trial] = lab.report(sweep.stem)["trials"]
    assert trial["state"] == "finished"
    equal(reference.home, lab.home)
    assert lab.report_bytes(sweep.stem) == reference.report_bytes(sweep.stem)
    invariants(lab, sweep.stem)


def test_fault_1_6_10_and_22_all_are_killed_and_one_goes_on(
    lab: Lab, undisturbed: Lab, tiny: Path
) -> None:
    """One dies in the write of a checkpoint, one before its record, one before it has told it."""
    lab.begin(tiny)
    moments = [
        at("rename", r"/checkpoints/\.?step-\d+[^/]*ckpt", 2, signal=signal.SIGKILL),
        at("write", r"/\.?record\.json", signal=signal.SIGKILL),
        at("write", r"/journal\.log$", 3, signal=signal.SIGKILL),
    ]
    dying = [lab.worker(fault=fault) for fault in moments]
    for each in dying:
        each.end(-signal.SIGKILL)
    assert [trial for trial in trials_of(lab.home, "tiny") if not trial.state.is_finished()]
    lab.worker().end()
    same(lab, undisturbed, tiny)


@pytest.fixture(scope="module")
def long_validation(sweeps: Path) -> Path:
    """A run of two epochs without checkpoints within them; ten batches each are evaluated."""
    more = ["trainer.epochs=2", "trainer.checkpoint_every_steps=null"]
    more += ["examples.val=40", "examples.test=40"]
    return write_sweep(sweeps / "long.py", "yield 'head=faulty'", more, finalists=0)


def said(lab: Lab, name: str) -> int:
    """How many batches have been trained or evaluated by processes that were told to count."""
    path = lab.root / name
    return len(path.read_text()) if path.exists() else 0


def test_fault_2_a_signal_in_validation_keeps_the_epoch_that_was_trained(
    make_lab: MakeLab, long_validation: Path
) -> None:
    """Validation takes forty seconds then; nobody waits for its end."""
    reference, lab = make_lab("reference"), make_lab("signalled")
    for each in (reference, lab):
        plugged = each.plug_in()
        each.begin(long_validation, config_dir=PLUGIN / "conf")
    worker = lab.worker("long", EVALUATED=str(lab.root / "evaluated"), SLOWLY="4")
    whole = reference.worker("long")
    worker.until(lambda: said(lab, "evaluated"))
    worker.send(signal.SIGTERM)
    worker.end(75, limit_s=GRACE_S)
    assert max(steps(lab.runs()[0])) == 10
    [trial] = trials_of(lab.home, "long")
    assert not trial.state.is_finished()
    lab.worker("long").end()
    starts = re.findall(r"start at step (\d+)", (lab.runs()[0] / "log.txt").read_text())
    assert starts == ["0", "10"], "no step was trained again"
    whole.end()
    for each in (reference, lab):
        each.conclude(long_validation, *plugged)
    equal(reference.home, lab.home)
    assert lab.report_bytes("long") == reference.report_bytes("long")
    invariants(lab, "long")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fault_2_and_3_signals_at_twenty_random_moments_lose_nothing(
    make_lab: MakeLab, long_validation: Path
) -> None:
    """In training, validation and test, of which each batch takes a while."""
    reference, lab = make_lab("reference"), make_lab("signalled")
    for each in (reference, lab):
        plugged = each.plug_in()
        each.begin(long_validation, config_dir=PLUGIN / "conf")
    whole = reference.worker("long")
    generator = random.Random(20)
    counted = {name.upper(): str(lab.root / name) for name in ("trained", "evaluated")}
    for number in [signal.SIGTERM, signal.SIGUSR1] * 10:
        rows = epochs(lab.runs()[0]) if lab.runs() else []
        trained, evaluated = said(lab, "trained"), said(lab, "evaluated")
        if trained < 17 and generator.random() < 0.5:
            goal = trained + generator.randint(1, 3)
            worker = lab.worker("long", **counted, STEPPING="0.5")
            worker.until(lambda goal=goal: said(lab, "trained") >= goal)
            time.sleep(generator.uniform(0, 0.5))
        else:
            later = 10 * (
                generator.random() < 0.2 and len(rows) < 2
            )  # not in this, in the next one
            fast = generator.randrange(6) + later
            worker = lab.worker("long", **counted, SLOWLY="4", SLOW_AFTER=str(fast))
            worker.until(lambda goal=evaluated + fast: said(lab, "evaluated") > goal)
            time.sleep(generator.uniform(0, 8))
        worker.send(number)
        worker.end(75, limit_s=GRACE_S)
    lab.worker("long", **counted).end()
    assert said(lab, "trained") == 20, "no step was trained again"
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
    same(lab, undisturbed, tiny)
