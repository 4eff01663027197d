"""Where things lie unless a caller says otherwise."""

import os
from pathlib import Path


def runs_home() -> Path:
    """Where runs lie."""
    return Path(os.environ.get("LIGHTNING_SEP_HOME", "runs"))


def data_home() -> Path:
    """Where manifests and decoded audio lie."""
    return Path(os.environ.get("LIGHTNING_SEP_DATA", "data"))
