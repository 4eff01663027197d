"""A run that is mirrored while it trains."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lightning_sep.errors import Interrupted, LeaseLost, LightningSepWarning, one_line
from lightning_sep.fsio import PATIENCE, append_line, read_lines
from lightning_sep.tracking.dashboard import Mirror
from lightning_sep.tracking.sender import Sender

HISTOGRAMS = "histograms.jsonl"  # beside W&B's files: what ``metrics.jsonl`` does not hold
_BEAT_S = 0.5
_LONGEST_S = 240.0  # to open a run and to close it: past that it hangs


@contextmanager
def _no_hang() -> Iterator[None]:
    """Whoever waits for W&B, which ends its own waiting, makes no step and does not hang."""

    def beat() -> None:
        for _ in range(int(_LONGEST_S / _BEAT_S)):
            PATIENCE.pulse()
            if over.wait(_BEAT_S):
                return

    over = threading.Event()
    thread = threading.Thread(target=beat, name="tracking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def same_environment(data: Path) -> Iterator[None]:
    """Keep W&B's helper from reporting home, and take back what W&B leaves in the environment.

    The helper of an offline run would look up and call its makers' server too. With
    ``WANDB_SERVICE``, child processes would share this one's helper: the end of this one would be
    the end of their mirrors.

    Args:
        data: where W&B puts tables and weights until they are uploaded; it would take a folder of
            the user's home, which another machine may not see.
    """
    before = dict(os.environ)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ["WANDB_DATA_DIR"] = str(data)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class Tracker:
    """Mirrors one run. Whatever goes wrong with W&B, training neither waits nor fails.

    W&B's own files lag behind by seconds and lose their end in a kill. So each attempt that goes on
    with a run writes them anew, from the lines of ``metrics.jsonl`` on: they hold each step once,
    however often the run was stopped. Those that ``wandb sync`` has uploaded meanwhile stay, and
    what is written anew comes after them: a step uploaded twice would be there twice.

    Args:
        mirror: what W&B is told.
        folder: the run's folder; W&B files go to ``wandb/`` in it.
        mode: ``"offline"``, ``"online"`` or ``"disabled"``.
        raises: whether what W&B raises is raised here too, since nothing is trained.
    """

    def __init__(self, mirror: Mirror, *, folder: Path, mode: str, raises: bool = False) -> None:
        self._raises = raises
        self._folder = folder
        self._own = folder / "wandb"
        self._mirror = mirror
        self._sender: Sender | None = None
        self._histograms: dict[int, dict[str, Any]] = {}
        if mode == "disabled":
            return
        self._try(lambda: self._open(mode))
        for row in read_lines(folder / "metrics.jsonl"):
            self.log(row)

    def _open(self, mode: str) -> None:
        # W&B falls back to a temporary folder where it cannot write, and nobody would find it.
        self._own.mkdir(parents=True, exist_ok=True)
        if not os.access(self._own, os.W_OK):
            raise OSError(f"{self._own} cannot be written")
        self._mirror.write(self._folder)
        self._histograms = read_histograms(self._folder)
        earlier = list(self._own.glob("offline-run-*")) if mode == "offline" else []
        uploaded = [part for part in earlier if any(part.glob("*.synced"))]
        sent = max(map(_last_step, uploaded), default=-1)
        with same_environment(self._own):
            self._sender = Sender(self._mirror, mode=mode, folder=self._folder, sent=sent)
        for part in set(earlier) - set(uploaded):
            shutil.rmtree(part, ignore_errors=True)

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one line of the history, with the histograms of its step."""
        sender = self._sender
        if sender is not None:
            self._try(lambda: sender.log(row, self._histograms.get(row["step"], {})))

    def histogram(self, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
        """Mirror a histogram, with the row of the same step, which must come after it."""
        if self._sender is None:
            return
        kept = {"step": step, "name": name, "counts": counts.tolist(), "edges": edges.tolist()}
        self._try(lambda: append_line(self._own / HISTOGRAMS, json.dumps(kept)))
        self._histograms.setdefault(step, {})[name] = (counts, edges)

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Mirror what came of the run, then close it.

        Args:
            outcome: as its record will say it.
        """
        sender = self._sender
        if sender is None:
            return

        def send() -> None:
            with same_environment(self._own):
                sender.results(outcome, self._folder)
                sender.finish()
            self._tidy(sender)

        self._try(send)
        self._sender = None

    def left(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the run without results, if it is still open: it was stopped or has failed."""
        sender = self._sender
        if sender is None:
            return
        stopped = error is None or isinstance(error, Interrupted | LeaseLost | KeyboardInterrupt)

        def send() -> None:
            sender.state("stopped" if stopped else "failed")
            sender.finish(1)
            self._tidy(sender)

        self._try(send)
        self._sender = None

    def _tidy(self, sender: Sender) -> None:
        """Remove W&B's own logs: quotas count files."""
        shutil.rmtree(sender.logs, ignore_errors=True)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            with _no_hang():
                action()
        except Exception as error:  # a mirror must never break what it mirrors
            self._sender = None
            if self._raises:
                raise
            line = (
                f"W&B is off for the rest of this run: {one_line(error)}. Training goes on; "
                f"`lightning-sep mirror {self._mirror.run_id}` makes it up when the run is done"
            )
            print(f"lightning-sep: {line}", file=sys.stderr, flush=True)
            warnings.warn(line, LightningSepWarning, stacklevel=3)


def _last_step(part: Path) -> int:
    """The last step that an offline part of a run holds, as W&B itself reads it."""
    read = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    steps = [-1]
    for line in read.stdout.splitlines():
        with suppress(ValueError):  # the end, torn by a kill
            steps.append(json.loads(line).get("history", {}).get("item", {}).get("_step", -1))
    return max(steps)


def read_histograms(folder: Path) -> dict[int, dict[str, Any]]:
    """Counts and edges of a run's histograms, by step and name."""
    found: dict[int, dict[str, Any]] = {}
    for kept in read_lines(folder / "wandb" / HISTOGRAMS):
        value = np.asarray(kept["counts"]), np.asarray(kept["edges"])
        found.setdefault(kept["step"], {})[kept["name"]] = value
    return found
