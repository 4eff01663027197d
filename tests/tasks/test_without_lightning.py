"""A task that trains is Lightning's; one that is only used does not wait for it."""

import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_sep.experiment import build_task
from lightning_sep.settings import compose

FACTS = {"sample_rate": 8000, "gain": 1.0, "normalise": "peak"}
TASKS = ("separation", "autoregression", "verification")


@pytest.mark.parametrize("name", TASKS)
def test_with_and_without_an_optimizer_a_task_is_the_same_module(name: str) -> None:
    tree = compose([f"task={name}"]).tree
    used, trained = build_task(tree, FACTS, to_train=False), build_task(tree, FACTS)
    assert isinstance(trained, pl.LightningModule)
    assert not isinstance(used, pl.LightningModule)
    assert isinstance(used, nn.Module)
    assert isinstance(trained, type(used))
    assert (type(trained).__name__, type(trained).__module__) == (
        type(used).__name__,
        type(used).__module__,
    )
    values = trained.state_dict()
    assert list(values) == list(used.state_dict())
    for key, value in used.state_dict().items():
        assert torch.equal(value, values[key]) or value.isnan().all(), key
    assert isinstance(trained.configure_optimizers(), torch.optim.Optimizer)
    with pytest.raises(ValueError, match="without an optimizer"):
        used.configure_optimizers()


def test_the_tasks_are_there_without_lightning_torchmetrics_and_scipy() -> None:
    code = (
        "import sys; from lightning_sep.settings import compose;"
        f"[compose([f'task={{name}}']) for name in {TASKS!r}];"
        "heavy = {'pytorch_lightning', 'lightning_fabric', 'torchmetrics', 'scipy', 'lhotse'};"
        "print('lightning_sep.tasks.separation' in sys.modules, sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.split("\n")[-2] == "True []"
