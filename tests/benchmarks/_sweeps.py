"""Sweeps to measure: begun on disk, filled with finished trials and records, worked on.

``python _sweeps.py DO HOME NAME COUNT`` does one of the functions below in a process of its own and
prints what it measured as JSON.
"""

import copy
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

TINY = [
    *("task=separation", "examples.train=8", "examples.val=4", "examples.test=4"),
    *("examples.batch_size=4", "examples.segment_s=0.25", "trainer.epochs=1"),
    *("trainer.progress=false", "tracking=none"),
]
METRIC = "val/si_sdr_improvement_db"
LOW, HIGH = 1e-4, 1e-2
SLEEP_S = 1.0  # how long a run of many workers takes, on average
HEADS = ("tanh", "sine", "hard_clip")
SOURCE = f"""
from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(
    settings={TINY!r},
    metric={METRIC!r},
    direction="maximize",
    trials=TRIALS,
    finalists=0,
)


def overrides(trial):
    yield f"optimizer.learning_rate={{trial.suggest_float('lr', {LOW}, {HIGH}, log=True)}}"
    yield f"head={{trial.suggest_categorical('head', {list(HEADS)!r})}}"
"""


def write(folder: Path, name: str, trials: int) -> Path:
    """A sweep file."""
    path = folder / f"{name}.py"
    path.write_text(SOURCE.replace("TRIALS", str(trials)))
    return path


def template(home: Path) -> Path:
    """The home, beside others, of the one run that records are made after."""
    return home.parent / "template"


def child(do: str, home: Path, name: str, count: int) -> list[str | Path]:
    """The command that does one of the functions below in a process of its own."""
    return [sys.executable, __file__, do, home, name, str(count)]


def begin(home: Path, name: str, count: int) -> dict[str, Any]:
    """A sweep of ``count`` trials that nobody has worked on, or a new budget for an old one."""
    from lightning_sep.sweep.definition import load_sweep
    from lightning_sep.sweep.folder import create
    from lightning_sep.sweep.runner import ExperimentRunner

    definition = load_sweep(write(home.parent, name, count))
    examined = ExperimentRunner(home).examine(definition)
    create(home, definition, examined.targets, examined.entries)
    return {}


