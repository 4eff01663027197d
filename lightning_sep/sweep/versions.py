"""What must not change within a sweep."""

import platform
from collections.abc import Sequence
from importlib import metadata

from lightning_sep.fingerprint import digest
from lightning_sep.run_id import code_versions, counted


def versions(
    targets: Sequence[str], entries: Sequence[str] = (), config_dir: str | None = None
) -> dict[str, str]:
    """Hashes of the code and entries that a sweep's settings reach, and its libraries' versions.

    Args:
        targets: the class paths that the sweep's settings name.
        entries: the entries of ``conf/`` that they are made of, as ``group/entry``.
        config_dir: a folder with the user's own entries.
    """
    found = {
        **code_versions(targets),
        **entry_versions(entries, config_dir),
        "python": platform.python_version(),
    }
    for package in ("torch", "pytorch-lightning", "optuna"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def entry_versions(entries: Sequence[str], config_dir: str | None = None) -> dict[str, str]:
    """A hash of each entry's settings that count: its defaults are the settings of all trials.

    Args:
        entries: ``group/entry``.
        config_dir: a folder with the user's own entries.
    """
    from lightning_sep.settings import contents

    found = {}
    for name, nodes in contents(entries, config_dir).items():
        group = name.split("/")[0]
        plain = [counted({group: node}) for node in nodes]
        found[f"conf/{name}.yaml"] = digest({"nodes": plain})[:12]
    return found
