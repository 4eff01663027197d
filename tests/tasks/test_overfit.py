"""Each task learns a batch by heart, and what its scores promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.autoregression import Autoregression
from lightning_sep.tasks.base import Task
from lightning_sep.tasks.separation import Separation
from tests.tasks import facts


def task_of(*overrides: str) -> Task:
    settings = compose(overrides)
    return build_task(settings.tree, facts.of(settings.choices["task"]))


def separation_batch() -> Batch:
    """Two tones a row, of different pitches."""
    time = torch.arange(800) / 8000
    pitches = torch.tensor([[200.0, 1100.0], [330.0, 900.0], [250.0, 1300.0]])
    sources = 0.4 * torch.sin(2 * torch.pi * pitches[:, :, None, None] * time)
    return Batch(
        waveform=sources.sum(1),
        labels=torch.tensor([[0, 1], [0, 1], [0, 1]]),
        active=torch.ones(3, 2, dtype=torch.bool),
        index=torch.arange(3),
        sources=sources,
    )


def tone_batch(size: int, samples: int) -> Batch:
    """Rows in pairs: one speaker is one pitch."""
    time = torch.arange(samples) / 8000
    labels = torch.arange(size) // 2
    phases = torch.arange(size)[:, None].float()
    return Batch(
        waveform=0.5
        * torch.sin(2 * torch.pi * (200.0 + 300 * labels)[:, None] * time + phases)[:, None],
        labels=labels,
        active=torch.ones(size, dtype=torch.bool),
        index=torch.arange(size),
    )


def learn(task: Task, batch: Batch, steps: int, rate: float = 3e-3) -> tuple[float, float]:
    """The loss before and after training on one batch."""
    optimizer = torch.optim.Adam(task.parameters(), lr=rate)
    values = []
    for _ in range(steps + 1):
        scored = task.scores(batch, task.raw(batch, None))
        loss = scored.losses[scored.mask].mean()
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return values[0], values[-1]


def evaluated(task: Task, batch: Batch) -> dict[str, float]:
    task.eval()
    with torch.no_grad():
        task.on_validation_epoch_start()
        task.validation_step(batch, 0)
        task.on_validation_epoch_end()
    return dict(task.epoch_metrics)


def test_separation_learns_a_batch_by_heart():
    task = task_of("task=separation", "loss=si_sdr")
    before, after = learn(task, separation_batch(), 120)
    assert after < before - 10  # dB


def test_autoregression_learns_a_batch_by_heart():
    task = task_of("task=autoregression")
    before, after = learn(task, tone_batch(4, 64 * 12), 100)
    assert after < before / 20


def test_verification_learns_a_batch_by_heart():
    task, batch = task_of("task=verification"), tone_batch(6, 4000)
    before, after = learn(task, batch, 60)
    assert after < before / 20
    assert evaluated(task, batch)["val/equal_error_rate"] == 0


@pytest.mark.parametrize("head", ["mu_law_softmax", "logistic_mixture", "tanh_cross_entropy"])
def test_heads_that_bring_their_loss_learn_with_it(head):
    task = task_of("task=autoregression", f"head={head}")
    before, after = learn(task, tone_batch(4, 64 * 12), 60)
    assert after < 0.6 * before


@pytest.mark.parametrize("head", ["tanh", "mu_law_softmax"])
def test_a_continuation_equals_full_passes_over_all_frames(head):
    task, batch = task_of("task=autoregression", f"head={head}"), tone_batch(2, 64 * 5)
    assert isinstance(task, Autoregression)
    learn(task, batch, 5)
    task.eval()
    frames = task.frames(batch)
    with torch.no_grad():
        made = task.continue_frames(frames, 4)
        slow = frames
        for _ in range(4):
            output = task.net(slow)[:, -1]
            raw = output.reshape(2, task.frame_samples, task.head.raw_per_sample)
            slow = torch.cat([slow, task.head.decode(raw)[:, None]], dim=1)
    assert float(made.std()) > 1e-4
    torch.testing.assert_close(made, slow[:, 5:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("separation", separation_batch()),
        ("autoregression", tone_batch(4, 640)),
        ("verification", tone_batch(6, 2400)),
    ],
    ids=["separation", "autoregression", "verification"],
)
def test_validation_twice_gives_the_same_numbers(name, batch):
    task = task_of(f"task={name}")
    first = evaluated(task, batch)
    assert first == evaluated(task, batch)
    assert first[task.monitor[0]] == first[task.monitor[0]]


@pytest.mark.parametrize("loss", ["si_sdr", "si_snr", "thresholded_snr", "mse"])
@pytest.mark.parametrize("level", ["mixture", "source"])
def test_the_order_of_the_targets_does_not_matter(loss, level):
    task = task_of("task=separation", f"loss={loss}", f"task.level={level}")
    batch = separation_batch()
    learn(task, batch, 5)
    assert batch.sources is not None
    swapped = replace(batch, sources=batch.sources.flip(1))
    with torch.no_grad():
        raw = task.raw(batch, None)
        one, other = task.scores(batch, raw).losses, task.scores(swapped, raw).losses
    if level == "source":
        one, other = one.unflatten(0, (3, 2)), other.unflatten(0, (3, 2)).flip(1)
    torch.testing.assert_close(one, other)


def test_the_mixture_as_estimate_improves_nothing():
    task, batch = task_of("task=separation", "head=clip_at_eval"), separation_batch()
    assert isinstance(task, Separation)
    raw = batch.waveform[:, None, ..., None].expand(-1, 2, -1, -1, 1)
    evaluation = task.evaluation("val")
    evaluation.add(batch, raw)
    metrics, values = evaluation.finish()
    assert metrics["si_sdr_improvement_db"] == pytest.approx(0, abs=1e-3)
    assert values["si_sdr_improvement_db"] == pytest.approx([0, 0, 0], abs=1e-3)  # of mixtures
    assert np.shape(values["si_sdr_improvement_db_of_sources"]) == (3, 2)


def test_a_clip_at_evaluation_shows_in_loss_but_not_in_raw_loss():
    task = task_of("task=separation", "head=clip_at_eval", "loss=mse")
    batch = separation_batch()
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(6)  # raw outputs beyond 1
        assert float(task.raw(batch, None).abs().max()) > 1
    metrics = evaluated(task, batch)
    assert metrics["val/loss_raw"] > metrics["val/loss"] * 1.01
    tame = evaluated(task_of("task=separation", "head=tanh", "loss=mse"), batch)
    assert tame["val/loss_raw"] == tame["val/loss"]


def test_dropout_is_the_same_for_the_same_step():
    task, batch = task_of("task=verification"), tone_batch(6, 2400)
    task.train()

    def raw(seed: int) -> torch.Tensor:
        return task.raw(batch, torch.Generator().manual_seed(seed))

    assert torch.equal(raw(1), raw(1))
    assert not torch.equal(raw(1), raw(2))
