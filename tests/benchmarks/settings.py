"""Settings that are composed again, against composing them once, in one process."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from _measure import Line, environment, told

OVERRIDES = ["task=separation", "head=tanh", "reweighting=loss_softmax", "reweighting.alpha=0.1"]


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    figures = [told([sys.executable, __file__], env) for _ in range(rounds)]
    once = [one["first"] for one in figures]
    for what, key in [
        ("composed twice", "again"),
        ("composed, then with another seed", "seed"),
        ("composed, then with another number", "number"),
    ]:
        ours = [one["first"] + one[key] for one in figures]
        yield Line("settings", what, "composed once", ours, once)


def child() -> None:
    """Times of composing, imports and classes loaded before."""
    from lightning_sep.settings import compose

    compose(["task=separation", "head=sine", "reweighting=loss_softmax"])
    took = {}
    for name, overrides in {
        "first": OVERRIDES,
        "again": OVERRIDES,
        "seed": [*OVERRIDES, "seed=1"],
        "number": [*OVERRIDES[:-1], "reweighting.alpha=0.2"],
    }.items():
        started_s = time.process_time()
        compose(overrides)
        took[name] = time.process_time() - started_s
    print(json.dumps(took))


if __name__ == "__main__":
    child()
