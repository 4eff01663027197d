"""Where a run is started: without a terminal, a home folder or room for temporary files."""

from pathlib import Path

from tests.faults.harness import Lab, equal_runs, fill, mounted


def test_fault_25_a_bare_environment_is_enough(lab: Lab, undisturbed: Lab, tmp_path: Path) -> None:
    """No terminal, a home folder that cannot be written, no space for temporary files."""
    with mounted(tmp_path / "tmp", "-t", "tmpfs", "-o", "size=4k", "tmpfs") as full:
        fill(full)
        process = lab.train("head=tanh", HOME="/proc/1", TMPDIR=str(full))
        process.end()
    [run] = lab.runs()
    equal_runs(undisturbed.home / run.name, run)