def fill(home: Path, name: str, count: int) -> dict[str, Any]:
    """Finish ``count`` trials, with a record each, made after the one run of ``template(home)``.

    What a worker says of a trial stands in the journal line by line, and the snapshot beside it.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend
    from optuna.trial import TrialState

    from lightning_sep.record import read_records, write_record
    from lightning_sep.sweep.folder import open_sweep

    class Memory(BaseJournalBackend):
        def __init__(self, text: str) -> None:
            self.lines = text.splitlines()

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            return map(json.loads, self.lines[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]

    os.fsync = lambda file: None  # these files need not outlive a crash
    [pattern] = read_records(template(home))
    begin(home, name, count)
    journal = home / "sweeps" / name / "journal.log"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = Memory(journal.read_text())
    storage = JournalStorage(memory)
    study = storage.get_study_id_from_name(name)
    distributions = {
        "lr": FloatDistribution(LOW, HIGH, log=True),
        "head": CategoricalDistribution(HEADS),
    }
    draw = random.Random(name)
    for number in range(count):
        params = {"lr": 10 ** draw.uniform(-4, -2), "head": draw.choice(HEADS)}
        value, run_id = draw.gauss(0, 1), f"{draw.getrandbits(48):012x}"
        proposed = [f"optimizer.learning_rate={params['lr']}", f"head={params['head']}"]
        record = copy.deepcopy(pattern) | {"run_id": run_id, "config_hash": run_id}
        record |= {"sweep": name, "trial": number, "purpose": "search", "overrides": proposed}
        record["settings"]["optimizer"]["learning_rate"] = params["lr"]
        record["metrics"] |= {METRIC: value}
        record["monitor"] |= {"value": value}
        (home / run_id).mkdir()
        write_record(home / run_id, record)
        trial = storage.create_new_trial(study)
        storage.set_trial_system_attr(trial, "tpe:relative_params:0", json.dumps(params))
        for key, distribution in distributions.items():
            internal = distribution.to_internal_repr(params[key])
            storage.set_trial_param(trial, key, internal, distribution)
        storage.set_trial_user_attr(trial, "overrides", proposed)
        storage.set_trial_user_attr(trial, "runs", [run_id])
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [value])
    journal.write_text("".join(f"{line}\n" for line in memory.lines))
    opened = open_sweep(home, name)
    opened.journal.save_snapshot(pickle.dumps(opened.study._storage._replay_result))  # type: ignore[attr-defined]
    return {}


class Nothing:
    """A runner whose runs take no time."""

    def prepare(self, overrides: Sequence[str]) -> tuple[str, Any]:
        run_id = hashlib.sha256(" ".join(overrides).encode()).hexdigest()[:12]
        return run_id, run_id

    def run(self, prepared: Any, errand: Any) -> Any:
        from lightning_sep.sweep.runner import Outcome

        return Outcome(prepared, "finished", random.gauss(0, 1))

    def reached(self, run_id: str) -> int:
        return 0


class Stopwatch:
    """A runner that notes the seconds, of CPU by default, at which each run of another one began
    and ended.

    When ``count`` runs have begun, it asks its own process to stop after the last of them.
    """

    def __init__(
        self, runner: Any, count: int, clock: Callable[[], float] = time.process_time
    ) -> None:
        self.runner = runner
        self.count = count
        self.clock = clock
        self.began_s: list[float] = []
        self.ended_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def run(self, prepared: Any, errand: Any) -> Any:
        self.began_s.append(self.clock())
        made = self.runner.run(prepared, errand)
        self.ended_s.append(self.clock())
        if len(self.began_s) == self.count:
            os.kill(os.getpid(), signal.SIGTERM)
        return made


def work(home: Path, name: str, count: int, inner: Any = None) -> dict[str, Any]:
    """A worker that takes ``count`` trials: CPU until its first run, and from run to run."""
    from lightning_sep.sweep.worker import WORK_LEFT, main

    runner: Any = Stopwatch(inner or Nothing(), count)
    code = main([name], home, runner=runner)
    began_s, ended_s = runner.began_s, runner.ended_s
    if code not in (0, WORK_LEFT) or len(ended_s) != count:
        raise SystemExit(f"the worker ended with {code} after {len(ended_s)} of {count} trials")
    between = [start - end for end, start in zip(ended_s, began_s[1:], strict=False)]
    return {
        "first": began_s[0],
        # Without the first one, which imports what trains.
        "each": (ended_s[-1] - ended_s[0]) / max(1, count - 1),
        "between": sum(between) / max(1, count - 1),
    }


class Short(Nothing):
    """A runner whose runs take a while and no CPU, as on a GPU."""

    def run(self, prepared: Any, errand: Any) -> Any:
        time.sleep(SLEEP_S * random.uniform(0.5, 1.5))
        return super().run(prepared, errand)


def among(home: Path, name: str, count: int) -> dict[str, Any]:
    """One of many workers: when its runs began and ended, by the clock on the wall."""
    from lightning_sep.sweep.worker import main

    runner: Any = Stopwatch(Short(), count, time.time)
    main([name], home, runner=runner)
    return {"began": runner.began_s, "ended": runner.ended_s}


class FirstStep:
    """Notes when the first run of another runner has made a step, and ends its own process then."""

    def __init__(self, runner: Any, clock: Callable[[], float]) -> None:
        self.runner = runner
        self.clock = clock
        self.made_s: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def run(self, prepared: Any, errand: Any) -> Any:
        def asked() -> bool:  # after each step
            if self.made_s is None:
                self.made_s = self.clock()
                os.kill(os.getpid(), signal.SIGTERM)
            stop: bool = errand.should_stop()
            return stop

        return self.runner.run(prepared, replace(errand, should_stop=asked))


def first_step(
    home: Path, name: str, count: int, clock: Callable[[], float] = time.process_time
) -> dict[str, Any]:
    """CPU of a worker, imports and all, until it has made a step of training."""
    from lightning_sep.sweep.runner import ExperimentRunner
    from lightning_sep.sweep.worker import main

    runner = FirstStep(ExperimentRunner(home), clock)
    main([name], home, runner=runner)
    return {"began": [runner.made_s]}


def stepping(home: Path, name: str, count: int) -> dict[str, Any]:
    """Seconds until the last of ``count`` workers has made a step of training."""
    import hydra  # noqa: F401

    import lightning_sep.settings
    import lightning_sep.sweep.worker
    import lightning_sep.training  # noqa: F401

    def do(home: Path, name: str, count: int) -> dict[str, Any]:
        return first_step(home, name, count, time.time)

    return {"all_work": _all_work(do, home, name, count)}


def starting(home: Path, name: str, count: int) -> dict[str, Any]:
    """Seconds until the last of ``count`` workers has begun a trial, which trains nothing."""
    import lightning_sep.sweep.worker  # noqa: F401

    return {"all_work": _all_work(among, home, name, count)}


def optuna_starting(home: Path, name: str, count: int) -> dict[str, Any]:
    """The same with Optuna alone."""
    import optuna  # noqa: F401

    return {"all_work": _all_work(optuna_among, home, name, count)}


def _all_work(do: Callable[..., dict[str, Any]], home: Path, name: str, count: int) -> float:
    """The same of processes that have imported what they need: that scales with cores, not with
    the study."""
    fork = multiprocessing.get_context("fork")
    said = fork.SimpleQueue()
    crowd = [fork.Process(target=lambda: said.put(do(home, name, 1))) for _ in range(count)]
    began_s = time.time()
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    if any(one.exitcode for one in crowd):
        raise SystemExit(f"{do.__name__}: {[one.exitcode for one in crowd]}")
    return max(said.get()["began"][0] for _ in crowd) - began_s


def optuna_among(home: Path, name: str, count: int) -> dict[str, Any]:
    """The same with Optuna alone."""
    began, ended = [], []
    study = _study(home, name)
    for _ in range(count):
        trial = study.ask()
        trial.suggest_float("lr", LOW, HIGH, log=True)
        trial.suggest_categorical("head", HEADS)
        began.append(time.time())
        time.sleep(SLEEP_S * random.uniform(0.5, 1.5))
        ended.append(time.time())
        study.tell(trial, random.gauss(0, 1))
    return {"began": began, "ended": ended}


def process_among(home: Path, name: str, count: int) -> dict[str, Any]:
    """The same with a process for each trial, which imports what trains."""
    began, ended = [], []
    for _ in range(count):
        done = subprocess.run(
            [*child("one_trial", home, name, 1)], capture_output=True, text=True, check=True
        )
        said = json.loads(done.stdout.splitlines()[-1])
        began += said["began"]
        ended += said["ended"]
    return {"began": began, "ended": ended}


def one_trial(home: Path, name: str, count: int) -> dict[str, Any]:
    """A trial of Optuna's in a process that could train."""
    import lightning_sep.training  # noqa: F401

    return optuna_among(home, name, count)


