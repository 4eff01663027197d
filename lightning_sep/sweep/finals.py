"""The finals of a sweep: its best settings once more, on fresh seeds.

In a race, the settings that are left are looked at after each seed from the third on; whoever is
behind the best one is dropped. A look takes place when all runs up to it are done, and takes
nothing but their accepted results, which never change: so what is run depends neither on the number
of workers nor on who is done first, and a process that begins in the middle sees the same race.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from lightning_sep.fsio import PATIENCE, json_text, link_first, make_folder, set_apart
from lightning_sep.leaderboard.metric import floor_of
from lightning_sep.leaderboard.statistics import paired_seed_difference
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.sweep.definition import Definition, Sweep
from lightning_sep.sweep.study import SweepStudy

_STATES = ("finished", "failed")
FIRST_LOOK = 3  # seeds: two tell next to nothing of their spread
LEVEL = 0.05  # chance that a race drops the setting that is truly the best, at most


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


@dataclass(frozen=True)
class Dropped:
    """Why a race went on without a setting.

    Args:
        after: how many fresh seeds it had finished.
        leader: the trial that it was behind.
        behind: by how much, in the metric that the sweep judges by; above 0.
    """

    after: int
    leader: int
    behind: float


@dataclass(frozen=True)
class Plan:
    """What is to be run as far as it is known, and what will not be.

    Args:
        finals: ``(trial, seed)``, in the order in which they are begun.
        dropped: by trial.
        most: how many final runs there will be, at most.
    """

    finals: list[tuple[int, int]]
    dropped: dict[int, Dropped] = field(default_factory=dict)
    most: int = 0


def plan(
    trials: Sequence[int], sweep: Sweep, results: Mapping[tuple[int, int], float | None]
) -> Plan:
    """Which runs the finals consist of, from what they have given so far.

    A setting is dropped when it is behind the one with the best mean by Student's paired t of their
    scores, seed by seed, one-sided at 5 % over all looks and all settings that might lead
    (Bonferroni). A seed of it that is worse than a predictor which has learnt nothing counts as
    that one: collapsed runs scatter so far that hardly any three of them would be behind anything.
    One with a failed seed is left where it is, since it can no longer be ranked.

    Args:
        trials: the finalists, the best one first.
        sweep: how many seeds there are, and whether it is a race.
        results: validation score by ``(trial, seed)``; None for one that failed.
    """
    seeds = list(sweep.fresh_seeds)
    looks = list(range(FIRST_LOOK, len(seeds))) if sweep.race else []
    floor = floor_of(sweep.metric)
    worst = math.inf if floor is None else sweep.sign * floor
    finals: list[tuple[int, int]] = []
    dropped: dict[int, Dropped] = {}
    left, begin = list(trials), 0
    for end in [*looks, len(seeds)]:
        batch = [(trial, seed) for trial in left for seed in seeds[begin:end]]
        finals += batch
        begin = end
        if end == len(seeds) or any(one not in results for one in batch):
            break
        scores = {trial: [results[trial, seed] for seed in seeds[:end]] for trial in left}
        whole = {
            trial: [sweep.sign * one for one in values if one is not None]
            for trial, values in scores.items()
            if None not in values
        }
        left = [trial for trial in left if trial in whole]
        if not left:
            break
        leader = min(left, key=lambda trial: (math.fsum(whole[trial]), trials.index(trial)))
        level = 2 * LEVEL / (max(1, len(trials) - 1) * len(looks))
        for trial in left:
            raised = [min(one, worst) for one in whole[trial]]
            found = paired_seed_difference(raised, whole[leader])
            if found.p_value is not None and found.p_value < level and found.mean > 0:
                behind = float(np.subtract(whole[trial], whole[leader]).mean())
                dropped[trial] = Dropped(end, leader, behind)
        left = [trial for trial in left if trial not in dropped]
    most = len(finals) + len(left) * (len(seeds) - begin)
    return Plan(finals, dropped, most)


class Finals:
    """The final runs of one sweep, and their accepted results.

    Args:
        study: the sweep.
    """

    def __init__(self, study: SweepStudy) -> None:
        self.study = study
        self.folder = study.folder / "finals"
        self._chosen: tuple[int, dict[int, list[str]]] | None = None
        self._results: dict[str, dict[str, Any]] = {}

    def all(self) -> list[Final]:
        """All final runs that are known of; empty until the search is over."""
        entrants = self._entrants()
        return [Final(trial, seed, entrants[trial]) for trial, seed in self.plan().finals]

    def plan(self) -> Plan:
        """What is to be run as far as it is known; nothing until the search is over."""
        entrants = self._entrants()
        if not entrants:
            return Plan([])
        values = {
            (result["trial"], result["seed"]): result.get("value")
            for result in (self.results() if self.study.definition.sweep.race else {}).values()
        }
        return plan(list(entrants), self.study.definition.sweep, values)

    def _entrants(self) -> dict[int, list[str]]:
        """The finalists' trials with what they proposed, the best one first."""
        if self.study.searching():
            return {}
        budget = self.study.budget
        if self._chosen is None or self._chosen[0] != budget:  # a search that is over stays so
            found = {
                trial.number: list(trial.user_attrs.get("overrides", []))
                for trial in finalists(self.study.definition, self.study.trials())
            }
            self._chosen = budget, found
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
