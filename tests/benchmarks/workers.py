"""What a worker adds to its trials: against Optuna alone, the runs alone, and a process a trial."""

from collections.abc import Iterator
from pathlib import Path

from _measure import PROGRAM, Line, cpu_s, environment, in_turn, run, told
from _sweeps import TINY, child, template

TRIALS = 40  # of trials that take no time
RUNS = 8  # of runs that train


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    first = {**env, "LIGHTNING_SEP_HOME": str(template(folder / "runs"))}
    run([*PROGRAM, "train", *TINY], first)
    numbers = iter(range(1_000_000))
    for behind in (10, 1000):

        def each(do: str, behind: int = behind) -> float:
            name = f"sweep_{next(numbers)}"
            run(child("fill", folder / "runs", name, behind), env)
            run(child("begin", folder / "runs", name, behind + TRIALS), env)
            taken: float = told(child(do, folder / "runs", name, TRIALS), env)["each"]
            return taken

        ours, peer = in_turn(rounds, lambda: each("work"), lambda: each("optuna_alone"))
        what = f"a trial of a worker, {behind:,} finished before"
        yield Line("workers", what, "Optuna alone, ask and tell", ours, peer)

    def trained(do: str) -> float:
        number = next(numbers)
        home = folder / f"runs_{number}"
        run(child("begin", home, "tiny", RUNS), env)
        taken: float = told(child(do, home, "tiny", RUNS), env)["each"]
        return taken

    def process() -> float:
        return cpu_s(
            [*PROGRAM, "train", *TINY, f"optimizer.learning_rate={1e-3 + 1e-6 * next(numbers)}"],
            env,
        )

    ours, peer = in_turn(rounds, lambda: trained("train"), lambda: trained("train_in_turn"))
    yield Line("workers", "a trial of a kept worker, trained", "the run alone", ours, peer)
    ours, peer = in_turn(rounds, lambda: trained("train"), process)
    yield Line("workers", "a trial of a kept worker, trained", "a process per trial", ours, peer)
