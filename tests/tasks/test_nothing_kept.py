"""A step leaves nothing behind: what it computed is given back, graph and all."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from lightning_sep import callbacks
from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.functional import step_sums
from lightning_sep.parts import build_task
from lightning_sep.settings import build, compose
from tests.tasks.processes import FACTS
from tests.tasks.test_no_waits import CASES, batch_of


@pytest.fixture
def only_what_is_new() -> Iterator[None]:
    """Nothing that is there already is looked through, which takes long."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("only_what_is_new")
@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_no_tensor_of_a_step_outlives_it(
    case: str, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hook of autograd holds, and what leads back to it, no garbage collector finds."""
    for module in (step_sums, callbacks.reweight):  # sums of a few steps are made at once
        monkeypatch.setattr(module, "AT_ONCE", 2)
    name = case.split(",")[0]
    settings = compose([f"task={name}", *CASES[case]])
    task: Any = build_task(settings.tree, FACTS[name]).train()
    task.pieces = pieces
    reweight = Reweight(build(settings.tree["reweighting"]), steps=100)
    reweight.setup(None, task, "fit")
    reweight.on_train_start(None, task)
    task.on_train_epoch_start()
    reweight.on_train_epoch_start(None, task)
    batch = batch_of(name)

    def tensors_after(steps: int) -> int:
        for step in range(steps):
            task.training_step(batch, step).backward()
            reweight.on_train_batch_end(None, task)
            task.zero_grad()
        gc.collect()
        return sum(issubclass(type(one), Tensor) for one in gc.get_objects())

    tensors_after(2)  # what is made once is made
    assert tensors_after(4) == tensors_after(4)
