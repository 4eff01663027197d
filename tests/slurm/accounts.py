"""A cluster with accounts and limits: a database beside it, as real ones have."""

import subprocess
from pathlib import Path

from tests.slurm import cluster
from tests.slurm.cluster import NODES, Cluster

_PROGRAMS = ("mariadbd", "slurmdbd", "sacctmgr")
_TABLES = ("mysql/mysql_system_tables.sql", "mariadb/mariadb_system_tables.sql")


def missing() -> str | None:
    """Why there can be no such cluster here; ``None`` when there can."""
    return cluster.missing(_PROGRAMS)


class Accounts(Cluster):
    """A cluster whose limits bind everybody, root too.

    Its database's port follows those of its nodes.
    """

    def _write(self, port: int) -> None:
        super()._write(port)
        database, socket = port + NODES + 1, f"socket={self.folder}/munge.socket"
        lines = f"""
            AccountingStorageType=accounting_storage/slurmdbd
            AccountingStorageHost=localhost
            AccountingStoragePort={database}
            AccountingStoragePass={socket}
            AccountingStorageEnforce=limits,qos,safe
            AccountingStorageTRES=gres/gpu
        """
        with self.conf.open("a") as file:
            file.write("\n".join(line.strip() for line in lines.splitlines()) + "\n")
        lines = f"""
            AuthType=auth/munge
            AuthInfo={socket}
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
        path.write_text("\n".join(line.strip() for line in lines.splitlines()))
        path.chmod(0o600)

    def _start_accounting(self) -> None:
        data, socket = self.folder / "data", self.folder / "maria.socket"
        data.mkdir()
        server = [
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0"),
        ]
        [tables] = [one for one in map(Path("/usr/share").joinpath, _TABLES) if one.exists()]
        self._check(
            [*server, "--bootstrap"], "create database mysql;\nuse mysql;\n" + tables.read_text()
        )
        self._run(*server, "--skip-grant-tables", "--skip-networking", f"--socket={socket}")
        self._wait(socket.exists)
        self.environment["MYSQL_UNIX_PORT"] = str(socket)
        self._run("slurmdbd", "-D")
        self._wait(lambda: "normal" in self.ask("sacctmgr", "-n", "list", "qos"))
        self.account("add", "cluster", "tests")

    def _start(self) -> None:
        super()._start()
        self._wait(lambda: "127.0.0.1" in self.ask("sacctmgr", "-n", "list", "cluster"))

    def account(self, *words: str) -> None:
        """Change accounts, users or limits; the controller knows of it at once."""
        self._check(["sacctmgr", "-i", *words])

    def _check(self, command: list[str], said: str = "") -> None:
        options = {"capture_output": True, "text": True, "env": self.environment}
        done = subprocess.run(command, input=said, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
