"""Where the files of a sweep lie."""

from pathlib import Path

JOURNAL = "journal.log"


def sweep_folder(home: Path, name: str) -> Path:
    """Where a sweep lies."""
    return home / "sweeps" / name


def stop_file(home: Path, name: str) -> Path:
    """The file that asks a sweep's workers to stop."""
    return sweep_folder(home, name) / "stop"


def workers_folder(home: Path) -> Path:
    """Where workers show that they live."""
    return home / "leases" / "workers"


def sweep_names(home: Path) -> list[str]:
    """The sweeps under ``home``."""
    return sorted(path.parent.name for path in (home / "sweeps").glob("*/sweep.json"))


def trial_key(number: int) -> str:
    """Name of a trial's lease."""
    return f"trial-{number:04d}"


def lease_file(folder: Path, key: str) -> Path:
    """The file of a lease in a sweep's folder."""
    return folder / "leases" / f"{key}.json"
