"""Experiment sweeps for audio models: which activation, which margin, which softmax temperature?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that `lightning-sep --help` does not wait for torch.
_LAZY = {
    "train": "lightning_sep.api",
    "load_run": "lightning_sep.use",
    "records": "lightning_sep.use",
    "separate_samples": "lightning_sep.use",
    "embed_samples": "lightning_sep.use",
}
_ROOMS = ("sweep", "leaderboard")  # packages that can be called as well, see `rooms`


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"lightning_sep.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'lightning_sep' has no attribute {name!r}")
