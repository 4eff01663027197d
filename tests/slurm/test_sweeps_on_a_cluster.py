"""Sweeps as job arrays on a real Slurm: what is submitted, steered, lost and gone on with."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest

from lightning_sep.errors import ConfigError, NoRoom
from lightning_sep.launchers.slurm_jobs import stepped
from tests.faults.harness import (
    ROOT,
    Lab,
    at,
    fill,
    history,
    invariants,
    record_of,
    until,
    write_sweep,
)
from tests.mounts import mounted
from tests.slurm.cluster import Cluster

LONG = "trainer.epochs=4000"


def slowly(epoch_s: float, gate: Path | None = None) -> dict[str, str]:
    """The environment in which an epoch takes so much longer, and no core meanwhile.

    Args:
        epoch_s: seconds.
        gate: the first epoch does not end before this file is gone.
    """
    pause = at("write", r"/metrics\.\d+\.jsonl", 0, pause_s=epoch_s, gate=gate)
    return {"FAULT": json.dumps(pause)}


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Three heads and a final."""
    return write_sweep(tmp_path / "heads.py")


def asked(lab: Lab, *command: str) -> tuple[int, str]:
    """Exit code and output of a command that itself trains nothing."""
    with redirect_stdout(StringIO()) as said, redirect_stderr(said):
        code = lab.say(*command)
    return code, said.getvalue()


def status(lab: Lab, name: str = "heads") -> dict[str, object]:
    code, text = asked(lab, "status", name, "--json")
    assert code == 0
    found: dict[str, object] = json.loads(text)
    return found


def waiting(lab: Lab) -> str:
    """What `status` says of the jobs."""
    return str(status(lab)["jobs"]["line"])  # type: ignore[index]


def running(cluster: Cluster) -> list[str]:
    """Numbers of the tasks that run."""
    lines = cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%F_%K").splitlines()
    return sorted(line for line in lines if not line.endswith("N/A"))


def queued(cluster: Cluster) -> str:
    return cluster.ask("squeue", "-h")


def workers(cluster: Cluster) -> dict[str, int]:
    """Process of the worker of each task."""
    return {
        f"{said['SLURM_ARRAY_JOB_ID']}_{said['SLURM_ARRAY_TASK_ID']}": pid
        for pid, said in cluster.workers()
    }


def finished(lab: Lab, cluster: Cluster, name: str = "heads", limit_s: float = 300) -> None:
    """Wait until nothing is queued; the report was written by the last job."""
    until(lambda: not queued(cluster), limit_s, cluster.logs())
    folder = lab.home / "sweeps" / name
    said = "".join(one.read_text() for one in (folder / "slurm").glob("*.log"))
    assert (folder / "trials.json").exists(), said


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("launcher.partition=nowhere", "invalid partition specified: nowhere"),
        ("launcher.gpus=3", "Requested node configuration is not available"),
        ("launcher.workrs=2", "Did you mean 'workers'?"),
        ("launcher.workers=0", "workers = 0"),
        ("launcher.limit=200", "200 tasks are more than a job array may have"),
        ("launcher.extra=['--array=0-1']", "the launcher says that itself"),
    ],
)
def test_what_cannot_run_is_refused_in_a_line_and_nothing_is_queued(
    lab: Lab, cluster: Cluster, heads: Path, setting: str, words: str
) -> None:
    code, text = asked(lab, "sweep", str(heads), "launcher=slurm", setting)
    assert (code, text.count("\n")) == (2, 1)
    assert words in text
    assert queued(cluster) == ""
    assert not list((lab.home / "sweeps").glob("*/slurm/*.sh"))


