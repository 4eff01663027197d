from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.reweighting.loss_softmax import LossSoftmax


class Stand(pl.LightningModule):
    """What a task offers to the callback."""

    def __init__(self):
        super().__init__()
        self.reweighting = None
        self.step_weights = None
        self.epoch_metrics = {}


TRAINER = pl.Trainer.__new__(pl.Trainer)


def finish(*log):
    task, callback = Stand(), Reweight(LossSoftmax(0.1))
    epoch(task, callback, *log)
    return task, callback


def epoch(task, callback, *log):
    callback.on_train_epoch_start(TRAINER, task)
    for weights in log:
        task.step_weights = weights
        callback.on_train_batch_end(TRAINER, task)
    callback.on_train_epoch_end(TRAINER, task)


R1 = torch.tensor([0.042937, 0.116715, 0.317265, 0.523082])


def test_sets_the_rule_of_the_task():
    task, rule = Stand(), LossSoftmax(0.1)
    Reweight(rule).setup(TRAINER, task, "fit")
    assert task.reweighting is rule


def test_the_rule_is_told_how_long_the_run_is_as_planned():
    told = []

    class Told(LossSoftmax):
        def prepare(self, *, steps, classes):
            told.append((steps, classes))

    task: Any = Stand()
    task.class_names = lambda: ("speech", "music")
    trainer: Any = SimpleNamespace(estimated_stepping_batches=99)
    for steps in (7, None):
        Reweight(Told(0.1), steps=steps).on_train_start(trainer, task)
    assert told == [(7, ("speech", "music")), (99, ("speech", "music"))]


def test_effective_batch_is_the_mean_over_steps():
    task, _ = finish(R1, torch.full((4,), 0.25))
    expected = (2.5658 + 4) / 2
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx(expected, abs=1e-4)


def test_examples_left_out_do_not_count():
    task, callback = finish(torch.tensor([0.5, torch.nan, 0.5]))
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx(2.0)
    assert callback.histogram[0].sum() == 2


def test_a_step_without_examples_does_not_count():
    task, _ = finish(torch.tensor([torch.nan]), torch.tensor([0.5, 0.5]))
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx(2.0)


def test_histogram_is_of_weight_times_number_of_examples():
    _, callback = finish(R1, torch.full((4,), 0.25))
    counts, edges = callback.histogram
    assert edges == pytest.approx([0, *(10 ** (n / 6) for n in range(-18, 19))])
    expected, _ = np.histogram([*(4 * R1.double()).tolist(), 1, 1, 1, 1], bins=edges)
    assert counts.tolist() == expected.tolist()


def test_weights_beyond_the_last_edge_are_counted_in_the_last_bin():
    weights = torch.zeros(5000)
    weights[0] = 1.0
    _, callback = finish(weights)
    assert callback.histogram[0][-1] == 1
    assert callback.histogram[0].sum() == 5000


def test_every_epoch_counts_its_own_steps():
    task, callback = finish(R1)
    epoch(task, callback, torch.full((4,), 0.25))
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx(4.0)
    assert callback.histogram[0].sum() == 4


def test_an_epoch_goes_on_from_its_saved_state():
    task, callback = Stand(), Reweight(LossSoftmax(0.1))
    callback.on_train_epoch_start(TRAINER, task)
    task.step_weights = R1
    callback.on_train_batch_end(TRAINER, task)
    other = Reweight(LossSoftmax(0.1))
    other.load_state_dict(callback.state_dict())
    task.step_weights = torch.full((4,), 0.25)
    other.on_train_batch_end(TRAINER, task)
    other.on_train_epoch_end(TRAINER, task)
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx((2.5658 + 4) / 2, abs=1e-4)
    assert other.histogram[0].sum() == 8


def shares(steps, seed=0):
    """Weights of that many steps, some examples left out, the last step smaller."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for number in range(steps):
        losses = torch.randn(5 if number == steps - 1 else 16, generator=draw)
        weights = losses.mul(3).softmax(0)
        made.append(torch.where(losses > 1, torch.nan, weights))
    return made


@pytest.mark.parametrize("steps", [1, 31, 32, 33, 100])
def test_steps_counted_together_are_steps_counted_one_by_one(steps):
    task, callback = finish(*shares(steps))
    sizes, counts = 0.0, 0
    for weights in shares(steps):
        kept = weights[~weights.isnan()].double()
        # as the callback has it: left out ones are zeros
        sizes += float(1 / torch.where(weights.isnan(), 0.0, weights).double().square().sum())
        counts = counts + np.histogram((kept * len(kept)).numpy(), bins=callback.histogram[1])[0]
    assert task.epoch_metrics["train/effective_batch"] == sizes / steps
    assert callback.histogram[0].tolist() == counts.tolist()


def test_an_interrupted_epoch_counts_to_the_last_bit_as_a_whole_one():
    steps = shares(80)
    whole, callback = finish(*steps)
    task, parts = Stand(), Reweight(LossSoftmax(0.1))
    parts.on_train_epoch_start(TRAINER, task)
    for number, weights in enumerate(steps):
        if number in (1, 40, 79):
            saved, parts = parts.state_dict(), Reweight(LossSoftmax(0.1))
            parts.load_state_dict(saved)
        task.step_weights = weights
        parts.on_train_batch_end(TRAINER, task)
    parts.on_train_epoch_end(TRAINER, task)
    assert task.epoch_metrics == whole.epoch_metrics
    assert parts.histogram[0].tolist() == callback.histogram[0].tolist()


def test_an_epoch_without_steps_reports_nothing():
    task, callback = finish()
    assert task.epoch_metrics == {}
    assert callback.histogram[0].sum() == 0
