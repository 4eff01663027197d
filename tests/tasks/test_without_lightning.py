"""A task that trains is Lightning's; one that is only used does not wait for it."""

import json
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_sep.data.facts import facts_from
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from tests.tasks import facts

TASKS = ("separation", "autoregression", "verification")


@pytest.mark.parametrize("name", TASKS)
def test_with_and_without_an_optimizer_a_task_is_the_same_module(name: str) -> None:
    tree = compose([f"task={name}"]).tree
    known = facts.of(name)
    used, trained = build_task(tree, known, to_train=False), build_task(tree, known)
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


@pytest.mark.parametrize("name", TASKS)
def test_facts_of_another_kind_of_examples_are_refused(name: str) -> None:
    other = facts.of(TASKS[TASKS.index(name) - 1])
    words = f"needs examples that give .*, these give {type(other).__name__}"
    with pytest.raises(ConfigError, match=words):
        build_task(compose([f"task={name}"]).tree, other)


@pytest.mark.parametrize("name", TASKS)
def test_a_checkpoint_holds_the_facts_as_json(name: str) -> None:
    task, checkpoint = build_task(compose([f"task={name}"]).tree, facts.of(name)), {}
    task.on_save_checkpoint(checkpoint)
    assert facts_from(task.facts_type, json.loads(json.dumps(checkpoint["facts"]))) == task.facts
