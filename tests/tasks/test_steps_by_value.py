"""What changes from step to step, in a real Trainer whose learning rate moves nothing."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.data.batch import Batch
from lightning_sep.parts import build_task
from lightning_sep.reweighting.curriculum import Curriculum
from lightning_sep.settings import compose
from lightning_sep.tasks.base import Task
from tests.tasks import facts, oracles

SIZE, FRAMES, EXAMPLES = 8, 5, 4


def task_of() -> Task:
    overrides = [
        "task=autoregression",
        f"task.frame_samples={SIZE}",
        "optimizer.learning_rate=1e-30",
    ]
    return build_task(compose(overrides).tree, facts.SEQUENCES)


def batch_of() -> Batch:
    draw = torch.Generator().manual_seed(2)
    waveform = torch.randn(EXAMPLES, FRAMES * SIZE, generator=draw)
    waveform *= torch.tensor([[1.0], [0.3], [0.7], [0.1]])
    return Batch(
        waveform=waveform.unsqueeze(1),
        labels=torch.zeros(EXAMPLES, dtype=torch.int64),
        active=torch.ones(EXAMPLES, dtype=torch.bool),
        index=torch.arange(EXAMPLES),
    )


def costs_of(task: Task, batch: Batch) -> list[float]:
    """Mean squared error of each example, next frame against prediction."""
    frames = batch.waveform.reshape(EXAMPLES, FRAMES, SIZE)
    with torch.no_grad():
        wrong = (task.net(frames[:, :-1]).tanh() - frames[:, 1:]).double()
    return [float((one * one).mean()) for one in wrong]


def train(task: Task, batch: Batch, steps: int, *callbacks: pl.Callback) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(task, DataLoader([batch] * steps, batch_size=None))
    return trainer


def test_curriculum_weighs_by_the_optimizer_step() -> None:
    task, batch = task_of(), batch_of()
    costs = costs_of(task, batch)
    seen: list[torch.Tensor] = []

    class Note(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            assert task.step_weights is not None
            seen.append(task.step_weights)

    train(task, batch, 7, Reweight(Curriculum(beta_start=-4.0, end=5 / 7)), Note())
    minimised = []
    for step, weights in enumerate(seen):
        left = max(0.0, 1 - step / 5)
        expected = oracles.softmax([-4.0 * left * cost for cost in costs])
        np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-5)
        minimised.append(float(expected @ np.array(costs)))
    assert len(seen) == 7
    # The rule moves what is minimised, never what is reported as the loss.
    assert task.epoch_metrics["train/loss"] == pytest.approx(np.mean(costs), rel=1e-5)
    weighted = task.epoch_metrics["train/weighted_loss"]
    assert weighted == pytest.approx(np.mean(minimised), rel=1e-5)
    assert weighted < 0.95 * np.mean(costs)


def test_a_loss_beyond_the_numbers_counts_as_left_out_and_is_told() -> None:
    task, batch = task_of(), batch_of()
    costs = costs_of(task, batch)
    batch.waveform[2:, 0, -SIZE:] = 1e30  # a target only, whose squared error is infinite
    batch.active[3] = False  # what is left out anyway is not told
    train(task, batch, 3)
    assert task.epoch_metrics["train/loss"] == pytest.approx(sum(costs[:2]) / 2, rel=1e-5)
    assert task.epoch_metrics["train/non_finite"] == 3
    assert all(value.isfinite().all() for value in task.net.parameters())


def test_effective_batch_is_that_of_the_weights_used() -> None:
    task, batch = task_of(), batch_of()
    costs = costs_of(task, batch)
    train(task, batch, 3, Reweight(Curriculum(beta_start=-4.0, end=1.0)))
    sizes = []
    for step in range(3):
        weights = oracles.softmax([-4.0 * (1 - step / 3) * cost for cost in costs])
        sizes.append(1 / (weights**2).sum())
    assert task.epoch_metrics["train/effective_batch"] == pytest.approx(np.mean(sizes), rel=1e-5)
