"""Scheduled sampling: which frames go in while an autoregressive net learns."""

import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.autoregression import Autoregression
from tests.tasks import facts

FRAMES = 6


def task_of(k: str, *overrides: str) -> Autoregression:
    settings = compose(
        [
            *("task=autoregression", "task.frame_samples=8", f"task.teacher_forcing_k={k}"),
            *overrides,
        ]
    )
    task = build_task(settings.tree, facts.SEQUENCES)
    assert isinstance(task, Autoregression)
    return task.train()


def batch() -> Batch:
    waveform = 0.5 * torch.randn(3, 1, FRAMES * 8, generator=torch.Generator().manual_seed(4))
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


@pytest.mark.parametrize("setting", ["net.dropout", "net.input_dropout"])
def test_dropout_stays(setting: str) -> None:
    """Drawn frame by frame here, so compared with a loop of the net's own steps."""
    task, plain = task_of("1", f"{setting}=0.5"), task_of("1")
    given = task.raw(batch(), torch.Generator().manual_seed(7))
    assert not torch.allclose(given, plain.raw(batch(), torch.Generator().manual_seed(7)))
    generator = torch.Generator().manual_seed(7)
    true = torch.rand(3, FRAMES - 1, generator=generator) < 0.5
    inputs, state = task.frames(batch())[:, :-1], None
    for number in range(FRAMES - 1):
        frame = inputs[:, number].clone()
        if number:
            frame[~true[:, number]] = given[:, number - 1, :, 0].tanh()[~true[:, number]].detach()
        output, state = task.net.step(frame, state, generator=generator)
        torch.testing.assert_close(output, given[:, number, :, 0])


@pytest.mark.parametrize("head", ["mu_law_softmax", "logistic_mixture"])
def test_a_distribution_feeds_draws_of_the_steps_generator(head: str) -> None:
    task = task_of("1", f"head={head}")
    given = task.raw(batch(), torch.Generator().manual_seed(7))
    assert torch.equal(given, task.raw(batch(), torch.Generator().manual_seed(7)))
    generator = torch.Generator().manual_seed(7)
    true = torch.rand(3, FRAMES - 1, generator=generator) < 0.5
    inputs, state, expected = task.frames(batch())[:, :-1], None, 0
    for number in range(FRAMES - 1):
        frame = inputs[:, number].clone()
        if number:
            raw = given[:, number - 1].detach()
            drawn = task.head.sample(raw, generator)
            assert not torch.allclose(drawn, task.head.decode(raw))
            frame[~true[:, number]] = drawn[~true[:, number]]
            expected += int((~true[:, number]).sum())
        output, state = task.net.step(frame, state)
        torch.testing.assert_close(output.reshape(given[:, number].shape), given[:, number])
    assert expected


@pytest.mark.parametrize(
    ("overrides", "probability"),
    [
        (["task.teacher_forcing_k=10"], [10 / 11, 10 / (10 + 2.718281828 ** (20 / 10))]),
        (["task.teacher_forcing_slope=0.01"], [1.0, 0.8]),
        (["task.teacher_forcing_slope=0.1", "task.teacher_forcing_floor=0.25"], [1.0, 0.25]),
        (["task.teacher_forcing_base=0.99"], [1.0, 0.99**20]),
    ],
)
def test_every_schedule_says_how_often_true_frames_go_in(
    overrides: list[str], probability: list[float]
) -> None:
    task = task_of("null", *overrides)
    assert task.true_frames is not None
    found = [task.true_frames(0), task.true_frames(20)]
    assert found == pytest.approx(probability, rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.teacher_forcing_k=10", "task.teacher_forcing_base=0.9"], "schedules of their own"),
        (["task.teacher_forcing_floor=0.1"], "belongs to teacher_forcing_slope"),
        (
            ["task.teacher_forcing_base=1.5"],
            "base = 1.5: a finite number above 0 and below 1 is needed",
        ),
        (["task.teacher_forcing_slope=-1"], "slope = -1.0: a finite number of at least 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_of("null", *overrides)