def test_jobs_that_slurm_took_without_an_answer_are_not_left_behind(
    lab: Lab, cluster: Cluster, heads: Path
) -> None:
    mute = lab.root / "bin" / "sbatch"
    mute.parent.mkdir()
    why = "Batch job submission failed: Socket timed out on send/recv operation"
    path = cluster.environment["PATH"]
    script = f'export PATH={path}; sbatch "$@"; echo "sbatch: error: {why}" >&2; exit 1'
    mute.write_text(f"#!/bin/sh\n{script}\n")
    mute.chmod(0o755)
    lab.extra["PATH"] = f"{mute.parent}:{path}"
    ever = ("squeue", "-h", "--states=all", "-o", "%F")
    before = cluster.ask(*ever)
    code, text = asked(lab, "sweep", str(heads), "launcher=slurm", "launcher.extra=['--hold']")
    assert (code, text) == (2, f"lightning-sep: error: sbatch: {why}\n")
    assert len(cluster.ask(*ever)) > len(before), "it was taken"
    assert queued(cluster) == ""


def test_without_slurm_the_launcher_says_so(lab: Lab, heads: Path) -> None:
    lab.extra["PATH"] = "/nonexistent"
    code, text = asked(lab, "sweep", str(heads), "launcher=slurm")
    assert (code, text.count("\n")) == (2, 1)
    assert "no `sbatch` on PATH" in text


def test_a_dry_run_shows_the_scripts_and_does_nothing(
    lab: Lab, cluster: Cluster, heads: Path
) -> None:
    lab.extra["LIGHTNING_SEP_PLUGINS"] = "my_lab"
    code, text = asked(
        lab,
        *("sweep", str(heads), "launcher=slurm", "launcher.workers=2", "launcher.gpus=1"),
        *("launcher.time_min=30", "launcher.memory_gb=1.5", "launcher.account=me", "--dry-run"),
        *("launcher.setup=[module load x]", 'launcher.extra=["--exclude=n9"]', "launcher.limit=7"),
    )
    assert code == 0
    options = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    array, _, report = text.partition("-report\n")[0].rpartition("#!/bin/bash")
    for wanted in (
        "--array=0-6%2",
        "--gres=gpu:1",
        "--time=30",
        "--mem=1536M",
        "--signal=B:USR1@120",
        "--account=me",
        "--exclude=n9",
        "--cpus-per-task=1",
        "--requeue",
    ):
        assert f"#SBATCH {wanted}" in options, wanted
        assert f"#SBATCH {wanted}\n" in array
    assert "--gres" not in report
    assert array.index("module load x") < array.index("worker heads")
    assert str(lab.home.resolve()) in array
    assert "\nexport LIGHTNING_SEP_PLUGINS=my_lab\n" in array
    assert f"\nexport PYTHONPATH={lab.environment()['PYTHONPATH']}\n" in array
    assert queued(cluster) == ""
    assert not (lab.home / "sweeps").exists()


