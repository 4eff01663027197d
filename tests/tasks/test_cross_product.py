"""Every head that makes sense for a task works with it, and every reweighting with every task.

Parts come from the folders in conf/: a new entry is tested without touching this file.
"""

from collections.abc import Iterator

import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.heads.base import EmbeddingHead, WaveformHead
from lightning_sep.parts import build_task
from lightning_sep.reweighting.gather import global_weights
from lightning_sep.settings import build, compose, entries, locate
from lightning_sep.tasks.base import Task
from tests.tasks import facts

TASKS = ("separation", "autoregression", "verification")


def pairs() -> Iterator[tuple[str, str]]:
    """Task and head, wherever the head is of the family that the task takes."""
    import yaml

    from lightning_sep.settings import conf_folders

    for head in entries("head"):
        node = yaml.safe_load((conf_folders()[0] / "head" / f"{head}.yaml").read_text())
        family = locate(node)
        for task in TASKS:
            wanted = EmbeddingHead if task == "verification" else WaveformHead
            if issubclass(family, wanted):
                yield task, head


def batch_for(task: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    if task == "separation":
        sources = 0.4 * torch.randn(3, 2, 1, 800, generator=generator).clamp(-1, 1)
        return Batch(
            waveform=sources.sum(1),
            labels=torch.tensor([[0, 1], [1, 2], [0, 2]]),
            active=torch.ones(3, 2, dtype=torch.bool),
            index=torch.arange(3),
            sources=sources,
        )
    size, time = (4, 640) if task == "autoregression" else (6, 2400)
    return Batch(
        waveform=0.4 * torch.randn(size, 1, time, generator=generator).clamp(-1, 1),
        labels=torch.arange(size) // 2,
        active=torch.ones(size, dtype=torch.bool),
        index=torch.arange(size),
    )


def task_of(*overrides: str) -> Task:
    settings = compose(overrides)
    return build_task(settings.tree, facts.of(settings.choices["task"]))


def step(task: Task, batch: Batch) -> torch.Tensor:
    task.train()
    raw = task.raw(batch, torch.Generator().manual_seed(1))
    return task.scores(batch, raw).losses


@pytest.mark.parametrize(("name", "head"), list(pairs()))
def test_every_head_trains_and_decodes_in_its_tasks(name: str, head: str) -> None:
    task, batch = task_of(f"task={name}", f"head={head}"), batch_for(name)
    losses = step(task, batch)
    assert losses.isfinite().all()
    losses.mean().backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in task.net.parameters()
    )
    with torch.no_grad():
        decoded = task.eval().head.decode(task.raw(batch, None))
    assert decoded.isfinite().all()
    if name != "verification":
        low, high = task.head.bounds
        assert ((decoded >= low) & (decoded <= high)).all()


@pytest.mark.parametrize("rule", entries("reweighting"))
@pytest.mark.parametrize(("name", "head"), list(pairs()))
def test_every_reweighting_weighs_every_head_of_every_task(name: str, head: str, rule: str) -> None:
    settings = compose([f"task={name}", f"head={head}", f"reweighting={rule}"])
    task, batch = build_task(settings.tree, facts.of(name)), batch_for(name)
    scored = task.scores(batch, task.raw(batch, None))
    weighing = build(settings.tree["reweighting"])
    weighing.prepare(steps=10, classes=task.class_names())
    weights = global_weights(
        weighing,
        scored.losses.detach(),
        scored.groups,
        scored.mask,
        3,
    )
    assert weights.shape == scored.losses.shape
    assert not weights.requires_grad
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("level", ["mixture", "source"])
def test_a_silent_source_leaves_the_loss_of_the_others_alone(level: str) -> None:
    task = task_of("task=separation", "loss=si_sdr", f"task.level={level}")
    batch = batch_for("separation")
    assert batch.sources is not None
    batch.sources[0, 1] = 0.0
    batch.active[0, 1] = False
    scored = task.scores(batch, task.raw(batch, None))
    assert scored.losses[scored.mask].isfinite().all()
    assert int(scored.mask.sum()) == (3 if level == "mixture" else 5)


def test_one_example_with_a_bad_loss_does_not_reach_the_gradients_of_others() -> None:
    def gradients(poison: bool) -> list[torch.Tensor]:
        task, batch = task_of("task=autoregression"), batch_for("autoregression")
        if poison:
            batch.active[0] = False
        else:
            batch = Batch(
                waveform=batch.waveform[1:],
                labels=batch.labels[1:],
                active=batch.active[1:],
                index=batch.index[1:],
            )
        task.train()
        scores = task.scores

        def poisoned(given: Batch, raw: torch.Tensor):  # type: ignore[no-untyped-def]
            scored = scores(given, raw)
            if not poison:
                return scored
            bad = torch.tensor([torch.inf, 1, 1, 1])
            return scored._replace(losses=scored.losses * bad, mask=scored.mask | True)

        task.scores = poisoned  # type: ignore[method-assign]
        task.generator = lambda batch: torch.Generator().manual_seed(0)  # type: ignore[method-assign]
        task._trainer = None
        loss = task.training_step(batch, 0)
        loss.backward()
        return [value.grad.clone() for value in task.net.parameters() if value.grad is not None]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other)
