"""Whether the nodes of a cluster see the folders that they are told of."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_sep.launchers.slurm_jobs import surroundings

# Disks that other machines mount as well, as Linux calls them.
_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "afs", "pvfs", "fuse.", "9p")
_MEMORY = ("tmpfs", "ramfs")
_NODE_S = 10  # how long a node is waited for
_ANSWER_S = 30

_LOOK = 'for one in "$@"; do [ -e "$one" ] || echo "$one"; done'


def unseen(paths: Sequence[Path], where: Sequence[str]) -> list[str]:
    """What of some paths the nodes do not see, as far as it can be known; a line each.

    A disk of another machine is taken for shared. Of any other one a node is asked, if one is free
    at once; a folder in this machine's memory is shared by nobody, whoever can be asked.

    Args:
        paths: files and folders, which are there.
        where: the options of Slurm that choose the nodes.
    """
    own = [path for path in paths if not disk(path).startswith(_NETWORK)]
    if not own:
        return []
    missing = _asked_of_a_node(own, where)
    if missing is None:
        missing = [path for path in own if disk(path).startswith(_MEMORY)]
    return [
        f"the nodes do not see {path}: it has to lie on a disk that they share" for path in missing
    ]


def disk(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of the disk that a path lies on; empty where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    found = [
        (len(words[1]), number, words[2])
        for number, words in enumerate(line.split() for line in lines)
        if path.resolve().is_relative_to(words[1].replace("\\040", " "))
    ]
    return max(found)[2] if found else ""


def _asked_of_a_node(paths: Iterable[Path], where: Sequence[str]) -> list[Path] | None:
    """Those that a node does not see; ``None`` where none can be asked."""
    if shutil.which("srun") is None:
        return None
    names = [str(path.resolve()) for path in paths]
    options = ["--quiet", f"--immediate={_NODE_S}", "--ntasks=1", "--time=1", "--chdir=/", *where]
    try:
        done = subprocess.run(
            ["srun", *options, "/bin/sh", "-c", _LOOK, "sh", *names],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
            env=surroundings(),
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    return [Path(line) for line in done.stdout.splitlines() if line]