def test_a_sweep_is_steered_while_it_runs(lab: Lab, cluster: Cluster, heads: Path) -> None:
    lab.extra |= slowly(0.5)
    submit = ("sweep", str(heads), LONG, "trainer.device=cpu", "launcher=slurm")
    for count in (1, 3):  # the second time, those that are missing
        assert asked(lab, *submit, f"launcher.workers={count}")[0] == 0
    until(lambda: len(running(cluster)) == 3)
    assert len({task.partition("_")[0] for task in running(cluster)}) == 2, "of two arrays"
    code, text = asked(lab, *submit, "launcher.workers=3")
    assert code == 0
    assert "nothing is added" in text
    until(lambda: len(status(lab)["running"]) == 3)  # type: ignore[arg-type]
    assert status(lab)["jobs"]["workers"] == 3  # type: ignore[index]

    code, text = asked(lab, "logs", "heads", "1")
    assert code == 0
    assert " heads: trial 1: head=" in text
    assert "trial 0" not in text
    assert asked(lab, "logs", "heads", "17")[0] == 2

    for count in (4, 1, 2):
        assert asked(lab, "scale", "heads", str(count))[0] == 0
        until(lambda count=count: len(running(cluster)) == count, 30)
        assert status(lab)["jobs"]["workers"] == count  # type: ignore[index]

    before = running(cluster)
    assert asked(lab, "stop", "heads")[0] == 0
    code, text = asked(lab, *submit, "launcher.workers=1")
    assert "was submitted" in text, "those that still save come back no more"
    until(lambda: len(now := running(cluster)) == 1 and now[0] not in before, 30)
    assert asked(lab, "stop", "heads")[0] == 0
    until(lambda: not queued(cluster), 60)
    found = status(lab)
    assert found["state"] == "stopped"
    assert found["failed"] == []
    code, text = asked(lab, "scale", "heads", "2")
    assert (code, text.count("\n")) == (2, 1)

    shared = ("launcher.workers=1", "launcher.gpus=1", "launcher.runs_per_gpu=3")
    assert asked(lab, *submit, *shared)[0] == 0
    until(lambda: len(status(lab)["running"]) == 3)  # type: ignore[arg-type]
    assert len(running(cluster)) == 1, "one task, and its GPU, for all three"
    assert asked(lab, "stop", "heads", "--now")[0] == 0
    until(lambda: not queued(cluster), 60)
    until(lambda: not workers(cluster), 10)


def test_a_task_that_slurm_holds_is_named_and_the_next_one_goes_on(
    lab: Lab, cluster: Cluster, heads: Path
) -> None:
    lab.extra |= slowly(0.5)
    submit = ("sweep", str(heads), LONG, "launcher=slurm", "launcher.workers=1")
    held = ("launcher.extra=['--nodelist=n1','--hold']", "launcher.limit=5")
    assert asked(lab, *submit, *held)[0] == 0
    assert "JobHeldUser: held by its user" in waiting(lab)
    jobs = cluster.ask("squeue", "-h", "-o", "%F").split()  # the report is held as well
    with cluster.unfit() if cluster.counts_starts else nullcontext():
        cluster.ask("scontrol", "release", *jobs)

        def given_up() -> bool:
            cluster.begin_again()
            return "JobHoldMaxRequeue: held: it was requeued too often" in waiting(lab)

        if cluster.counts_starts:
            until(given_up, 60, cluster.logs())
    until(lambda: running(cluster))
    [first] = running(cluster)
    cluster.ask("scontrol", "requeuehold", first)
    until(lambda: running(cluster) not in ([], [first]), 60, queued(cluster))
    assert "JobHeldUser: held by its user" in waiting(lab)
    assert status(lab)["jobs"]["workers"] == 1  # type: ignore[index]
    assert asked(lab, "stop", "heads")[0] == 0
    until(lambda: not queued(cluster), 60)  # those that are held are withdrawn as well


def test_a_home_that_the_nodes_do_not_see_is_refused(
    make_lab: Callable[..., Lab], cluster: Cluster, heads: Path
) -> None:
    """What is mounted now is not mounted on the nodes, which have mounts of their own."""
    lab = make_lab()
    with mounted(lab.home, "-t", "tmpfs", "tmpfs"):
        code, text = asked(lab, "sweep", str(heads), "launcher=slurm")
        assert (code, text.count("\n")) == (2, 1), text
        assert "the nodes do not see" in text
        assert str(lab.home) in text
        assert not list((lab.home / "sweeps").glob("*/slurm/*.sh"))


