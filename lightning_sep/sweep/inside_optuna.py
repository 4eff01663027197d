"""What a worker needs of Optuna that has no public call: all of it, in one place.

Each function has a test that fails when Optuna changes under it.
"""

import io
import pickle
from enum import Enum
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal._base import BaseJournalSnapshot
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState

__all__ = [
    "BaseJournalFileLock",
    "BaseJournalSnapshot",
    "RecordingTrial",
    "Storage",
    "learn_space",
    "new",
    "renew_sampler",
    "shape_of",
    "take",
    "wait",
]

# The fields that replaying a record reads without looking whether they are there.
_NEEDS: dict[JournalOperation, dict[str, Any]] = {
    JournalOperation.CREATE_STUDY: {"study_name": str, "directions": list},
    JournalOperation.DELETE_STUDY: {"study_id": int},
    JournalOperation.SET_STUDY_USER_ATTR: {"study_id": int, "user_attr": dict},
    JournalOperation.SET_STUDY_SYSTEM_ATTR: {"study_id": int, "system_attr": dict},
    JournalOperation.CREATE_TRIAL: {"study_id": int, "datetime_start": (str, type(None))},
    JournalOperation.SET_TRIAL_PARAM: {
        "trial_id": int,
        "param_name": str,
        "param_value_internal": (int, float),
        "distribution": str,
    },
    JournalOperation.SET_TRIAL_STATE_VALUES: {
        "trial_id": int,
        "state": int,
        "values": (list, type(None)),
    },
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE: {
        "trial_id": int,
        "step": int,
        "intermediate_value": (int, float),
    },
    JournalOperation.SET_TRIAL_USER_ATTR: {"trial_id": int, "user_attr": dict},
    JournalOperation.SET_TRIAL_SYSTEM_ATTR: {"trial_id": int, "system_attr": dict},
}


# Modules, and names in them, that a snapshot is made of; nothing else is ever called.
_OF_SNAPSHOTS = {
    "optuna.storages.journal._storage": {"JournalStorageReplayResult"},
    "optuna.study._frozen": {"FrozenStudy"},
    "optuna.study._study_direction": {"StudyDirection"},
    "optuna.trial._frozen": {"FrozenTrial"},
    "optuna.trial._state": {"TrialState"},
    "optuna.distributions": {"FloatDistribution", "IntDistribution", "CategoricalDistribution"},
    "datetime": {"datetime"},
}


class _Snapshot(pickle.Unpickler):
    """Reads what `JournalStorage` keeps, and calls nothing that has no part in it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member  # by which Python up to 3.11.3 writes the members of an enumeration
        if name not in _OF_SNAPSHOTS.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} has no part in a snapshot")
        return super().find_class(module, name)


def _member(kind: object, name: object) -> Enum:
    if not (isinstance(kind, type) and issubclass(kind, Enum) and isinstance(name, str)):
        raise pickle.UnpicklingError(f"{name!r} of {kind!r} has no part in a snapshot")
    return kind[name]


class Storage(JournalStorage):
    """Takes a snapshot, perhaps somebody else's, that is of a study and of nothing else.

    A pickle may call what it likes when it is loaded, as `JournalStorage` does.
    """

    def restore_replay_result(self, snapshot: bytes) -> None:
        """Go on from a snapshot, or from the first record where it is none."""
        try:
            found = _Snapshot(io.BytesIO(snapshot)).load()
        except Exception:  # whatever a hostile or torn one can raise
            return
        if isinstance(found, JournalStorageReplayResult):
            found._worker_id_prefix = self._worker_id_prefix
            found._worker_id_to_owned_trial_id = {}
            found._last_created_trial_id_by_this_process = -1
            self._replay_result = found


def shape_of(record: object) -> str | None:
    """What is wrong with the shape of a journal's record; ``None`` when it can be replayed."""
    if not isinstance(record, dict):
        return "it is no object"
    if not isinstance(record.get("worker_id"), str):
        return "worker_id is missing"
    operation = record.get("op_code")
    if operation == JournalOperation.DISCARD_TRIALS:
        return None
    if operation not in _NEEDS:
        return f"op_code {operation!r} is unknown"
    for name, kind in _NEEDS[JournalOperation(operation)].items():
        if name not in record or not isinstance(record[name], kind):
            return f"{name} is missing or of another type"
    return None


def new(study: optuna.Study) -> Trial:
    """A new trial that runs, whatever waits: ``Study.ask`` takes what waits first."""
    study._thread_local.cached_all_trials = None  # its sampler is to see all that is there
    return Trial(study, study._storage.create_new_trial(study._study_id))


def take(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """A trial that runs already or waits, to go on with it."""
    if trial.state == TrialState.WAITING:
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
    return Trial(study, trial._trial_id)


def wait(study: optuna.Study, trial: Trial) -> None:
    """Let a trial that runs wait for a worker."""
    study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)


def learn_space(study: optuna.Study) -> None:
    """Let a study's sampler find out which parameters all trials have.

    It is asked for each proposal. Found anew, it takes a look at each trial there has ever been;
    known already, at those that came since.
    """
    if isinstance(study.sampler, TPESampler):
        study.sampler._search_space.calculate(study)


def renew_sampler(study: optuna.Study, sampler: BaseSampler) -> None:
    """Give a study another sampler of the same kind, which knows of the space what the last did."""
    if isinstance(sampler, TPESampler) and isinstance(study.sampler, TPESampler):
        sampler._search_space = study.sampler._search_space
    study.sampler = sampler


class RecordingTrial(FixedTrial):
    """A trial whose values `decide` chooses; it remembers what was asked."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: dict[str, BaseDistribution] = {}
        self.values: dict[str, Any] = {}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.values:
            self.asked[name] = distribution
            self.values[name] = self.decide(name, distribution)
        return self.values[name]

    def decide(self, name: str, distribution: BaseDistribution) -> Any:
        """The value of a parameter that is asked for the first time."""
        raise NotImplementedError
