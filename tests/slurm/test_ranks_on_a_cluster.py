"""A sweep whose runs train on two nodes together, each in a world of its own."""

import os
import signal
from pathlib import Path

from lightning_sep import experiment, ranks
from lightning_sep.settings import compose
from tests.faults.harness import TINY, Lab, history, record_of, steps, until, write_sweep
from tests.slurm.cluster import Cluster
from tests.slurm.test_sweeps_on_a_cluster import asked, finished, slowly

SHARED = ["trainer.device=cpu", "trainer.epochs=16", "trainer.checkpoint_every_steps=7"]


def workers(cluster: Cluster) -> dict[int, tuple[int, str]]:
    """Process and node of each rank that works."""
    return {
        int(said["SLURM_PROCID"]): (pid, said["SLURMD_NODENAME"])
        for pid, said in cluster.workers()
        if "SLURM_PROCID" in said
    }


def test_two_ranks_are_preempted_lose_one_of_them_and_end_as_undisturbed(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    settings = compose([*TINY, *SHARED, "trainer.devices=2"])
    whole = experiment.run(settings, home=tmp_path / "whole", purpose="search", sweep="s")
    ranks.dismiss()

    sweep = write_sweep(
        tmp_path / "two.py", "yield 'head=clip_at_eval'", [*SHARED, "trainer.nodes=2"], finalists=0
    )
    lab.extra |= slowly(1.0)
    lab.extra |= {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_CPU": "100"}  # submitted within a job
    submit = ("launcher=slurm", "launcher.workers=1", "launcher.lease_s=4", "launcher.memory_gb=1")
    bare = "launcher.setup=['export SLURM_EXPORT_ENV=NONE']"  # as Slurm says to `--export=NONE`
    code, said = asked(lab, "sweep", str(sweep), *submit, bare)
    assert code == 0, said
    folder = lab.home / whole.run_id

    def within(step: int) -> bool:
        return any(one > step and one % 10 for one in steps(folder))

    until(lambda: within(10), 120, cluster.logs())
    first = {node for _, node in workers(cluster).values()}
    assert len(first) == 2
    nodes = ",".join(sorted(first))
    urgent = ("--partition=urgent", "--exclusive", f"--nodelist={nodes}", "--wrap=sleep 300")
    cluster.ask("sbatch", "--parsable", "--nodes=2", "--output=/dev/null", *urgent)

    def elsewhere() -> bool:
        nodes = {node for _, node in workers(cluster).values()}
        return len(nodes) == 2 and not nodes & first

    until(elsewhere, 120, cluster.logs())
    before = max(steps(folder))
    until(lambda: within(before + 10), 120, cluster.logs())
    os.kill(workers(cluster)[1][0], signal.SIGKILL)
    until(lambda: record_of(folder), 120, cluster.logs())
    cluster.ask("scancel", "--partition=urgent")
    finished(lab, cluster, "two")
    record = record_of(folder)
    assert record is not None
    assert record["environment"]["ranks"] == 2
    assert len(record["attempted"]) == 3
    assert history(folder) == history(whole.folder)
    assert record["metrics"] == whole.record["metrics"]
    assert record["hashes"]["weights"] == whole.record["hashes"]["weights"]
