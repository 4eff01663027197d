"""``record.json``: the one truth about a run, for status, leaderboards and reports."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning_sep import __version__
from lightning_sep.fsio import finite, write_json

FORMAT = 1  # version of the record's format; readers refuse a newer one
RECORD = "record.json"

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
# Each of these changes the bits of a result.
_NUMERIC_ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG",
)


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write ``record`` into a run's folder; returns what a reader will get.

    Raises:
        StorageError: the disk is full or the folder may not be written; an older record is whole.
    """
    written: dict[str, Any] = finite({"format": FORMAT, **record})
    write_json(folder / RECORD, written)
    return written


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run's folder; ``None`` where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    return record


def read_records(home: Path) -> list[dict[str, Any]]:
    """All readable records under ``home``, ordered by run id."""
    found = (read_record(path.parent) for path in sorted(home.glob(f"*/{RECORD}")))
    return [record for record in found if record is not None]


def environment(device: str, deterministic: bool) -> dict[str, Any]:
    """What a number may depend on besides settings and data: code, versions, machine, threads."""
    import torch

    return {
        "package": __version__,
        **_code(),
        "python": platform.python_version(),
        "versions": _versions(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "env": {name: os.environ[name] for name in _NUMERIC_ENVIRONMENT if name in os.environ},
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "deterministic": deterministic,
    }


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")


@cache
def _code() -> dict[str, str | None]:
    """Revision of the checkout that the package runs from, and a hash of what is not committed."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    try:
        if not (root / ".git").exists():
            return {"code_revision": None, "uncommitted_hash": None}
        changes = git("diff", "HEAD", "--", "lightning_sep", "conf")
        return {
            "code_revision": git("rev-parse", "HEAD").strip(),
            "uncommitted_hash": hashlib.sha256(changes.encode()).hexdigest()[:12]
            if changes
            else None,
        }
    except (OSError, subprocess.CalledProcessError):
        return {"code_revision": None, "uncommitted_hash": None}
