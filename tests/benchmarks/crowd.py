"""Many workers at once: how soon all of them work, and how long each pauses between two trials."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from _measure import PROGRAM, Line, cpu_s, environment, in_turn, run, told
from _sweeps import TINY, child, template

CROWDS = (1, 8, 32)
TRIALS = 4  # of each worker
SLOTS = 8  # processes that import what trains at the same time: more starve any machine's cores
START, BEHIND = 64, 10_000


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    run([*PROGRAM, "train", *TINY], {**env, "LIGHTNING_SEP_HOME": str(template(folder / "runs"))})
    numbers = iter(range(1_000_000))

    def pause(do: str, workers: int, trials: int = TRIALS) -> float:
        """Seconds from a trial's end to the next one's beginning, in the middle."""
        name = f"sweep_{next(numbers)}"
        run(child("begin", folder / "runs", name, workers * trials), env)
        said = _crowd(do, folder / "runs", name, workers, trials, env)
        return median(
            begins - ends
            for one in said
            for ends, begins in zip(one["ended"], one["began"][1:], strict=False)
        )

    for workers in CROWDS:
        what = f"from a trial to the next, {workers} worker{'s' if workers > 1 else ''}"
        slots = min(workers, SLOTS)
        peers = {
            "Optuna alone": lambda workers=workers: pause("optuna_among", workers),
            f"a process per trial, {slots} at once": lambda slots=slots: pause(
                "process_among", slots, 2
            ),
        }
        for named, peer in peers.items():
            ours, theirs = in_turn(rounds, lambda workers=workers: pause("among", workers), peer)  # type: ignore[misc]
            yield Line("crowd", what, named, ours, theirs, "s")

    run(child("fill", folder / "runs", "many", BEHIND), env)
    run(child("begin", folder / "runs", "many", BEHIND + 100 * START), env)
    run(child("begin", folder / "runs", "few", 100 * START), env)

    def all_work(do: str, name: str = "many") -> float:
        taken: float = told(child(do, folder / "runs", name, START), env)["all_work"]
        return taken

    ours, theirs = in_turn(
        rounds, lambda: all_work("starting"), lambda: all_work("optuna_starting")
    )
    what = f"until {START} workers have a trial, {BEHIND:,} finished before, imports aside"
    yield Line("crowd", what, "Optuna alone", ours, theirs, "s")
    ours, theirs = in_turn(
        rounds, lambda: all_work("stepping"), lambda: all_work("stepping", "few")
    )
    what = f"until {START} workers train, {BEHIND:,} finished before, imports aside"
    yield Line("crowd", what, "none finished before", ours, theirs, "s")

    # Imports scale with cores, and not with the study: what they are of each worker's start.
    first = child("first_step", folder / "runs", "many", 1)
    bare = [sys.executable, "-c", "import lightning_sep.sweep.worker, lightning_sep.training"]
    ours, theirs = in_turn(rounds, lambda: told(first, env)["began"][0], lambda: cpu_s(bare, env))
    what = f"until a worker trains, {BEHIND:,} finished before, imports and all"
    yield Line("crowd", what, "its imports alone", ours, theirs)


def _crowd(
    do: str, home: Path, name: str, workers: int, trials: int, env: dict[str, str]
) -> list[dict[str, Any]]:
    """What processes that work at the same time say."""
    crowd = [
        subprocess.Popen(
            [*map(str, child(do, home, name, trials))],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(workers)
    ]
    said = []
    for one in crowd:
        text, _ = one.communicate()
        if one.returncode:
            raise SystemExit(f"{do}: a process ended with {one.returncode}")
        said.append(json.loads(text.splitlines()[-1]))
    return said
