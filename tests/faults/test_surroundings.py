"""Where a run starts: without a terminal, a home folder, room for temporary files or a clock."""

from pathlib import Path

from tests.faults.harness import Lab, equal_runs, fill
from tests.mounts import mounted


def test_fault_25_and_23_a_bare_environment_and_a_clock_that_jumps_are_enough(
    lab: Lab, undisturbed: Lab, tmp_path: Path
) -> None:
    """One has no terminal, no home folder to write to, no space for temporary files.

    To the other one the wall clock says tomorrow and yesterday in turn.
    """
    with mounted(tmp_path / "tmp", "-t", "tmpfs", "-o", "size=4k", "tmpfs") as full:
        fill(full)
        bare = lab.train("head=tanh", HOME="/proc/1", TMPDIR=str(full))
        timeless = lab.train("head=sine", fault={"clock": 86400.0})
        bare.end()
        timeless.end()
    assert len(lab.runs()) == 2
    for run in lab.runs():
        equal_runs(undisturbed.home / run.name, run)
