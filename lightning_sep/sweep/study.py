"""The search of a sweep: its trials in an Optuna journal, and who works on which."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from lightning_sep.errors import ConfigError, LeaseLost
from lightning_sep.leases.lease import Lease, Leases
from lightning_sep.leases.lock import FileLock
from lightning_sep.memory import no_collection
from lightning_sep.sweep import inside_optuna, space
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.journal import Journal
from lightning_sep.sweep.names import JOURNAL, stop_file, sweep_folder, trial_key
from lightning_sep.sweep.space import Point

OPEN = (TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Claimed:
    """A trial that this worker may run."""

    trial: Trial
    lease: Lease
    proposed: list[str]
    reported: set[int]
    """Epochs that an earlier worker has reported already."""
    error: str | None = None
    """Why the trial cannot be run at all."""


class SweepStudy:
    """One sweep in ``<home>/sweeps/<name>``.

    Args:
        home: the root of all runs.
        definition: what is asked.
        points: the points of a small finite space in the order of their trials; ``None`` for
            another space.
        patience_s: how long a worker's sign of life may stand still before its work is taken.
        look: only look: nothing is written, and nothing is made that is not there.
        check: raises ``ConfigError`` when what settings are made of is no longer what it was.
    """

    def __init__(
        self,
        home: Path,
        definition: Definition,
        *,
        points: Sequence[Point] | None,
        patience_s: float,
        look: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.home = home
        self.check = check
        self.definition = definition
        self.points = points
        self.patience_s = patience_s
        self.seen: list[FrozenTrial] = []
        self._over_at: int | None = None  # the budget at which the search was found to be over
        self.folder = sweep_folder(home, definition.name)
        self.lock = FileLock(self.folder / "sweep.lock")
        self.journal = Journal(self.folder / JOURNAL, None if look else self.lock)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with no_collection():
            storage = inside_optuna.Storage(self.journal)
        self._study: optuna.Study | None = None
        known = [study.study_name for study in storage.get_all_studies()]
        if definition.name not in known:
            if look:
                return
            with self.lock:
                optuna.create_study(
                    storage=storage,
                    study_name=definition.name,
                    direction=definition.sweep.direction,
                    load_if_exists=True,
                )
        self._study = optuna.load_study(
            study_name=definition.name,
            storage=storage,
            pruner=definition.sweep.pruner or NopPruner(),
            sampler=self._sampler(0),
        )

    @property
    def study(self) -> optuna.Study:
        """The study itself."""
        assert self._study is not None
        return self._study

    @property
    def budget(self) -> int:
        """How many trials there will be: the sweep's, but no more than the space has points."""
        trials = self.definition.sweep.trials
        return trials if self.points is None else min(trials, len(self.points))

    @property
    def stopping(self) -> bool:
        """Whether the sweep was asked to stop."""
        try:
            return stop_file(self.home, self.definition.name).exists()
        except OSError:  # the disk does not say
            return False

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number; empty where nobody has begun."""
        if self._study is not None:
            self.seen = self._study.get_trials(deepcopy=False)
        return self.seen

    # --- claims -----------------------------------------------------------------------------

    def claim(self, leases: Leases) -> Claimed | None:
        """A trial to run: a guess, a new one within the budget, or one whose worker is gone.

        An abandoned trial keeps its number and its parameters, so nothing is counted twice. While
        there is nothing to claim, this only reads, whatever others do.
        """
        trials = self.trials()
        if not self._maybe(leases, trials):
            return None
        if len(trials) < self.budget:
            inside_optuna.learn_space(self.study)  # while others have the lock
        with self.lock:
            trials = self.trials()
            for frozen in trials:
                if frozen.state not in OPEN:
                    continue
                key = trial_key(frozen.number)
                if _is_guess(frozen) or leases.maybe_free(key):
                    lease = leases.claim(key)
                    if lease is not None:
                        return self._claimed(inside_optuna.take(self.study, frozen), lease)
            if len(trials) >= self.budget:
                return None
            return self._begin(len(trials), leases)

    def enqueue(self, settings: Sequence[str]) -> None:
        """Let a setting be tried next, before what the sampler would propose.

        Args:
            settings: ``head=tanh`` for each parameter of the space that is fixed, by its name; the
                others are drawn. What was asked for before is not asked for twice.

        Raises:
            ConfigError: a parameter is not in the space or cannot have the value, or each point of
                the space is tried anyway.
        """
        if self.points is not None:
            raise ConfigError(
                f"--enqueue {' '.join(settings)}: each of the {len(self.points)} points of "
                f"{self.definition.name} is tried anyway"
            )
        values = space.fixed(self.definition.proposed, settings)
        with self.lock, _quiet_optuna():
            self.study.enqueue_trial(values, skip_if_exists=True)

    def _maybe(self, leases: Leases, trials: Sequence[FrozenTrial]) -> bool:
        if len(trials) < self.budget:
            return True
        keys = [trial_key(frozen.number) for frozen in trials if frozen.state in OPEN]
        return leases.any_free(keys)

    def _begin(self, number: int, leases: Leases) -> Claimed | None:
        lease = leases.claim(trial_key(number))
        if lease is None:  # it was begun, and its journal line lost: whoever holds it goes on
            return None
        try:
            inside_optuna.renew_sampler(self.study, self._sampler(number))
            if self.points is None:
                trial = inside_optuna.new(self.study)
            else:
                point = self.points[number]
                with _quiet_optuna():
                    self.study.add_trial(
                        create_trial(
                            state=TrialState.WAITING,
                            params=point.values,
                            distributions=point.asked,
                            user_attrs={"overrides": point.overrides},
                        )
                    )
                trial = inside_optuna.take(self.study, self.trials()[number])
        except BaseException:
            lease.finish()
            raise
        return self._claimed(trial, lease)

    def _claimed(self, trial: Trial, lease: Lease) -> Claimed:
        frozen = self.trials()[trial.number]
        reported = set(frozen.intermediate_values)
        proposed = frozen.user_attrs.get("overrides")
        if proposed is None:
            try:
                proposed = self.definition.proposed(trial)
            except Exception as error:
                return Claimed(trial, lease, [], reported, one_line(error))
            trial.set_user_attr("overrides", proposed)
        return Claimed(trial, lease, list(proposed), reported)

    def _sampler(self, number: int) -> BaseSampler:
        seed = (self.definition.seed + number) % 2**32
        if self.points is not None:  # its points are taken one by one
            return RandomSampler(seed=seed)
        # Half of the search at least learns from what was found; Optuna's own default of ten
        # random trials would leave nothing for the short sweeps of audio models.
        startup = max(4, min(10, self.definition.sweep.trials // 3))
        return TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True
        )

    def tell(
        self,
        claimed: Claimed,
        state: TrialState,
        *,
        value: float | None = None,
        runs: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        """Finish a trial, once.

        Raises:
            LeaseLost: another worker has taken the trial over or told its result.
        """
        with self.lock:
            claimed.lease.guard()
            try:
                claimed.trial.set_user_attr("runs", list(runs))
                if reason is not None:
                    claimed.trial.set_user_attr("reason", reason)
                self.study.tell(
                    claimed.trial, None if state != TrialState.COMPLETE else value, state=state
                )
            except (UpdateFinishedTrialError, ValueError) as error:
                raise LeaseLost(f"trial {claimed.trial.number} was told already") from error
            claimed.lease.finish()

    def give_back(self, claimed: Claimed, *, crashed: bool = False) -> None:
        """Let another worker go on with a trial, under its number and from its checkpoint.

        Raises:
            LeaseLost: another worker has taken the trial over.
        """
        with self.lock:
            claimed.lease.guard()
            inside_optuna.wait(self.study, claimed.trial)
            claimed.lease.release(crashed=crashed)

    def forget_leases(self) -> None:
        """Remove what is left of leases when the sweep is done: a kill may come after a result."""
        with self.lock:
            for path in (self.folder / "leases").glob("*.json*"):  # and copies half written
                path.unlink(missing_ok=True)

    def searching(self) -> bool:
        """Whether trials are still to be asked for or to be finished; an end is looked up once."""
        if self._over_at != self.budget:
            trials = self.trials()
            if len(trials) >= self.budget and all(t.state.is_finished() for t in trials):
                self._over_at = self.budget
        return self._over_at != self.budget


def _is_guess(trial: FrozenTrial) -> bool:
    """Whether a trial was asked for with `SweepStudy.enqueue`, and nobody has begun it."""
    return trial.state == TrialState.WAITING and "overrides" not in trial.user_attrs


def one_line(error: BaseException) -> str:
    """An error as one line: its kind and its message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without Optuna's warnings that a call may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
