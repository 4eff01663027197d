"""The permutation-invariant SI-SDR loss, forward and backward, against other packages.

``pip install -e '.[bench]'`` installs the peers; those that are not there are left out by name.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _measure import Line, environment, told

SOURCES, BATCHES, SAMPLES, CALLS = (2, 3, 4), (4, 16, 32), 32_000, 5
PEERS = ("torchmetrics", "fast_bss_eval")


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    for name in PEERS:
        if importlib.util.find_spec(name) is None:
            print(f"losses: {name} is not installed, left out", file=sys.stderr)
    figures = told([sys.executable, __file__, str(rounds)], env)
    for what, taken in figures.items():
        for peer in taken:
            if peer != "ours":
                yield Line("losses", what, peer, taken["ours"], taken[peer])


def child(rounds: int) -> None:
    """Seconds of CPU of a call, all ways in turn."""
    import torch

    from lightning_sep.functional.permutation import best_permutation
    from lightning_sep.losses.si_sdr import SiSdr
    from lightning_sep.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as the program does, for all of them

    def ours(estimate: Any, target: Any) -> Any:
        return best_permutation(SiSdr().pairwise(estimate=estimate, target=target))[0].mean()

    ways: dict[str, Callable[[Any, Any], Any]] = {"ours": ours}
    if importlib.util.find_spec("torchmetrics") is not None:
        from torchmetrics.functional.audio import (
            permutation_invariant_training,
            scale_invariant_signal_distortion_ratio,
        )

        ways["torchmetrics"] = lambda e, t: (
            -permutation_invariant_training(e, t, scale_invariant_signal_distortion_ratio)[0].mean()
        )
    if importlib.util.find_spec("fast_bss_eval") is not None:
        from fast_bss_eval import si_sdr_pit_loss

        ways["fast_bss_eval"] = lambda e, t: si_sdr_pit_loss(e, t).mean()
    figures: dict[str, dict[str, list[float]]] = {}
    for sources in SOURCES:
        for batch in BATCHES:
            draw = torch.Generator().manual_seed(0)
            target = torch.randn(batch, sources, SAMPLES, generator=draw)
            noise = torch.randn(batch, sources, SAMPLES, generator=draw)
            estimate = (target + 0.5 * noise).flip(1)
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds + 1):
                for name, way in ways.items():
                    given = estimate.clone().requires_grad_()
                    started_s = time.process_time()
                    for _ in range(CALLS):
                        way(given, target).backward()
                    taken[name].append((time.process_time() - started_s) / CALLS)
            warm = {name: one[1:] for name, one in taken.items()}
            figures[f"PIT SI-SDR, {sources} sources, batch {batch}"] = warm
    print(json.dumps(figures))


if __name__ == "__main__":
    child(int(sys.argv[1]))
