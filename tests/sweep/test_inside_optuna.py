"""What is used of Optuna without a public call still does what is asked of it."""

import copy
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from lightning_sep.sweep import inside_optuna


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    return optuna.create_study(storage=storage, study_name="one")


def test_a_new_trial_leaves_alone_what_waits(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.25})
    trial = inside_optuna.new(study)
    assert trial.number == 1
    states = [one.state for one in study.get_trials()]
    assert states == [TrialState.WAITING, TrialState.RUNNING]


def test_a_trial_that_waits_runs_when_it_is_taken_with_its_values(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.25})
    taken = inside_optuna.take(study, study.get_trials()[0])
    assert study.get_trials()[0].state == TrialState.RUNNING
    assert taken.suggest_float("x", 0, 1) == 0.25
    again = inside_optuna.take(study, study.get_trials()[0])  # it runs: whoever had it is gone
    assert again.number == 0
    study.tell(again, 3.0)
    assert study.get_trials()[0].value == 3.0


def test_a_trial_that_is_given_back_waits_and_keeps_what_it_has(study: optuna.Study) -> None:
    trial = study.ask()
    value = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 0)
    inside_optuna.wait(study, trial)
    [frozen] = study.get_trials()
    assert frozen.state == TrialState.WAITING
    assert frozen.params == {"x": value}
    assert frozen.intermediate_values == {0: 0.5}


def test_a_sampler_that_knows_the_space_already_proposes_what_a_new_one_would(
    study: optuna.Study,
) -> None:
    """Some parameters are not in all trials, some trials end late or never."""
    other = optuna.create_study()
    looked: list[int] = []

    def tell(number: int, state: TrialState = TrialState.COMPLETE) -> None:
        for one in (study, other):
            value = one.trials[number].params["x"]
            one.tell(number, value if state == TrialState.COMPLETE else None, state=state)

    for number in range(12):
        inside_optuna.learn_space(study)
        sampler = TPESampler(seed=number, n_startup_trials=2, multivariate=True)
        inside_optuna.renew_sampler(study, copy.deepcopy(sampler))
        other.sampler = sampler
        for one in (study, other):
            trial = inside_optuna.new(one)
            trial.suggest_float("x", 0, 1)
            trial.suggest_categorical("y", ["a", "b"])
            if number % 5 != 3:
                trial.suggest_float("z", 0, 1)
        known = study.sampler
        assert isinstance(known, TPESampler)
        looked.append(known._search_space._cached_trial_number)
        if number not in (2, 7):
            tell(number, TrialState.FAIL if number == 4 else TrialState.COMPLETE)
        if number == 9:
            tell(2, TrialState.PRUNED)
    assert [one.params for one in study.trials] == [one.params for one in other.trials]
    assert looked == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 7, 7], (
        "those that ended are not looked at again"
    )


def written_by_optuna(tmp_path: Path, study: optuna.Study) -> list[dict[str, Any]]:
    """A record of every kind that there is."""
    study.set_user_attr("a", 1)
    study._storage.set_study_system_attr(study._study_id, "b", 2)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.suggest_categorical("y", ["a", "b"])
    trial.report(0.5, 0)
    trial.set_user_attr("c", 3)
    study._storage.set_trial_system_attr(trial._trial_id, "d", 4)
    study.tell(trial, 1.0)
    study.tell(study.ask(), state=TrialState.FAIL)
    optuna.delete_study(study_name="one", storage=study._storage)
    lines = (tmp_path / "journal.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_whatever_optuna_writes_has_the_right_shape(tmp_path: Path, study: optuna.Study) -> None:
    records = written_by_optuna(tmp_path, study)
    assert {record["op_code"] for record in records} == {int(one) for one in inside_optuna._NEEDS}
    assert [inside_optuna.shape_of(record) for record in records] == [None] * len(records)


def test_a_record_that_lacks_what_replaying_it_reads_is_named(
    tmp_path: Path, study: optuna.Study
) -> None:
    for record in written_by_optuna(tmp_path, study):
        for name in inside_optuna._NEEDS[inside_optuna.JournalOperation(record["op_code"])]:
            wanted = f"{name} is missing or of another type"
            without = {key: value for key, value in record.items() if key != name}
            assert inside_optuna.shape_of(without) == wanted
            assert inside_optuna.shape_of({**record, name: object()}) == wanted
        assert inside_optuna.shape_of({**record, "worker_id": 3}) == "worker_id is missing"
        assert inside_optuna.shape_of({**record, "op_code": 99}) == "op_code 99 is unknown"
    assert inside_optuna.shape_of([]) == "it is no object"


class Lowest(inside_optuna.RecordingTrial):
    decided = 0

    def decide(self, name: str, distribution: BaseDistribution) -> Any:
        self.decided += 1
        assert isinstance(distribution, FloatDistribution)
        return distribution.low


def test_a_recording_trial_is_asked_once_for_each_value_and_remembers() -> None:
    trial = Lowest()
    assert [trial.suggest_float("x", 2, 3), trial.suggest_float("x", 2, 3)] == [2, 2]
    assert trial.suggest_float("y", 5, 6) == 5
    assert trial.decided == 2
    assert trial.values == {"x": 2, "y": 5}
    assert trial.asked == {"x": FloatDistribution(2, 3), "y": FloatDistribution(5, 6)}
