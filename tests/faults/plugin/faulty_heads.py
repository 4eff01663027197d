"""A head of a user's own that misbehaves: as a broken device, a dead lock or a crash would."""

import os
import signal
import time
from pathlib import Path

from torch import Tensor

from lightning_sep.heads.tanh import Tanh

BROKEN: list[str] = []  # what broke in this process; a broken device stays broken


class Faulty(Tanh):
    """``tanh`` that does something else in training.

    Args:
        fault: ``none``; ``cuda``: the process's device breaks and stays so, for all heads of this
            class; ``kill``: the process is gone; ``sleep``: it sleeps for ever, once: the file
            that SLEPT names says whether that has been.
        amount: means nothing; another value is another setting.

    In evaluation it adds a byte to the file that EVALUATED names, and then takes SLOWLY seconds.
    """

    def __init__(self, fault: str = "none", amount: int = 0) -> None:
        super().__init__()
        self.fault = fault
        self.amount = amount

    def training_view(self, raw: Tensor) -> Tensor:
        if self.training:
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

    def decoded(self, raw: Tensor) -> Tensor:
        if "EVALUATED" in os.environ:
            with open(os.environ["EVALUATED"], "a") as file:
                file.write(".")
            time.sleep(float(os.environ.get("SLOWLY", "0")))
        return raw.squeeze(-1).tanh()
