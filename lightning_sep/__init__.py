"""Experiment sweeps for audio models: which activation, which margin, which softmax temperature?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that `lightning-sep --help` does not wait for torch.
_LAZY = {
    "load_run": "lightning_sep.use",
    "records": "lightning_sep.use",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'lightning_sep' has no attribute {name!r}")
