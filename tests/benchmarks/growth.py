"""How what people and workers wait for grows with the trials of a sweep and its records."""

from collections.abc import Callable, Iterator
from pathlib import Path

from _measure import PROGRAM, Line, cpu_s, environment, run, told
from _sweeps import TINY, child, template

SIZES = (100, 1000, 10_000)


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    homes = {size: folder / f"runs_{size}" for size in SIZES}
    data = folder / "data"
    first = environment(LIGHTNING_SEP_HOME=template(homes[SIZES[0]]), LIGHTNING_SEP_DATA=data)
    run([*PROGRAM, "train", *TINY], first)
    envs = {}
    for size, home in homes.items():
        envs[size] = environment(LIGHTNING_SEP_HOME=home, LIGHTNING_SEP_DATA=data)
        run(child("fill", home, "many", size), envs[size])

    def command(*arguments: str) -> Callable[[int], float]:
        return lambda size: cpu_s([*PROGRAM, *arguments], envs[size])

    def opening(size: int) -> float:
        taken: float = told(child("opening", homes[size], "many", 0), envs[size])["cpu_s"]
        return taken

    yield from _grown("status --json", command("status", "--json"), rounds)
    yield from _grown("leaderboard --json", command("leaderboard", "--json"), rounds)
    yield from _grown("opening a study", opening, rounds)
    for size, home in homes.items():
        run(child("begin", home, "many", size + rounds), envs[size])

    def starting(size: int) -> float:
        taken: float = told(child("work", homes[size], "many", 1), envs[size])["first"]
        return taken

    yield from _grown("a worker, to its first run", starting, rounds)


def _grown(what: str, measure: Callable[[int], float], rounds: int) -> Iterator[Line]:
    """Each size against the least, and the cost of a trial among many against among few."""
    taken = [{size: measure(size) for size in SIZES} for _ in range(rounds)]
    least, middle, most = SIZES
    for size in (middle, most):
        ours, peer = [one[size] for one in taken], [one[least] for one in taken]
        yield Line("growth", f"{what} at {size:,} trials", f"at {least:,}", ours, peer)
    yield Line(
        "growth",
        f"{what}: a trial more, {middle:,} to {most:,}",
        f"{least:,} to {middle:,} (1 is linear)",
        [(one[most] - one[middle]) / (most - middle) * 1000 for one in taken],
        [(one[middle] - one[least]) / (middle - least) * 1000 for one in taken],
        "CPU ms",
    )
