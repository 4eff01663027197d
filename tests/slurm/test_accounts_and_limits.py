"""Accounts and their limits, on a cluster that has a database of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Lab, until, write_sweep
from tests.slurm.accounts import Accounts, missing
from tests.slurm.cluster import NODES
from tests.slurm.conftest import standing
from tests.slurm.test_sweeps_on_a_cluster import asked, finished, queued, status


@pytest.fixture(scope="module")
def cluster() -> Iterator[Accounts]:
    """Four idle nodes and a database; everybody is bound by the QOS ``normal``."""
    port = 30000 + os.getpid() % 400 * (NODES + 2)
    yield from standing(Accounts, port, missing())


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """One run."""
    return write_sweep(tmp_path / "one.py", "yield 'head=tanh'", finalists=0)


@pytest.mark.parametrize(
    ("limit", "setting", "words"),
    [
        ("", "account=nobodys", "Invalid account"),
        (
            "MaxWall=10 Flags=DenyOnLimit",
            "time_min=60",
            "QOSMaxWallDurationPerJobLimit: a task asks for more than the QOS gives of time: "
            "lower launcher.time_min; Batch job submission failed: Job violates accounting/QOS "
            "policy (job submit limit, user's size and/or time limits)\n",
        ),
        ("MaxSubmitJobsPerUser=1", "workers=1", "launcher.workers=N asks for fewer\n"),
    ],
)
def test_what_an_account_may_not_have_is_refused_in_a_line_and_nothing_is_left(
    lab: Lab, cluster: Accounts, one: Path, limit: str, setting: str, words: str
) -> None:
    if limit:
        cluster.account("modify", "qos", "normal", "set", *limit.split())
    code, text = asked(lab, "sweep", str(one), "launcher=slurm", f"launcher.{setting}")
    if limit:
        cluster.account("modify", "qos", "normal", "set", *_lifted(limit))
    assert (code, text.count("\n")) == (2, 1), text
    assert words in text
    assert queued(cluster) == ""
    assert not list((lab.home / "sweeps").glob("*"))


def _lifted(limit: str) -> list[str]:
    return [f"{one.partition('=')[0]}=-1" for one in limit.split()]


def test_a_sweep_within_limits_waits_for_them_and_ends_with_its_report(
    lab: Lab, cluster: Accounts, one: Path
) -> None:
    """As many tasks as a user may have jobs: the report wants room, too."""
    limits = "MaxSubmitJobsPerUser=16 GrpJobs=0"
    cluster.account("modify", "qos", "normal", "set", *limits.split())
    submit = ("sweep", str(one), "launcher=slurm", "launcher.workers=1", "launcher.partition=short")
    code, text = asked(lab, *submit)
    assert code == 0, text
    assert len(cluster.ask("squeue", "-h", "-r").splitlines()) == 16
    until(lambda: "QOSGrpJobsLimit" in cluster.ask("squeue", "-h", "-o", "%r"), 60)
    line = "15 wait (QOSGrpJobsLimit: what the QOS gives of jobs at once is taken"
    assert line in status(lab, "one")["jobs"]["line"]  # type: ignore[index]
    cluster.account("modify", "qos", "normal", "set", *_lifted(limits))
    finished(lab, cluster, "one")
