"""Two batches of each task in real processes joined by gloo, as a loader would deal them."""

from dataclasses import replace
from typing import Any

import torch
from torch import distributed as dist

from lightning_sep.data.batch import Batch
from lightning_sep.data.facts import Facts
from lightning_sep.settings import compose
from tests.tasks import facts

TASKS: dict[str, list[str]] = {
    "separation": ["task=separation", "net.levels=2", "loss=si_sdr"],
    "autoregression": ["task=autoregression", "task.frame_samples=8", "net.hidden=8"],
    "verification": [
        *("task=verification", "net.dropout=0", "net.dense_dropout=0", "net.hidden=8"),
        *("net.dense=[8]", "task.embed=6", "task.bands=8"),
    ],
    "verification by a classifier": [
        *("task=verification", "net.dropout=0", "net.dense_dropout=0", "net.hidden=8"),
        *("net.dense=[8]", "task.embed=6", "task.bands=8", "loss=cross_entropy"),
    ],
}
RULES = {"plain": None, "uniform": "uniform", "loss_softmax": "loss_softmax"}
FACTS: dict[str, Facts] = {
    "separation": replace(facts.MIXTURES, class_names=("a", "b", "c")),
    "autoregression": facts.SEQUENCES,
    "verification": replace(facts.SNIPPETS, speakers=3, snippets=3, speaker_names=("x", "y", "z")),
}
ROWS, FIRST = 9, 6  # in two batches: of the second, four processes have none for one of them


def batch_of(task: str) -> Batch:
    """Nine rows, which two and four processes share unequally; some are silent."""
    draw = torch.Generator().manual_seed(5)

    def noise(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=draw, dtype=torch.float64)

    labels, active = torch.arange(ROWS) % 3, torch.ones(ROWS, dtype=torch.bool)
    index = torch.arange(ROWS)
    active[4] = False
    if task == "separation":
        waves = noise(ROWS, 2, 1, 240) * torch.linspace(0.3, 1.5, 2 * ROWS).reshape(ROWS, 2, 1, 1)
        both = active[:, None].repeat(1, 2)
        both[7, 0] = False
        waves = waves * both[..., None, None]
        pairs = torch.stack([labels, (labels + 1) % 3], dim=1)
        return Batch(waves.sum(1), pairs, both, index, sources=waves)
    time = 8 * 12 if task == "autoregression" else 1600
    waves = noise(ROWS, time) * torch.linspace(0.3, 1.5, ROWS)[:, None] * active[:, None]
    return Batch(waves.unsqueeze(1), labels, active, index)


def part_of(batch: Batch, rows: slice, rank: int, world: int) -> Batch:
    """A process's rows of one of the batches, as a loader deals them."""
    mine = torch.arange(ROWS)[rows][rank::world]
    if not len(mine):
        return part_of(batch, rows, 0, ROWS).of_nobody()
    return replace(
        batch,
        waveform=batch.waveform[mine],
        labels=batch.labels[mine],
        active=batch.active[mine],
        index=batch.index[mine],
        sources=None if batch.sources is None else batch.sources[mine],
    )


def trees() -> dict[str, dict[str, Any]]:
    """Settings of every task with every rule: composed once, for all processes."""
    made = {}
    for name, overrides in TASKS.items():
        for rule, entry in RULES.items():
            more = [] if entry is None else [f"reweighting={entry}"]
            made[f"{name}, {rule}"] = compose([*overrides, *more]).tree
    return made


def measured(rank: int, world: int, *, trees: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Loss, gradient and metrics of every task and rule, as this process has them in the end."""
    from lightning_sep.callbacks.reweight import Reweight
    from lightning_sep.parts import build_task
    from lightning_sep.settings import build

    found: dict[str, Any] = {}
    for case, tree in trees.items():
        name, _, rule = case.partition(", ")
        task: Any = build_task(tree, FACTS[name.split()[0]]).double().train()
        with torch.no_grad():
            for value in task.net.parameters():
                value.mul_(3)  # a fresh net gives nearly the same for everything
        if RULES[rule] is not None:
            task.reweighting = build(tree["reweighting"])
        callback = Reweight(task.reweighting)
        parts = slice(FIRST), slice(FIRST, None)
        batches = [part_of(batch_of(name), rows, rank, world) for rows in parts]
        task.on_train_epoch_start()
        gradients = []
        for number, batch in enumerate(batches):
            loss = task.training_step(batch, number)
            each = torch.autograd.grad(loss, list(task.parameters()), allow_unused=True)
            gradients += [one.flatten() for one in each if one is not None]
            callback.on_train_batch_end(None, task)
        flat = torch.cat(gradients)
        if world > 1:  # as DistributedDataParallel does
            dist.all_reduce(flat)
            flat /= world
        task.on_train_epoch_end()
        callback.on_train_epoch_end(None, task)
        weighted = {"train": dict(task.epoch_metrics)}
        task.eval()
        with torch.no_grad():
            for stage, hook in (("validation", "val"), ("test", "test")):
                getattr(task, f"on_{stage}_epoch_start")()
                for number, batch in enumerate(batches):
                    getattr(task, f"{stage}_step")(batch, number)
                getattr(task, f"on_{stage}_epoch_end")()
                weighted[hook] = dict(task.epoch_metrics)
        found[case] = (flat, weighted["test"], task.example_values)
    return found
