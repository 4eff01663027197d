"""Errors of all pairs of a part, in tiles that are counted, over all of them sorted at once."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _measure import Line, environment, told

SNIPPETS = (1000, 4000)


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    for count in SNIPPETS:
        taken: dict[str, list[Any]] = {"tiles": [], "sorted": []}
        for _ in range(rounds):
            for way, found in taken.items():
                found.append(told([sys.executable, __file__, way, str(count)], env))
        both = taken["tiles"], taken["sorted"]
        errors = {one["rate"] for found in both for one in found}
        if len(errors) > 1:
            raise SystemExit(f"pairs: other errors in tiles: {errors}")
        for what, key, unit in [("errors", "cpu_s", "CPU s"), ("memory", "peak_mb", "MB")]:
            ours, peer = ([one[key] for one in found] for found in both)
            name = f"{what} of all pairs of {count} snippets"
            yield Line("pairs", name, "all sorted at once", ours, peer, unit)


def child(way: str, count: int) -> None:
    """Seconds of CPU and the growth of the process's memory."""
    import torch

    from lightning_sep.functional.verification import equal_error_of, error_curve
    from lightning_sep.heads.softmax import Softmax
    from lightning_sep.losses.kl_hinge import KlHinge
    from lightning_sep.tasks.all_pairs import AllPairs

    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % (count // 10)
    speakers = torch.randn(count // 10, 32, generator=draw)
    raw = speakers[labels] + 1.5 * torch.randn(count, 32, generator=draw)
    head, before = Softmax(), _peak_mb()
    started_s = time.process_time()
    if way == "tiles":
        places = torch.arange(count)
        pairs = AllPairs(head=head, loss=KlHinge(), raw=raw, labels=labels, sessions=places)
        curve = pairs.curve(prior=0.01, threshold=float("nan"))
        assert curve is not None
    else:
        divergence = head.divergence(raw)
        one, two = torch.triu_indices(count, count, offset=1)
        scores = -(divergence[one, two] + divergence[two, one]) / 2
        curve = error_curve(scores=scores, same=labels[one] == labels[two])
    taken_s = time.process_time() - started_s
    rate = equal_error_of(curve).rate
    print(json.dumps({"cpu_s": taken_s, "peak_mb": _peak_mb() - before, "rate": rate}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
