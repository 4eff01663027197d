"""A cluster with accounts and limits: a database beside it, as real ones have."""

import subprocess
from pathlib import Path

from tests.slurm import cluster
from tests.slurm.cluster import PATH, Cluster

PROGRAMS = ("mariadbd", "slurmdbd", "sacctmgr")
_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")


def missing() -> str | None:
    """Why there can be no such cluster here; ``None`` when there can."""
    return cluster.missing(PROGRAMS)


class Accounts(Cluster):
    """A cluster whose accounts bind everybody, also root.

    Args:
        folder: for sockets, logs and spools; short, since a socket's path is.
        port: the first of the ports that it takes.
        more: lines of ``slurm.conf``.
    """

    def __init__(self, folder: Path, port: int, more: str = "") -> None:
        self.more = more
        super().__init__(folder, port)

    def _write(self, port: int) -> None:
        super()._write(port)
        database = port + cluster.NODES + 1
        more = f"""
            AccountingStorageType=accounting_storage/slurmdbd
            AccountingStorageHost=localhost
            AccountingStoragePort={database}
            AccountingStoragePass=socket={self.folder}/munge.socket
            AccountingStorageEnforce=limits,qos,safe
            AccountingStorageTRES=gres/gpu
            {self.more}
        """
        with self.conf.open("a") as file:
            file.write("\n".join(line.strip() for line in more.splitlines()) + "\n")
        own = f"""
            AuthType=auth/munge
            AuthInfo=socket={self.folder}/munge.socket
            DbdHost=localhost
            DbdPort={database}
            SlurmUser=root
            StorageType=accounting_storage/mysql
            StorageHost=localhost
            StorageUser=root
            LogFile={self.folder}/slurmdbd.log
            PidFile={self.folder}/slurmdbd.pid
        """
        path = self.folder / "slurmdbd.conf"
        path.write_text("\n".join(line.strip() for line in own.splitlines()))
        path.chmod(0o600)

    def _start_accounting(self) -> None:
        data, socket = self.folder / "data", self.folder / "maria.socket"
        data.mkdir()
        server = [
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0"),
        ]
        script = "create database mysql;\nuse mysql;\n" + _TABLES.read_text()
        self.environment["MYSQL_UNIX_PORT"] = str(socket)
        subprocess.run(
            [*server, "--bootstrap"],
            input=script,
            env={**self.environment, "PATH": PATH},
            text=True,
            capture_output=True,
            check=True,
        )
        self._run(*server, "--skip-grant-tables", "--skip-networking", f"--socket={socket}")
        self._wait(socket.exists)
        self.start_database()
        self.account("add", "cluster", "tests")

    def start_database(self) -> None:
        """Start what the controller asks for limits."""
        self._run("slurmdbd", "-D")
        self._wait(lambda: self.ask("sacctmgr", "-n", "list", "qos") != "")

    def end_database(self) -> None:
        """End it: the controller goes on with what it knows."""
        cluster._end(self._processes.pop("slurmdbd"))

    def account(self, *words: str) -> str:
        """Change accounts, users or limits; the controller knows of it at once."""
        return self.ask("sacctmgr", "-i", *words)
