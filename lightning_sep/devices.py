"""Where a run computes."""

import os
import socket
from collections.abc import Mapping
from typing import Any

import torch

from lightning_sep.errors import ConfigError


def device_of(tree: Mapping[str, Any]) -> str:
    """Where a run computes: ``cpu`` or ``cuda``."""
    asked: str = tree["trainer"]["device"]
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def refuse_device(tree: Mapping[str, Any]) -> None:
    """See that this machine computes on what the settings say, as they say it: what is recorded
    is what ran.

    Raises:
        ConfigError: there is no GPU, though one was asked for, of Slurm or by the settings; or the
            processor takes another precision instead.
    """
    device = device_of(tree)
    promised = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("SLURM_STEP_GPUS")
    if device == "cpu" and tree["trainer"]["device"] == "auto" and promised:
        raise ConfigError(
            f"this job has GPUs ({promised}), and torch finds none on {socket.gethostname()}: "
            "`nvidia-smi` and `python -c 'import torch; print(torch.version.cuda)'` tell which of "
            "the two lacks it; trainer.device=cpu computes without"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.device = 'cuda': torch finds no GPU here; trainer.device=auto takes one when "
            "there is one"
        )
    if device == "cpu" and tree["trainer"]["precision"] == "16-mixed":
        raise ConfigError(
            "trainer.precision = '16-mixed' needs a GPU, and torch finds none here; on a CPU take "
            "32 or bf16-mixed"
        )
