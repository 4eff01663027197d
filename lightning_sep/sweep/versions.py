"""What must not change within a sweep."""

import platform
from collections.abc import Sequence
from importlib import metadata

from lightning_sep.run_id import code_versions


def versions(targets: Sequence[str]) -> dict[str, str]:
    """Hashes of the code that a sweep's settings reach, and the versions of its libraries.

    Args:
        targets: the class paths that the sweep's settings name.
    """
    found = {**code_versions(targets), "python": platform.python_version()}
    for package in ("torch", "pytorch-lightning", "optuna"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found
