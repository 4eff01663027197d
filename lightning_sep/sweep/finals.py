"""The finals of a sweep: its best settings once more, on fresh seeds."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightning_sep.fsio import PATIENCE, json_text, link_first, make_folder, set_apart
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.study import SweepStudy

_STATES = ("finished", "failed")


@dataclass(frozen=True)
class Final:
    """One fresh-seed run of a finalist."""

    trial: int
    seed: int
    proposed: list[str]

    @property
    def key(self) -> str:
        """Name of its lease and its result."""
        return f"final-{self.trial:04d}-{self.seed}"


class Finals:
    """The final runs of one sweep, and their accepted results.

    Args:
        study: the sweep.
    """

    def __init__(self, study: SweepStudy) -> None:
        self.study = study
        self.folder = study.folder / "finals"
        self._chosen: tuple[int, list[Final]] | None = None
        self._results: dict[str, dict[str, Any]] = {}

    def all(self) -> list[Final]:
        """All final runs, the best setting's first; empty until the search is over."""
        if self.study.searching():
            return []
        budget = self.study.budget
        if self._chosen is None or self._chosen[0] != budget:  # a search that is over stays so
            finals = [
                Final(trial.number, seed, list(trial.user_attrs.get("overrides", [])))
                for trial in finalists(self.study.definition, self.study.trials())
                for seed in self.study.definition.sweep.fresh_seeds
            ]
            self._chosen = budget, finals
        return self._chosen[1]

    def results(self) -> dict[str, dict[str, Any]]:
        """The accepted results by key; an accepted result never changes, so each is read once."""
        try:
            names = PATIENCE.until_back(lambda: os.listdir(self.folder))
        except FileNotFoundError:
            return {}
        for name in names:
            key, _, suffix = name.rpartition(".")
            if suffix == "json" and not name.startswith(".") and key not in self._results:
                result = self._read(self.folder / name)
                if result is not None:
                    self._results[key] = result
        return self._results

    def open(self) -> list[Final]:
        """The final runs without a result, in their order."""
        finals = self.all()
        if not finals:
            return []
        results = self.results()
        return [final for final in finals if final.key not in results]

    def claim(self, leases: Leases) -> tuple[Final, Lease] | None:
        """A final run to do; None when there is none, or none that is free."""
        finals = self.open()
        if not leases.any_free([final.key for final in finals]):
            return None
        with self.study.lock:
            for final in self.open():
                if leases.maybe_free(final.key):
                    lease = leases.claim(final.key)
                    if lease is not None:
                        return final, lease
        return None

    def accept(self, final: Final, lease: Lease, result: dict[str, Any]) -> None:
        """Write the result of a final run, once: the first one stands.

        Raises:
            LeaseLost: another worker has taken it over.
        """
        with self.study.lock:
            lease.guard()
            PATIENCE.until_back(lambda: make_folder(self.folder))
            path = self.folder / f"{final.key}.json"
            if path.exists() and self._read(path) is None:
                set_apart(path)
            content = {"trial": final.trial, "seed": final.seed, **result}
            link_first(path, json_text(content))
            lease.finish()

    def done(self) -> bool:
        """Whether search and finals are over."""
        return not self.study.searching() and not self.open()

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            result = json.loads(PATIENCE.until_back(path.read_text))
        except (FileNotFoundError, ValueError):
            result = None
        sound = (
            isinstance(result, dict)
            and result.get("state") in _STATES
            and isinstance(result.get("trial"), int)
            and isinstance(result.get("seed"), int)
        )
        return result if sound else None


def finalists(definition: Definition, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best distinct settings among finished trials; ties go to the earlier trial."""
    sweep = definition.sweep
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.values]
    complete.sort(key=lambda t: (sweep.sign * (t.values or [math.inf])[0], t.number))
    chosen: dict[tuple[str, ...], FrozenTrial] = {}
    for trial in complete:
        chosen.setdefault(tuple(trial.user_attrs.get("runs", [trial.number])), trial)
    return list(chosen.values())[: sweep.finalists]
