"""Autoregression: classes that are weighed, frames that are clipped, and what can be heard."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_sep.reweighting.class_bias import ClassBias
from tests.tasks import oracles
from tests.tasks.test_from_step_to_step import (
    FRAMES,
    batch_of,
    evaluated,
    forced,
    frames_of,
    task_of,
)


def test_a_bias_goes_by_the_class_of_a_sequence() -> None:
    task = task_of().train()
    batch = replace(batch_of(), labels=torch.tensor([2, 0, 1, 2]))
    task.reweighting = ClassBias([1.0, -1.0, 0.5])
    weights = oracles.softmax([0.5, 1.0, -1.0, 0.5])
    expected = float(weights @ forced(task, batch).numpy())
    assert task.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(task.step_weights.numpy(), weights, rtol=1e-6)


def test_scores_are_those_of_what_is_clipped() -> None:
    task, batch = task_of("head=clip_at_eval").eval(), batch_of()
    with torch.no_grad():
        task.net.output.bias.fill_(0.9)  # beyond the bound now and then
        raw = task.net(frames_of(batch)[:, :-1])
    assert 0.05 < float((raw.abs() > 1).double().mean()) < 0.95
    true = frames_of(batch)[:, 1:].double()
    error = (raw.clamp(-1, 1).double() - true).square()
    found = evaluated(task, "test", batch)
    expected = 1 - float(error.sum() / true.square().sum())
    assert found["test/r2"] == pytest.approx(expected, rel=1e-6)
    assert found["test/mse"] == pytest.approx(float(error.mean()), rel=1e-6)


def test_what_can_be_heard_is_the_recording_and_how_the_net_goes_on_from_its_first_half() -> None:
    task, batch = task_of().eval(), batch_of()
    half = FRAMES // 2
    seen = frames_of(batch)[:2, :half]
    with torch.no_grad():
        made = task.audio_examples(batch, 2)
        for _ in range(FRAMES - half):  # the whole prefix again for each frame
            seen = torch.cat([seen, task.net(seen)[:, -1:].tanh()], dim=1)
    assert sorted(made) == ["0-continued", "0-recording", "1-continued", "1-recording"]
    for number in range(2):
        assert torch.equal(made[f"{number}-recording"], batch.waveform[number])
        torch.testing.assert_close(made[f"{number}-continued"], seen[number].reshape(1, -1))