def train(home: Path, name: str, count: int) -> dict[str, Any]:
    """The same with runs that train."""
    from lightning_sep.sweep.runner import ExperimentRunner

    return work(home, name, count, ExperimentRunner(home))


def _study(home: Path, name: str) -> Any:
    """A sweep's journal, opened by Optuna alone."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = home / "sweeps" / name / "journal.log"
    return optuna.load_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True, constant_liar=True),
    )


def optuna_alone(home: Path, name: str, count: int) -> dict[str, Any]:
    """The same trials asked and told by Optuna alone, in the same kind of journal."""
    study = _study(home, name)
    began_s = []
    for _ in range(count):
        trial = study.ask()
        trial.suggest_float("lr", LOW, HIGH, log=True)
        trial.suggest_categorical("head", HEADS)
        began_s.append(time.process_time())
        study.tell(trial, random.gauss(0, 1))
    return {"first": began_s[0], "each": (began_s[-1] - began_s[0]) / max(1, count - 1)}


def opening(home: Path, name: str, count: int) -> dict[str, Any]:
    """Open a sweep as a worker does: CPU without imports."""
    from lightning_sep.sweep.folder import open_sweep

    started_s = time.process_time()
    open_sweep(home, name)
    return {"cpu_s": time.process_time() - started_s}


def train_in_turn(home: Path, name: str, count: int) -> dict[str, Any]:
    """The runs of a sweep by themselves, in one process: CPU from run to run."""
    from lightning_sep.experiment import run
    from lightning_sep.settings import compose

    settings = [
        compose([*TINY, f"optimizer.learning_rate={1e-3 + 1e-6 * n}"]) for n in range(count)
    ]
    ended_s = []
    for one in settings:
        run(one, home=home)
        ended_s.append(time.process_time())
    return {"each": (ended_s[-1] - ended_s[0]) / (count - 1)}


if __name__ == "__main__":
    do, home, name, count = sys.argv[1:]
    print(json.dumps(globals()[do](Path(home), name, int(count))))
