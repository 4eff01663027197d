"""What a worker may be given: a trial of the search or a run of the finals, handled alike."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from optuna.trial import TrialState

from lightning_sep.leases.lease import Lease, failed_by
from lightning_sep.sweep.finals import Final, Finals
from lightning_sep.sweep.runner import Outcome
from lightning_sep.sweep.study import Claimed, SweepStudy


class Work(ABC):
    """A claimed piece of work: settings with one seed or several."""

    purpose: ClassVar[str]
    title: str
    number: int
    lease: Lease
    proposed: Sequence[str]
    seeds: Sequence[int]
    error: str | None = None
    """Why it cannot be done at all."""
    judged: bool = False
    """Whether an earlier worker has reported values of it, so that its run may have been pruned."""

    @property
    def failed_by(self) -> list[str]:
        """The workers in which it has failed so far."""
        return failed_by(self.lease.content)

    def report(self, seed: int, epoch: int, value: float) -> bool:
        """Take a value after a validation; ``True`` ends the run early."""
        self.lease.guard()
        return False

    @abstractmethod
    def finish(self, outcomes: Sequence[Outcome], reason: str | None) -> None:
        """Say what came of it, once; with a ``reason`` it has failed.

        Raises:
            LeaseLost: another worker has taken it over.
        """

    @abstractmethod
    def give_back(self, *, crashed: bool = False) -> None:
        """Let another worker go on with it.

        Raises:
            LeaseLost: another worker has taken it over.
        """


class SearchWork(Work):
    """A trial of the search: a setting, judged by the mean over its repeats."""

    purpose = "search"

    def __init__(self, study: SweepStudy, claimed: Claimed) -> None:
        self.study = study
        self.claimed = claimed
        self.number = claimed.trial.number
        self.title = f"trial {self.number}"
        self.lease = claimed.lease
        self.proposed = claimed.proposed
        self.seeds = study.definition.sweep.search_seeds
        self.error = claimed.error
        self.judged = bool(claimed.reported)

    def report(self, seed: int, epoch: int, value: float) -> bool:
        """Only the first repeat reports to the pruner: it compares trials at the same epoch."""
        self.lease.guard()
        if seed != 0 or self.study.definition.sweep.pruner is None or not math.isfinite(value):
            return False
        trial = self.claimed.trial
        if epoch not in self.claimed.reported:
            self.claimed.reported.add(epoch)
            trial.report(value, epoch)
        return trial.should_prune()

    def finish(self, outcomes: Sequence[Outcome], reason: str | None) -> None:
        values = [outcome.value for outcome in outcomes]
        state = TrialState.COMPLETE
        if reason is not None:
            state = TrialState.FAIL
        elif any(outcome.state == "pruned" for outcome in outcomes):
            state = TrialState.PRUNED
        self.study.tell(
            self.claimed,
            state,
            value=math.fsum(values) / len(values) if values else None,
            runs=[outcome.run_id for outcome in outcomes],
            reason=reason,
        )

    def give_back(self, *, crashed: bool = False) -> None:
        self.study.give_back(self.claimed, crashed=crashed)


class FinalWork(Work):
    """A finalist on one fresh seed."""

    purpose = "final"

    def __init__(self, finals: Finals, final: Final, lease: Lease) -> None:
        self.finals = finals
        self.final = final
        self.number = final.trial
        self.title = f"final of trial {final.trial}, seed {final.seed}"
        self.lease = lease
        self.proposed = final.proposed
        self.seeds = [final.seed]

    def finish(self, outcomes: Sequence[Outcome], reason: str | None) -> None:
        run_id = outcomes[0].run_id if outcomes else None
        value = None if reason is not None else outcomes[0].value
        state = "finished" if reason is None else "failed"
        result = {"run_id": run_id, "state": state, "value": value, "reason": reason}
        self.finals.accept(self.final, self.lease, result)

    def give_back(self, *, crashed: bool = False) -> None:
        self.lease.guard()
        self.lease.release(crashed=crashed)
