"""A real Slurm cluster on one machine: four nodes, each in pid and host-name namespaces of its own.

Everything lies in one folder, and nothing of it is left: a node's shell is the init of its
namespace, so that all its processes end with it.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
PATH = "/usr/sbin:/sbin:" + os.environ.get("PATH", "")


def missing(besides: Sequence[str] = ()) -> str | None:
    """Why there can be no cluster here, with these programs; ``None`` when there can."""
    lacking = [one for one in [*PROGRAMS, *besides] if shutil.which(one, path=PATH) is None]
    if lacking:
        return f"Slurm is not installed: no {', '.join(lacking)}"
    if os.getuid() != 0:
        return "the daemons of a cluster need root"
    tried = subprocess.run(["unshare", "--fork", "--pid", "--mount-proc", "--uts", "true"])
    return None if tried.returncode == 0 else "this machine lets nobody make namespaces"


def version() -> tuple[int, ...]:
    """Of the Slurm that is installed, such as ``(22, 5, 8)``."""
    daemon = shutil.which("slurmctld", path=PATH)  # the others want to know their cluster first
    assert daemon is not None
    said = subprocess.run([daemon, "-V"], capture_output=True, text=True, check=True)
    return tuple(int(one) for one in re.findall(r"\d+", said.stdout))


class Cluster:
    """Started at once, ended by `stop`.

    Args:
        folder: for sockets, logs and spools; short, since a socket's path is.
        port: the first of the ports that it takes.

    Attributes:
        counts_starts: whether it holds a task that could not be started twice.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.counts_starts = version() >= (23, 2)
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": PATH}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        for name in ["state", *(f"spool/n{k}" for k in range(1, NODES + 1))]:
            (folder / name).mkdir(parents=True)
        for number in (0, 1):
            (folder / f"gpu{number}").touch()
        self._write(port)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _write(self, port: int) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        prolog = self.folder / "prolog"
        prolog.write_text(f"#!/bin/sh\n[ ! -e {self.folder}/unfit ]\n")
        prolog.chmod(0o755)
        requeues = "MaxBatchRequeue=2" if self.counts_starts else ""
        node = f"NodeName=n[1-{NODES}] Port=[{port + 1}-{port + NODES}]"
        lines = f"""
            ClusterName=tests
            SlurmctldHost={os.uname().nodename}(127.0.0.1)
            SlurmctldPort={port}
            SlurmUser=root
            SlurmdUser=root
            AuthType=auth/munge
            AuthInfo=socket={self.folder}/munge.socket
            StateSaveLocation={self.folder}/state
            SlurmdSpoolDir={self.folder}/spool/%n
            SlurmctldPidFile={self.folder}/slurmctld.pid
            SlurmdPidFile={self.folder}/%n.pid
            SlurmctldLogFile={self.folder}/slurmctld.log
            SlurmdLogFile={self.folder}/%n.log
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            JobAcctGatherType=jobacct_gather/none
            SwitchType=switch/none
            MpiDefault=none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_Core
            SlurmdParameters=config_overrides
            ReturnToService=2
            SlurmdTimeout=10
            KillWait=10
            MinJobAge=600
            MaxArraySize=101
            PreemptType=preempt/partition_prio
            PreemptMode=REQUEUE
            SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,nohold_on_prolog_fail
            Prolog={prolog}
            {requeues}
            GresTypes=gpu
            NodeName=DEFAULT CPUs=4 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
            {node} NodeHostname=localhost NodeAddr=127.0.0.1
            PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
            PartitionName=short Nodes=ALL Default=NO MaxTime=5 State=UP PriorityTier=1
            PartitionName=urgent Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=9
        """
        self.conf.write_text("\n".join(line.strip() for line in lines.splitlines()))
        gpus = f"NodeName=n[1-{NODES}] Name=gpu File={self.folder}/gpu[0-1]\n"
        (self.folder / "gres.conf").write_text(gpus)

    def _start(self) -> None:
        at = self.folder
        munge = {
            "socket": "munge.socket",
            "key-file": "munge.key",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        self._run(
            "munged",
            "--force",
            "--foreground",
            *(f"--{key}={at / to}" for key, to in munge.items()),
        )
        self._wait(lambda: (at / "munge.socket").exists())
        self._start_accounting()
        self._run("slurmctld", "-D")
        for number in range(1, NODES + 1):
            self.start_node(f"n{number}")
        self._wait(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES))

    def _start_accounting(self) -> None:
        """What the controller needs besides; nothing here."""

    def start_node(self, node: str) -> None:
        """Start a node, whose shell is the init of its own world."""
        script = f"hostname {node}; slurmd -D -N {node} & wait; while :; do sleep 1; done"
        space = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--uts"]
        self._run(*space, "sh", "-c", script, name=node)

    def lose_node(self, node: str) -> None:
        """Kill a node's daemon: Slurm takes it for gone, its jobs live on."""
        os.kill(self.slurmd(node), signal.SIGKILL)

    def end_node(self, node: str) -> None:
        """End a node with everything that runs on it."""
        _end(self._processes.pop(node))

    @contextmanager
    def unfit(self) -> Iterator[None]:
        """Within this, jobs cannot be started, on whichever node."""
        mark = self.folder / "unfit"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()
            self.begin_again()

    def begin_again(self) -> None:
        """Let all that waits begin at once, also on nodes on which something could not be."""
        for job in self.ask("squeue", "-h", "-t", "PENDING", "-o", "%A").split():
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        for node in self.ask("sinfo", "-h", "-N", "-t", "drain", "-o", "%N").split():
            self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def restart_nodes(self) -> None:
        """End all nodes and start them anew, idle."""
        for number in range(1, NODES + 1):
            self.end_node(f"n{number}")
            self.start_node(f"n{number}")
        self._wait(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(NODES))

    def restart_controller(self, *, after_s: float) -> None:
        """Let the controller, ended as by its administrator, be away for a while."""
        controller = self._processes.pop("slurmctld")
        controller.terminate()
        controller.wait()
        time.sleep(after_s)
        self._run("slurmctld", "-D")
        self._wait(lambda: self.ask("sinfo", "-h") != "")

    def clear(self) -> None:
        """End all jobs."""
        jobs = self.ask("squeue", "-h", "-o", "%F").split()
        if jobs:
            self.ask("scancel", *set(jobs))
            self._wait(lambda: not self.ask("squeue", "-h"))

    def workers(self) -> list[tuple[int, dict[str, str]]]:
        """Process number and environment of each of our workers on its nodes, seen from outside.

        Another cluster may stand beside this one; each tells its own jobs where its settings lie.
        """
        return self._processes_of("-m", "lightning_sep", "worker", first=1)

    def slurmd(self, node: str) -> int:
        """Process number of a node's daemon, seen from outside."""
        [(pid, _)] = self._processes_of("slurmd", "-D", "-N", node)
        return pid

    def _processes_of(self, *words: str, first: int = 0) -> list[tuple[int, dict[str, str]]]:
        """Those of this cluster's processes whose command has these words from one place on."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # Whatever runs beside is read too: its words need not be UTF-8.
                said = os.fsdecode((path / "cmdline").read_bytes()).split("\0")
                if said[first : first + len(words)] != list(words):
                    continue
                lines = os.fsdecode((path / "environ").read_bytes()).split("\0")
                variables = dict(one.split("=", 1) for one in lines if "=" in one)
                if variables.get("SLURM_CONF") == str(self.conf):
                    found.append((int(path.name), variables))
        return found

    def ask(self, *command: str) -> str:
        """What a command of Slurm answers; empty when it fails."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """End everything."""
        for name in [n for n in self._processes if n.startswith("n")]:
            self.end_node(name)
        for process in reversed(self._processes.values()):
            _end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: str, name: str = "") -> None:
        log = (self.folder / f"{name or command[0]}.out").open("ab")
        self._processes[name or command[0]] = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
        )

    def _wait(self, condition: Callable[[], bool], limit_s: float = 60) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            ended = [one for one, process in self._processes.items() if process.poll() is not None]
            if ended or time.monotonic() > end_s:
                raise TimeoutError(f"ended: {ended}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of all logs."""
        paths: Sequence[Path] = sorted(
            one for one in self.folder.iterdir() if one.suffix in (".log", ".out")
        )
        return "\n".join(
            f"--- {one.name}\n{one.read_text(errors='replace')[-800:]}" for one in paths
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
