"""Functions in several real processes joined by gloo."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.multiprocessing import start_processes

# Imported once for all processes of a session, in a server that has no threads to lose at a fork.
multiprocessing.set_forkserver_preload(["torch", "pytorch_lightning"])


def run(work: Callable[[int, int], Any], world: int, folder: Path) -> list[Any]:
    """What ``work(rank, world)`` gives in each of ``world`` processes.

    Args:
        work: a function of a module.
        world: number of processes.
        folder: where they meet; another one each time.
    """
    # The server keeps the environment it was started in; `traced.py` tells tests apart by theirs.
    method = "spawn" if "LINES_OF" in os.environ else "forkserver"
    start_processes(_child, args=(work, world, str(folder)), nprocs=world, start_method=method)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _child(rank: int, work: Callable[[int, int], Any], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    try:
        torch.save(work(rank, world), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