def test_preflight_asks_slurm_for_the_very_script(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    one = write_sweep(tmp_path / "one.py", "yield 'head=tanh'", finalists=0)
    ask = ("preflight", str(one), "launcher=slurm", "--json")
    gpus = "$(scontrol show job $SLURM_JOB_ID | grep -om1 gpu:.)"
    says = f'launcher.setup=["echo on $(hostname): {gpus} $SLURM_CPUS_PER_TASK >&2"]'
    resources = ("launcher.gpus=1", "launcher.cpus=3", "launcher.extra=['--nodelist=n3']")
    device = "trainer.device=cpu"  # these GPUs are none
    code, text = asked(lab, *ask, *resources, says, device)
    assert code == 0, text
    said, _, text = text.partition("{")
    assert said.startswith("on n3: gpu:1 3\none: head=tanh: "), (
        "where a worker would be, as it goes on"
    )
    found = json.loads("{" + text)
    assert (found["problems"], found["runs"], found["tried"][0]["steps"]) == ([], 1, 40)
    code, text = asked(lab, *ask, "launcher.partition=short", "launcher.time_min=30")
    assert code == 2
    assert json.loads(text)["problems"] == ["launcher.time_min=30: partition short gives 5:00"]
    assert not lab.home.exists()


def test_a_step_for_which_no_node_becomes_free_says_why_and_is_withdrawn(
    lab: Lab, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lab.extra.items():
        monkeypatch.setenv(name, value)
    cluster.ask("sbatch", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 300")
    until(lambda: "RUNNING" in cluster.ask("squeue", "-h", "-o", "%T"), 30)
    said: list[str] = []
    with pytest.raises(NoRoom, match=r"has not begun within 1 s: .*no node has room"):
        stepped("step", ["--job-name=step", "true"], 1.0, said.append)
    [one] = said
    assert one.startswith("job ")
    assert one.endswith("queued and waiting for resources")
    until(lambda: not cluster.ask("squeue", "-h", "--name=step"), 30)
    cluster.clear()
    assert stepped("step", ["--job-name=step", "echo", "x"], 30.0, said.append) == "x\n"
    with pytest.raises(ConfigError, match=r"srun: n.: task 0: Exited with exit code 3"):
        stepped("step", ["--job-name=step", "sh", "-c", "exit 3"], 30.0, said.append)

    # Within a job of one core: a step of that job could have no more.
    small = cluster.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300").strip()
    until(lambda: "RUNNING" in cluster.ask("squeue", "-h", "-o", "%T"), 30)
    for name in ("SLURM_JOB_ID", "SLURM_JOBID"):
        monkeypatch.setenv(name, small)
    cores = ["--job-name=step", "--cpus-per-task=4", "sh", "-c", "echo $SLURM_CPUS_PER_TASK"]
    assert stepped("step", cores, 30.0, said.append) == "4\n"


def test_the_readmes_commands_for_a_cluster_run(lab: Lab, cluster: Cluster) -> None:
    text = (ROOT / "README.md").read_text().partition("### On a Slurm cluster")[2]
    lines = text.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[0] == "lightning-sep"
        words = [str(ROOT / one) if one.endswith(".py") else one for one in words[1:]]
        if words[0] == "logs":
            until(lambda words=words: asked(lab, *words)[0] == 0)
            continue
        code, said = asked(lab, *words)
        assert code == 0, said
    assert asked(lab, "report", "margin")[0] == 75
    until(lambda: not queued(cluster), 60)


@dataclass(frozen=True)
class Limit:
    """A time limit and what is to be done under it.

    Args:
        epochs: of the one run.
        pause_s: how much longer an epoch takes on the cluster.
        option: how a task gets the limit.
        ended: tasks that it ends at least.
        missing: commands of Slurm that are not there.
    """

    epochs: int
    pause_s: float
    option: str
    ended: int
    missing: tuple[str, ...] = ()


_FIRST = "export SLURM_JOB_END_TIME=$(($(date +%s) + 12))"
SECONDS = Limit(
    20,
    0.8,
    f'launcher.setup=["if [ 0$SLURM_ARRAY_TASK_ID = 00 ]; then {_FIRST}; fi"]',
    1,
    ("scontrol", "scancel"),
)
MINUTES = Limit(150, 2.0, "launcher.time_min=1", 5)
LONG_TEST = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(SECONDS, id="seconds, no scontrol"),
        pytest.param(MINUTES, id="five minutes", marks=LONG_TEST),
        pytest.param(
            replace(MINUTES, missing=SECONDS.missing),
            id="five minutes, no scontrol",
            marks=LONG_TEST,
        ),
    ],
)
def test_a_sweep_longer_than_its_time_limit_ends_by_itself(
    make_lab: Callable[..., Lab], cluster: Cluster, tmp_path: Path, limit: Limit
) -> None:
    """However often: where it is known, Slurm lets no task begin more than twice again."""
    epochs = f"trainer.epochs={limit.epochs}"
    path = write_sweep(tmp_path / "one.py", "yield 'head=tanh'", [epochs], finalists=0)
    some = tmp_path / "bin"  # as within a container, where some of Slurm is missing
    some.mkdir()
    for name in {"sbatch", "squeue", "scancel", "scontrol"} - {*limit.missing}:
        (some / name).symlink_to(f"/usr/bin/{name}")
    for name in ("bash", "sh", "date", "env", "sleep", "uname", "hostname"):
        (some / name).symlink_to(f"/bin/{name}")
    lab = make_lab('it\'s my "lab" %j')
    lab.extra["PATH"] = str(some)
    lab.extra |= slowly(limit.pause_s)
    extra = "launcher.extra=['--comment=\"a b\" --nice=1']"
    submit = ("sweep", str(path), "launcher=slurm", "launcher.workers=1")
    assert asked(lab, *submit, limit.option, extra)[0] == 0
    assert {*cluster.ask("squeue", "-h", "-o", "%k|%y").split("\n")} == {"a b|1", ""}
    finished(lab, cluster, "one", limit_s=300 * limit.ended)
    logs = [one.read_text() for one in (lab.home / "sweeps/one/slurm").glob("*_*.log")]
    # Slurm's own signal may come a minute early.
    saved = ("the job's time ends soon", "one: stopped")
    assert sum(any(why in one for why in saved) for one in logs) >= limit.ended
    assert sum("one: done" in one for one in logs) >= 1
    invariants(lab, "one")
    [trial] = lab.report("one")["trials"]
    [run] = trial["runs"]

    calm = make_lab("calm")
    calm.train("head=tanh", epochs).end()
    first, second = lab.home / run, calm.home / run
    assert record_of(first)["metrics"] == record_of(second)["metrics"]  # type: ignore[index]
    assert history(first) == history(second)


@dataclass(frozen=True)
class Chaos:
    """How much of it.

    Args:
        heads: settings are these times ``rates``.
        rates: learning rates.
        epochs: of each run.
        pause_s: how much longer an epoch takes on the cluster.
        workers: of the array, on four nodes.
        frozen_s: how long the worker on the lost node stands still.
        away_s: how long the controller is away.
        full_s: how long no byte is free in the home; 0 never.
    """

    heads: tuple[str, ...]
    rates: tuple[float, ...]
    epochs: int
    pause_s: float
    workers: int
    frozen_s: float
    away_s: float
    full_s: float


SOME = Chaos(("tanh", "sine"), (0.05, 0.02), 10, 0.8, 4, 8, 3, 0)
FOUR = ("tanh", "sine", "hard_clip", "linear")
FORTY = Chaos(FOUR, tuple(k / 200 for k in range(1, 11)), 12, 0.1, 8, 60, 20, 10)


@pytest.mark.parametrize(
    "chaos",
    [
        pytest.param(SOME, id="4 settings"),
        pytest.param(FORTY, id="40 settings", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_a_sweep_survives_what_a_cluster_does_to_it(
    make_lab: Callable[..., Lab], cluster: Cluster, tmp_path: Path, chaos: Chaos
) -> None:
    """Killed, requeued, preempted, lost with its node and woken; daemon and disk away a while."""
    body = (
        f"yield f\"head={{trial.suggest_categorical('head', {[*chaos.heads]})}}\"\n"
        f"    rate = trial.suggest_categorical('rate', {[*chaos.rates]})\n"
        "    yield f'optimizer.learning_rate={rate}'"
    )
    settings = len(chaos.heads) * len(chaos.rates)
    path = write_sweep(
        tmp_path / "chaos.py", body, [f"trainer.epochs={chaos.epochs}"], trials=settings
    )
    calm = make_lab("calm")
    calm.start("sweep", str(path), "--workers", "2").end()
    with ExitStack() as left:
        small = None
        if chaos.full_s:
            disk = mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256m", "tmpfs")
            small = left.enter_context(disk)
            cluster.restart_nodes()  # what is mounted later is not mounted on them
        lab = make_lab(home=small and small / "runs")
        _survives(lab, calm, cluster, path, chaos, small)


def _survives(
    lab: Lab, calm: Lab, cluster: Cluster, path: Path, chaos: Chaos, disk: Path | None
) -> None:
    lab.extra["LIGHTNING_SEP_LEASE_S"] = "4"
    gate = lab.root / "gate"
    gate.touch()
    lab.extra |= slowly(chaos.pause_s, gate)
    options = [f"launcher.workers={chaos.workers}", f"launcher.cpus={16 // chaos.workers}"]
    assert asked(lab, "sweep", str(path), "launcher=slurm", *options)[0] == 0
    [array] = json.loads((lab.home / "sweeps/chaos/jobs.json").read_text())["arrays"]
    assert array["tasks"] == 64, "as many as this cluster takes, halved from 32 for each worker"

    # Whoever is first has not done everything before the last one begins.
    until(lambda: len(list(gate.parent.glob(f"{gate.name}.*"))) == chaos.workers)
    begun = workers(cluster)
    assert len(begun) == chaos.workers
    gate.unlink()
    (killed, kill), (requeued, _), (lost, frozen), *_ = begun.items()
    os.kill(kill, signal.SIGKILL)
    cluster.ask("scontrol", "requeue", requeued)
    node = cluster.ask("squeue", "-h", "-j", lost, "-o", "%N").strip()
    os.kill(frozen, signal.SIGSTOP)
    cluster.lose_node(node)
    time.sleep(chaos.frozen_s)
    os.kill(frozen, signal.SIGCONT)
    if disk is not None:
        before = running(cluster)
        ballast = fill(disk)
        time.sleep(chaos.full_s)
        assert set(before) <= set(running(cluster)), "they wait, and end for no full disk"
        ballast.unlink()
    came = lab.root / "came"
    cluster.ask(
        *("sbatch", "--partition=urgent", "--exclusive", "--no-requeue", "--output=/dev/null"),
        *(f"--exclude={node}", "--wrap", f"touch {came}; sleep 3"),
    )
    until(came.exists, 60)
    assert running(cluster) or queued(cluster), "it came when all was done"
    cluster.restart_controller(after_s=chaos.away_s)

    def waits() -> bool:
        state = cluster.ask("squeue", "-h", "-j", requeued, "-o", "%T").strip()
        return state == "PENDING" or not queued(cluster)

    # It would wait for two minutes; begun before its first processes ended, it would be held.
    until(waits)
    cluster.ask("scontrol", "update", f"JobId={requeued}", "StartTime=now")
    finished(lab, cluster, "chaos", limit_s=300 if disk is None else 1500)
    until(lambda: not workers(cluster), 60)  # nor the copy on the lost node: nothing is left
    assert "Requeue=0" in cluster.ask("scontrol", "show", "job", killed.partition("_")[0])
    invariants(lab, "chaos")
    assert lab.report_bytes("chaos") == calm.report_bytes("chaos")
    for folder in calm.runs():
        other = lab.home / folder.name
        assert record_of(folder)["metrics"] == record_of(other)["metrics"]  # type: ignore[index]
        assert history(folder) == history(other)
    cluster.end_node(node)
    cluster.start_node(node)
