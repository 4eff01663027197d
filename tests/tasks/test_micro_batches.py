"""A step in micro-batches is the step of the whole batch."""

import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import build, compose
from tests.tasks import processes
from tests.tasks.test_batch_statistics import Normed

TASKS = {  # noise is drawn in some
    **processes.TASKS,
    "autoregression": [
        *processes.TASKS["autoregression"],
        *("net.dropout=0.2", "task.input_noise=0.1", "task.teacher_forcing_slope=0.5"),
    ],
    "verification": [*processes.TASKS["verification"], "net.dropout=0.3", "net.dense_dropout=0.2"],
}
RULES = ["uniform", "loss_softmax", "curriculum"]


def step(name: str, rule: str, pieces: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Gradient, weights, and how many rows each pass through the net had."""
    tree = compose([*TASKS[name], f"reweighting={rule}"]).tree
    task = build_task(tree, processes.FACTS[name.split()[0]]).double().train()
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(3)
    task.reweighting, task.pieces = build(tree["reweighting"]), pieces
    task.reweighting.prepare(steps=10, classes=task.class_names())
    rows: list[int] = []
    for method in ("forward", "step"):
        if hasattr(task.net, method):
            whole = getattr(task.net, method)

            def counted(x, *given, whole=whole, **more):
                rows.append(len(x))
                return whole(x, *given, **more)

            setattr(task.net, method, counted)
    task.on_train_epoch_start()
    loss = task.training_step(processes.batch_of(name), 0)
    loss.backward()
    gradients = [value.grad.flatten() for value in task.parameters() if value.grad is not None]
    return torch.cat(gradients), task.step_weights, rows


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", TASKS)
def test_the_gradient_is_that_of_the_whole_batch(name, rule):
    gradient, weights, _ = step(name, rule, pieces=1)
    found, same, rows = step(name, rule, pieces=4)
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(same, weights, rtol=1e-6, atol=1e-12, equal_nan=True)
    assert set(rows) == {3}, "nine rows go through the net in threes"


def test_a_net_that_norms_over_the_batch_is_refused(data_home):
    task = build_task(compose(["net.levels=2"]).tree, processes.FACTS["separation"])
    task.net = Normed(inputs=1, outputs=2)
    with pytest.raises(ConfigError, match=r"each of 4 micro-batches.*trainer\.accumulate=1"):
        task.refuse_sharing(1, 4)
