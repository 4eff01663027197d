"""A head of a user's own that misbehaves: as a broken device, a dead lock or a crash would."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from lightning_sep.heads.tanh import Tanh

BROKEN: list[str] = []  # what broke in this process; a broken device stays broken


COUNTS: Counter[str] = Counter()


def count(name: str) -> int:
    """Add a byte to the file that a variable names; how often this process has done that."""
    COUNTS[name] += 1
    if name in os.environ:
        with open(os.environ[name], "a") as file:
            file.write(".")
    return COUNTS[name]


class Faulty(Tanh):
    """``tanh`` that does something else in training.

    Args:
        fault: ``none``; ``cuda``: the process's device breaks and stays so, for all heads of this
            class; ``kill``: the process is gone; ``sleep``: it sleeps for ever, once: the file
            that SLEPT names says whether that has been.
        amount: means nothing; another value is another setting.

    In evaluation it adds a byte to the file that EVALUATED names, and then takes SLOWLY seconds,
    but for the first SLOW_AFTER times in its process. In training the same with TRAINED and
    STEPPING.
    """

    def __init__(self, fault: str = "none", amount: int = 0) -> None:
        super().__init__()
        self.fault = fault
        self.amount = amount

    def training_view(self, raw: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # validation asks for this view too
            self.misbehave()
        return super().training_view(raw)

    def misbehave(self) -> None:
        if self.fault == "cuda":
            BROKEN.append("uncorrectable ECC error encountered")
        if BROKEN:
            raise RuntimeError(f"CUDA error: {BROKEN[0]}")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "sleep":
            slept = Path(os.environ["SLEPT"])
            if not slept.exists():
                slept.touch()
                time.sleep(10_000)
        count("TRAINED")
        time.sleep(float(os.environ.get("STEPPING", "0")))

    def decoded(self, raw: Tensor) -> Tensor:
        if count("EVALUATED") > int(os.environ.get("SLOW_AFTER", "0")):
            time.sleep(float(os.environ.get("SLOWLY", "0")))
        return raw.squeeze(-1).tanh()
