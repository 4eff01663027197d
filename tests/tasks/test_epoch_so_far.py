"""What a checkpoint keeps of an unfinished epoch: every number, in few tensors."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_sep.experiment import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.base import Task

LISTS = ("train_losses", "weights_log", "non_finite")
FACTS = {"sample_rate": 8000, "gain": 1.0, "normalise": "peak"}


def task() -> Task:
    return build_task(compose([]).tree, FACTS)


def saved(steps: int, examples: Any) -> tuple[dict[str, list[Tensor]], dict[str, Any]]:
    """The lists after so many steps, and the checkpoint made of them."""
    generator = torch.Generator().manual_seed(1)
    trained = task()
    for step in range(steps):
        trained.train_losses.append(torch.randn((), generator=generator))
        trained.weights_log.append(torch.rand(examples(step), generator=generator))
        trained.non_finite.append(torch.randint(9, (), generator=generator))
    checkpoint: dict[str, Any] = {}
    trained.on_save_checkpoint(checkpoint)
    return {name: getattr(trained, name) for name in LISTS}, checkpoint


def tensors(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(tensors, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(tensors, value))
    return int(isinstance(value, Tensor))


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(lambda step: 4, id="equal batches"),
        pytest.param(lambda step: step % 3, id="batches of 0, 1 and 2 examples"),
    ],
)
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_checkpoint_brings_back_every_number_of_the_epoch(steps: int, examples: Any) -> None:
    before, checkpoint = saved(steps, examples)
    resumed = task()
    resumed.on_load_checkpoint(checkpoint)
    for name in LISTS:
        after = getattr(resumed, name)
        assert len(after) == steps
        for one, other in zip(before[name], after, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_a_checkpoint_holds_no_more_tensors_after_more_steps() -> None:
    counts = [tensors(saved(steps, lambda step: 4)[1]) for steps in (1, 200)]
    assert counts[0] == counts[1]
