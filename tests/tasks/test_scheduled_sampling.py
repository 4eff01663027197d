"""Scheduled sampling: which frames go in while an autoregressive net learns."""

import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.experiment import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.autoregression import Autoregression

FACTS = {"sample_rate": 8000, "gain": 1.0}
FRAMES = 6


def task_of(k: str) -> Autoregression:
    settings = compose(
        ["task=autoregression", "task.frame_samples=8", f"task.teacher_forcing_k={k}"]
    )
    task = build_task(settings.tree, FACTS)
    assert isinstance(task, Autoregression)
    return task.train()


def batch() -> Batch:
    waveform = 0.5 * torch.randn(3, FRAMES * 8, generator=torch.Generator().manual_seed(4))
    return Batch(
        waveform=waveform,
        labels=torch.zeros(3, dtype=torch.int64),
        active=torch.ones(3, dtype=torch.bool),
        index=torch.arange(3),
    )


def test_a_probability_of_one_is_plain_teacher_forcing() -> None:
    scheduled, plain = task_of("1e9"), task_of("null")
    one = scheduled.raw(batch(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(one, plain.raw(batch(), torch.Generator().manual_seed(0)))


def test_the_nets_own_frames_replace_the_true_ones_where_the_draw_says_so() -> None:
    task = task_of("1")  # at step 0 the true frame goes in with a probability of 1 / 2
    given = task.raw(batch(), torch.Generator().manual_seed(7))
    draws = torch.rand(3, FRAMES - 1, generator=torch.Generator().manual_seed(7))
    inputs = task.frames(batch())[:, :-1].clone()
    assert 0 < int((draws[:, 1:] >= 0.5).sum()) < draws[:, 1:].numel()
    for number in range(FRAMES - 1):
        raw = task.net(inputs[:, : number + 1])[:, -1].reshape(3, 8, 1)
        torch.testing.assert_close(given[:, number], raw, rtol=1e-4, atol=1e-6)
        if number + 1 < FRAMES - 1:
            own = draws[:, number + 1] >= 0.5
            inputs[own, number + 1] = task.head.decode(raw)[own].detach()


def test_own_frames_are_never_fed_outside_of_training() -> None:
    scheduled, plain = task_of("1"), task_of("null")
    torch.testing.assert_close(scheduled.raw(batch(), None), plain.raw(batch(), None))


def test_a_k_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="a finite number of at least 1"):
        task_of("0.5")
