"""What an evaluation keeps of its batches."""

import math

import pytest
import torch

from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.evaluation import Means
from tests.tasks import facts
from tests.tasks.test_cross_product import batch_for

TASKS = ("separation", "autoregression", "verification")


def test_a_mean_is_over_all_kept_values_of_all_batches():
    means = Means()
    kept = torch.tensor([True, False, True])
    means.add("loss", torch.tensor([1.0, torch.nan, 4.0]), kept)
    means.add("loss", torch.tensor([10.0]), torch.tensor([True]))
    means.add("other", torch.tensor([7.0]), torch.tensor([False]))
    found = means.values()
    assert found["loss"] == 5
    assert math.isnan(found["other"])
    assert means.values()["loss"] == 5  # asking changes nothing


def test_a_share_beyond_bounds_leaves_rounding_out():
    means = Means()
    values = torch.tensor([-1.0 - 1e-5, -1.0 - 1e-7, 0.0, 1.0 + 1e-7, 1.5])
    means.add_beyond("beyond", values, (-1.0, 1.0))
    means.add_beyond("beyond", torch.zeros(3), (-1.0, 1.0))
    assert means.values() == {"beyond": 2 / 8}


@pytest.mark.parametrize("name", TASKS)
def test_each_pass_starts_with_nothing_and_leaves_nothing_on_the_task(name):
    task = build_task(compose([f"task={name}"]).tree, facts.of(name)).eval()
    batch = batch_for(name)
    before, modules = set(vars(task)), [key for key, _ in task.named_modules()]
    found = []
    for _ in range(2):
        with torch.no_grad():
            task.on_test_epoch_start()
            task.test_step(batch, 0)
            task.on_test_epoch_end()
        found.append((dict(task.epoch_metrics), task.example_values))
    assert str(found[0]) == str(found[1])  # as text, where NaN is NaN
    assert set(vars(task)) == before
    assert [key for key, _ in task.named_modules()] == modules


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_of_an_evaluation_that_nobody_started_is_an_error(name):
    task = build_task(compose([f"task={name}"]).tree, facts.of(name)).eval()
    with pytest.raises(RuntimeError, match="nobody started"):
        task.validation_step(batch_for(name), 0)
    with pytest.raises(RuntimeError, match="nobody started"):
        task.on_validation_epoch_end()


@pytest.mark.parametrize("name", ["separation", "autoregression"])
def test_every_batch_is_scored_as_it_is_heard_and_as_it_is_trained(name):
    """The head goes back to evaluation after each batch, and one that brings its loss shows one."""
    found = {}
    for head in ("clip_at_eval", "mu_law_softmax"):
        settings = compose([f"task={name}", "loss=mse", f"head={head}"])
        task = build_task(settings.tree, facts.of(name)).eval()
        batch = batch_for(name)
        with torch.no_grad():
            raw = 4 * task.raw(batch, None) + 3
            evaluation = task.evaluation("val")
            for _ in range(2):
                evaluation.add(batch, raw)
            heard = task.scores(batch, raw).losses.mean()
            task.head.train()
            trained = task.scores(batch, raw).losses.mean()
        metrics = evaluation.means.values()
        assert metrics["loss"] == pytest.approx(float(heard), rel=1e-6)
        assert metrics["loss_raw"] == pytest.approx(float(trained), rel=1e-6)
        found[head] = metrics["loss_raw"] - metrics["loss"]
    assert found["clip_at_eval"] > 0.1
    assert found["mu_law_softmax"] == 0
