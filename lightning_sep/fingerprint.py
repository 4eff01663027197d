"""What a number depends on besides settings and data: the machine, its libraries, the code.

Two runs with one fingerprint give the same bits; with another one they agree only as far as the
arithmetic does.
"""

import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning_sep import __version__
from lightning_sep.sources import PACKAGE

_PACKAGES = (
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "lhotse",
    "optuna",
    "wandb",
    "hydra-core",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
)
# Variables that choose other kernels, and so other bits. Threads are not among them: what counts
# is how many there are, which is a setting.
_CHOOSE_KERNELS = ("ATEN_CPU_CAPABILITY", "NVIDIA_TF32_OVERRIDE")
_PREFIXES = ("MKL_", "ONEDNN_", "DNNL_", "KMP_DETERMINISTIC")
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
)
_THREADS = ("MKL_NUM_THREADS", "MKL_DYNAMIC", "ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKL_VERBOSE")


def fingerprint(device: str, deterministic: bool, *, ranks: int = 1) -> dict[str, Any]:
    """Everything about this process that can change the last bits of a result, as JSON types.

    Args:
        device: ``"cpu"`` or ``"cuda"``, where the run trains.
        deterministic: whether operations that give other bits each time are avoided.
        ranks: processes that share the work; said where there are several.
    """
    import torch

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "torch_build": _sha(torch.__config__.show()),
        "versions": _versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": _cpu()["model name"],
        "cpu_flags": _sha(_cpu()["flags"]),
        "env": {
            name: value
            for name, value in sorted(os.environ.items())
            if (name in _CHOOSE_KERNELS or name.startswith(_PREFIXES)) and name not in _THREADS
        },
        "deterministic": deterministic,
        "device": "cpu",
        **({"ranks": ranks} if ranks > 1 else {}),
    }
    if device.startswith("cuda"):
        found |= {
            "device": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": _driver(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return found


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, in hex, whatever the order of its keys."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()


def weights_hash(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict's tensors, in hex: names, types, shapes and bits.

    A checkpoint file cannot prove that two runs are equal: it also holds seconds.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # bfloat16 has no numpy type; its bits are all that counts.
        flat = tensor.reshape(-1)
        found.update(flat.view(_bytes_type()).numpy().tobytes() if flat.numel() else b"")
    return found.hexdigest()


def software() -> dict[str, Any]:
    """The code that ran, as it is on disk, and what it was installed with.

    ``code_hash`` covers every file of the package and its ``conf/``, those that git does not know
    among them; it is there for an installed wheel too.
    """
    return {"package": __version__, **_code(), **_installed()}


def host() -> dict[str, Any]:
    """Where this process runs, and as which job."""
    job = os.environ.get("SLURM_JOB_ID")
    return {"host": socket.gethostname(), "pid": os.getpid(), **({"job": job} if job else {})}


def _bytes_type() -> Any:
    import torch

    return torch.uint8


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


@cache
def _cpu() -> dict[str, str]:
    """Model and flags of the first core."""
    found = {"model name": platform.processor(), "flags": ""}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, value = line.partition(":")
        name = {"Features": "flags"}.get(name.strip(), name.strip())
        if name in found and value.strip():
            found[name] = value.strip()
        if not line.strip():  # the end of the first core
            break
    return found


@cache
def _driver() -> str:
    try:
        lines = Path("/proc/driver/nvidia/version").read_text().splitlines()
    except OSError:
        return ""
    return lines[0].partition(":")[2].strip() if lines else ""


@cache
def _installed() -> dict[str, str | None]:
    """Hashes of what is installed and of the committed lock, where there is one."""
    said = [one.metadata for one in metadata.distributions()]  # read anew whenever it is asked for
    names = {f"{one['Name']}=={one['Version']}".lower() for one in said}
    lock = PACKAGE.parent / "constraints.txt"
    try:
        locked = hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        locked = None
    return {"lock_hash": locked, "installed_hash": _sha("\n".join(sorted(names)))}


@cache
def _code() -> dict[str, str | None]:
    folders = [PACKAGE]
    if not (PACKAGE / "conf").is_dir():
        folders.append(PACKAGE.parent / "conf")
    found = hashlib.sha256()
    for path in _files(folders):
        found.update(path.relative_to(PACKAGE.parent).as_posix().encode() + b"\0")
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return {"code_hash": found.hexdigest(), **_revision()}


def _files(folders: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in (".py", ".yaml") and path.is_file()
    )


def _revision() -> dict[str, str | None]:
    """Revision of the checkout that the package runs from, and a hash of what is not committed."""
    root = PACKAGE.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    try:
        if not (root / ".git").exists():
            return {"code_revision": None, "uncommitted_hash": None}
        changes = git("diff", "HEAD", "--", PACKAGE.name, "conf")
        new = git("ls-files", "--others", "--exclude-standard", "--", PACKAGE.name, "conf")
        for name in (one for one in new.splitlines() if one.endswith((".py", ".yaml"))):
            changes += f"{name} {_sha((root / name).read_text(errors='replace'))}\n"
        return {
            "code_revision": git("rev-parse", "HEAD").strip(),
            "uncommitted_hash": _sha(changes) if changes else None,
        }
    except (OSError, subprocess.CalledProcessError):
        return {"code_revision": None, "uncommitted_hash": None}
