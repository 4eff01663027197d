"""A real worker on a tiny problem: gradient descent with a checkpoint after every step.

``python quadratic.py HOME SWEEP [SWEEP ...]`` is what the tests launch instead of an audio model.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_sep.errors import Interrupted, NonFiniteLoss
from lightning_sep.fsio import append_line, make_folder, write_json
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.leases.presence import Peers
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.names import workers_folder
from lightning_sep.sweep.runner import Errand, Examined, Outcome
from lightning_sep.sweep.worker import main

STEP_S = "QUADRATIC_STEP_S"  # not a setting: slow and fast runs are the same run


class Quadratic:
    """Minimises (x - 1)^2; settings: ``rate``, ``steps``, ``step_s``, ``fault``, ``seed``."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def examine(self, definition: Definition) -> Examined:
        definition.check(lambda overrides: None)
        return Examined()

    def prepare(self, overrides: Sequence[str]) -> tuple[str, Any]:
        run_id = hashlib.sha256(json.dumps(sorted(overrides)).encode()).hexdigest()[:12]
        return run_id, (run_id, overrides)

    def reached(self, run_id: str) -> int:
        checkpoint = self.home / run_id / "checkpoint.json"
        return len(json.loads(checkpoint.read_text())["epochs"]) if checkpoint.exists() else 0

    def run(self, prepared: Any, errand: Errand) -> Outcome:
        run_id, overrides = prepared
        folder = self.home / run_id
        make_folder(folder)
        leases = Leases(
            errand.presence,
            Peers(workers_folder(self.home)),
            path=lambda key: folder / "lease.json",
        )
        while (lease := leases.claim(run_id)) is None:
            errand.busy(leases.holder(run_id))
        try:
            return self.train(run_id, folder, overrides, errand, lease)
        finally:
            lease.finish(keep=True)

    def train(
        self, run_id: str, folder: Path, overrides: Sequence[str], errand: Errand, lease: Lease
    ) -> Outcome:
        def guard() -> None:
            errand.guard()
            lease.guard()

        settings = dict(item.split("=", 1) for item in overrides)
        record_path = folder / "record.json"
        if record_path.exists():
            record = json.loads(record_path.read_text())
            return Outcome(run_id, record["state"], record["value"])
        append_line(folder / "attempts.log", str(os.getpid()))
        attempts = len((folder / "attempts.log").read_text().splitlines())
        fault = settings.get("fault", "none")
        checkpoint = folder / "checkpoint.json"
        state = {"x": 0.0, "epochs": [], "values": []}
        if checkpoint.exists():
            state = json.loads(checkpoint.read_text())
        pruned = False
        for epoch in range(len(state["epochs"]), int(settings.get("steps", "4"))):
            noise = random.Random(f"{settings['seed']}-{epoch}").gauss(0, 0.01)
            state["x"] -= float(settings.get("rate", "0.3")) * 2 * (state["x"] - 1 + noise)
            time.sleep(float(os.environ.get(STEP_S) or settings.get("step_s", "0.01")))
            self.misbehave(fault, attempts)
            if errand.should_stop():
                raise Interrupted("asked to stop")
            value = (state["x"] - 1) ** 2
            state["epochs"].append(epoch)
            state["values"].append(value)
            guard()
            write_json(checkpoint, state)
            if errand.report(epoch, value):
                pruned = True
                break
        guard()
        how = "pruned" if pruned else "finished"
        value = min(state["values"])
        write_json(record_path, {"state": how, "value": value, "purpose": errand.purpose, **state})
        append_line(folder / "records.log", str(os.getpid()))  # after: a kill between is no second
        if fault == "die_untold" and attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(run_id, how, value)

    def misbehave(self, fault: str, attempts: int) -> None:
        if fault == "abort":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "diverge":
            raise NonFiniteLoss("loss is not finite at step 3")
        if fault == "bug":
            raise ZeroDivisionError("a mistake in the code")
        if fault == "memory" and attempts < 3:
            raise MemoryError("no memory left")
        if fault == "always_memory":
            raise MemoryError("no memory left")
        if fault == "storm":  # a burst of signals, in the middle of everything
            for _ in range(20):
                os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    sys.exit(main(sys.argv[2:], home, runner=Quadratic(home)))
