"""Where things lie unless a caller says otherwise."""

import os
from pathlib import Path


def runs_home() -> Path:
    """Where runs lie: ``LIGHTNING_SEP_HOME``, or ``runs`` where it is unset or empty."""
    return Path(os.environ.get("LIGHTNING_SEP_HOME") or "runs")


def data_home() -> Path:
    """Where prepared data lie: ``LIGHTNING_SEP_DATA``, or ``data`` where it is unset or empty."""
    return Path(os.environ.get("LIGHTNING_SEP_DATA") or "data")
