"""Processes that are broken, hang, or fill up: they end, and their settings do not suffer."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import TINY, Lab, at, invariants, patched, record_of, write_sweep

MakeLab = Callable[..., Lab]
SHORT = ["trainer.epochs=2"]


@pytest.mark.slow
def test_fault_28_one_value_of_twenty_that_breaks_its_process_fails_alone(
    lab: Lab, sweeps: Path
) -> None:
    """The device of a process that has met it stays broken, for all other values too."""
    body = (
        "yield 'head=faulty'; amount = trial.suggest_categorical('amount', list(range(20))); "
        "yield f'head.amount={amount}'; yield f\"head.fault={'cuda' if amount == 7 else 'none'}\""
    )
    sweep = write_sweep(sweeps / "twenty.py", body, ["trainer.epochs=1"], finalists=0)
    lab.start("sweep", str(sweep), "--workers", "2", *lab.plug_in()).end()
    trials = lab.report("twenty")["trials"]
    assert len(trials) == 20
    [failed] = [trial for trial in trials if trial["state"] != "finished"]
    assert failed["overrides"][1:] == ["head.amount=7", "head.fault=cuda"]
    assert "CUDA error: uncorrectable ECC error" in failed["reason"]
    invariants(lab, "twenty")


@pytest.mark.slow
def test_fault_28_14_and_17_what_a_fresh_process_repeats_fails_its_setting_alone(
    lab: Lab, sweeps: Path
) -> None:
    """One value breaks the device of its process, one kills it, two do nothing."""
    body = (
        "yield 'head=faulty'; "
        "name = trial.suggest_categorical('fault', ['none-1', 'cuda-0', 'kill-0', 'none-2']); "
        "yield f\"head.fault={name.split('-')[0]}\"; yield f\"head.amount={name.split('-')[1]}\""
    )
    sweep = write_sweep(sweeps / "broken.py", body, SHORT, finalists=0, attempts=2)
    plugged = lab.plug_in()
    lab.start("sweep", str(sweep), "--workers", "2", *plugged).end()
    trials = {trial["overrides"][1]: trial for trial in lab.report("broken")["trials"]}
    states = sorted(
        (trial["overrides"][1:], trial["state"]) for trial in lab.report("broken")["trials"]
    )
    assert states == [
        (["head.fault=cuda", "head.amount=0"], "failed"),
        (["head.fault=kill", "head.amount=0"], "failed"),
        (["head.fault=none", "head.amount=1"], "finished"),
        (["head.fault=none", "head.amount=2"], "finished"),
    ]
    assert "CUDA error" in trials["head.fault=cuda"]["reason"]
    assert "died" in trials["head.fault=kill"]["reason"]


@pytest.mark.slow
def test_fault_14_a_run_that_sleeps_for_ever_is_ended_with_its_stacks_and_goes_on(
    lab: Lab, sweeps: Path
) -> None:
    body = "yield 'head=faulty'; "
    body += "yield f\"head.fault={trial.suggest_categorical('fault', ['none', 'sleep'])}\""
    sweep = write_sweep(sweeps / "sleeps.py", body, [*SHORT, "trainer.hang_s=5"], finalists=0)
    plugged = lab.plug_in()
    lab.extra["SLEPT"] = str(lab.root / "slept")
    lab.start("sweep", str(sweep), "--workers", "2", *plugged).end()
    assert (lab.root / "slept").exists()
    assert re.search(r"File .*faulty_heads\.py.*misbehave", lab.logs("sleeps"))
    assert [trial["state"] for trial in lab.report("sleeps")["trials"]] == ["finished"] * 2
    invariants(lab, "sleeps")


UNDER_THE_WATCH = """
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from lightning_sep.sweep import runner

counts = []


@contextmanager
def watched(hang_s):
    def alive():
        counts.append(len(sys.modules))

    alive()
    yield alive


runner.watched = watched
here = runner.ExperimentRunner(Path(sys.argv[1]))
asks = dict(report=lambda *_: False, should_stop=lambda: False, guard=lambda: None)
errand = SimpleNamespace(
    sweep="s", trial=0, purpose="search", presence=None, busy=lambda owner: None, **asks
)
here.run(here.prepare(sys.argv[2:])[1], errand)
print(counts[1] - counts[0])
"""


@pytest.mark.slow
def test_fault_14_nothing_long_is_imported_under_the_watch(lab: Lab) -> None:
    """Lightning and torch's compiler, a thousand modules, took ten seconds on a busy machine."""
    with patched(lab.environment()):
        done = subprocess.run(
            [sys.executable, "-c", UNDER_THE_WATCH, str(lab.home), *TINY, *SHORT],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 100


def status_kib(pid: int, name: str) -> int:
    """A line of a process's ``status``, in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0])


# Each needs another amount of memory; the largest of them comes early.
SIZES = [4, 9, 1, 5, 2, 8, 3, 7, 1.5, 6, 2.5, 3.5, 4.5]


def sizes(values: list[float]) -> str:
    return f"yield f\"examples.segment_s={{trial.suggest_categorical('s', {values})}}\""


@pytest.mark.slow
def test_fault_32_memory_comes_back_between_trials(make_lab: MakeLab, sweeps: Path) -> None:
    more = ["net.filters=12", "examples.batch_size=16", "examples.train=16", "trainer.epochs=1"]
    more += ["trainer.checkpoint_every_steps=null", "head=tanh"]
    many = write_sweep(sweeps / "many.py", sizes(SIZES), more, finalists=0)
    largest = write_sweep(sweeps / "largest.py", sizes([max(SIZES)]), more, finalists=0)
    alone, lab = make_lab("alone"), make_lab("many")
    alone.begin(largest)
    lab.begin(many)
    one = alone.worker("largest", fault=at("write", r"/\.?record\.json", signal=signal.SIGSTOP))
    twelve = lab.worker("many", fault=at("write", r"/\.?settings\.yaml", 13, signal=signal.SIGSTOP))
    one.until(one.frozen)
    peak_kib = status_kib(one.pid, "VmHWM")
    twelve.until(twelve.frozen)
    after_kib = status_kib(twelve.pid, "VmRSS")
    assert sum(record_of(run) is not None for run in lab.runs()) == 12
    assert after_kib <= 1.3 * peak_kib
