"""Autoregression: losses, gradients and scores against loops over the same frames."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.reweighting.loss_softmax import LossSoftmax
from lightning_sep.settings import compose
from lightning_sep.tasks.autoregression import Autoregression
from lightning_sep.tasks.base import step_seed
from tests.tasks import facts, oracles

SIZE, FRAMES, EXAMPLES = 8, 7, 4


def task_of(*overrides: str) -> Autoregression:
    settings = compose(["task=autoregression", f"task.frame_samples={SIZE}", *overrides])
    task = build_task(settings.tree, facts.SEQUENCES)
    assert isinstance(task, Autoregression)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(3)  # predictions of some size
    return task.double().train()


def batch_of(silent: tuple[int, ...] = ()) -> Batch:
    draw = torch.Generator().manual_seed(2)
    waveform = 0.4 * torch.randn(EXAMPLES, FRAMES * SIZE, generator=draw, dtype=torch.float64)
    waveform *= torch.tensor([[1.0], [0.3], [0.7], [0.1]])
    active = torch.ones(EXAMPLES, dtype=torch.bool)
    for example in silent:
        waveform[example] = 0
        active[example] = False
    labels = torch.zeros(EXAMPLES, dtype=torch.int64)
    return Batch(waveform.unsqueeze(1), labels, active, torch.arange(EXAMPLES))


def frames_of(batch: Batch) -> Tensor:
    return torch.stack([batch.waveform[:, 0, n * SIZE : (n + 1) * SIZE] for n in range(FRAMES)], 1)


def predictions(task: Autoregression, batch: Batch) -> Tensor:
    """Frames 2 to n from frames 1 to n - 1, by the net alone, activated by hand."""
    return task.net(frames_of(batch)[:, : FRAMES - 1]).tanh()


def squared_errors(made: Tensor, batch: Batch) -> list[float]:
    """Mean squared error of each example, its frames 2 to n being the targets."""
    result = []
    for example in range(EXAMPLES):
        wave, total = batch.waveform[example, 0].numpy(), 0.0
        for frame in range(1, FRAMES):
            for sample in range(SIZE):
                wrong = made[example, frame - 1, sample].item() - wave[frame * SIZE + sample]
                total += wrong**2
        result.append(total / ((FRAMES - 1) * SIZE))
    return result


@pytest.mark.parametrize("silent", [(), (1,)], ids=["sound", "silence"])
@pytest.mark.parametrize("alpha", [None, 20.0], ids=["plain mean", "loss softmax"])
def test_training_step_and_gradient_are_those_of_the_weighted_squared_errors(
    silent: tuple[int, ...], alpha: float | None
) -> None:
    task, batch = task_of(), batch_of(silent)
    made = predictions(task, batch)
    costs = squared_errors(made, batch)
    kept = [n for n in range(EXAMPLES) if n not in silent]
    shares = oracles.softmax([(alpha or 0.0) * costs[n] for n in kept])
    if alpha is not None:
        task.reweighting = LossSoftmax(alpha)
    value = task.training_step(batch, 0)
    expected = sum(share * costs[n] for share, n in zip(shares, kept, strict=True))
    assert value.item() == pytest.approx(expected, rel=1e-9)
    wrong = (made - frames_of(batch)[:, 1:]) ** 2
    total = sum(share * wrong[n].mean() for share, n in zip(shares, kept, strict=True))
    parameters = list(task.net.parameters())
    for one, other in zip(
        torch.autograd.grad(value, parameters),
        torch.autograd.grad(total, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_distribution_is_scored_by_the_cross_entropy_of_the_next_frame() -> None:
    task, batch = (
        task_of("head=mu_law_softmax", "head.levels=16", "head.start_scale=null"),
        batch_of(),
    )
    # As in a net's output: sample by sample, within a sample level by level.
    raw = task.net(frames_of(batch)[:, :-1]).detach().numpy()
    raw = raw.reshape(EXAMPLES, FRAMES - 1, SIZE, 16)
    costs = []
    for example in range(EXAMPLES):
        total = 0.0
        for frame in range(1, FRAMES):
            for sample in range(SIZE):
                target = float(batch.waveform[example, 0, frame * SIZE + sample].clamp(-1, 1))
                logits = raw[example, frame - 1, sample]
                level = oracles.mu_law_level(target, 16)
                total -= logits[level] - np.log(np.exp(logits).sum())
        costs.append(total / ((FRAMES - 1) * SIZE))
    scored = task.scores(batch, task.raw(batch, None))
    np.testing.assert_allclose(scored.losses.detach().numpy(), costs, rtol=1e-9)


def test_noise_goes_into_the_inputs_and_not_into_the_targets() -> None:
    task, batch = task_of("task.input_noise=0.25"), batch_of()
    clean = frames_of(batch)[:, :-1]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    expected = task.net(clean + 0.25 * noise).tanh()
    raw = task.raw(batch, torch.Generator().manual_seed(5))
    torch.testing.assert_close(raw.squeeze(-1).tanh(), expected)
    np.testing.assert_allclose(
        task.scores(batch, raw).losses.detach().numpy(), squared_errors(expected, batch), rtol=1e-9
    )
    still = task.raw(batch, None).squeeze(-1).tanh()
    torch.testing.assert_close(still, predictions(task, batch))


def test_evaluation_is_r2_over_the_active_examples() -> None:
    task, batch = task_of(), batch_of(silent=(1,))
    task.eval()
    with torch.no_grad():
        task.on_test_epoch_start()
        task.test_step(batch, 0)
        task.on_test_epoch_end()
        made = predictions(task, batch).numpy()
    waves, found = batch.waveform.numpy().reshape(EXAMPLES, FRAMES, SIZE), task.epoch_metrics
    kept = [0, 2, 3]
    error = [((made[n] - waves[n, 1:]) ** 2).sum() for n in kept]
    power = [(waves[n, 1:] ** 2).sum() for n in kept]
    repeated = sum(((waves[n, :-1] - waves[n, 1:]) ** 2).sum() for n in kept)
    assert found["test/r2"] == pytest.approx(1 - sum(error) / sum(power), rel=1e-9)
    assert found["test/mse"] == pytest.approx(sum(error) / (3 * (FRAMES - 1) * SIZE), rel=1e-9)
    assert found["test/r2_zero"] == 0
    assert found["test/r2_repeat_last"] == pytest.approx(1 - repeated / sum(power), rel=1e-9)
    own = [1 - e / p for e, p in zip(error, power, strict=True)]
    values = {name: np.array(one) for name, one in task.example_values.items()}
    order = np.argsort(batch.index.numpy())  # the examples' own, whatever the batch's
    np.testing.assert_array_equal(values["test/index"], np.sort(batch.index.numpy()))
    for name, expected in (("r2", own), ("squared_error", error), ("energy", power)):
        by_row = np.full(4, np.nan)
        by_row[kept] = expected
        np.testing.assert_allclose(values[f"test/{name}"], by_row[order], rtol=1e-9)


@pytest.mark.parametrize("head", ["tanh", "linear"])
def test_free_running_scores_what_the_net_makes_of_its_own_frames(head: str) -> None:
    task, batch = task_of(f"head={head}"), batch_of(silent=(1,))
    batch.waveform[2] *= 4  # beyond full scale, as a validation part may go
    shown = torch.tanh if head == "tanh" else torch.clone
    with torch.no_grad():
        task.net.output.weight.mul_(8)  # beyond full scale, where a line goes on
    task.eval()
    half = FRAMES // 2
    with torch.no_grad():
        seen = frames_of(batch)[:, :half]
        for _ in range(FRAMES - half):  # the whole prefix again for each frame
            seen = torch.cat([seen, shown(task.net(seen)[:, -1:])], dim=1)
        task.on_validation_epoch_start()
        task.validation_step(batch, 0)
        task.on_validation_epoch_end()
    kept = [0, 2, 3]
    made, true = seen[kept, half:].numpy(), frames_of(batch)[kept, half:].numpy()
    assert head == "tanh" or abs(made).max() > 1.5
    expected = 1 - ((made - true) ** 2).sum() / (true**2).sum()
    assert task.epoch_metrics["val/r2_free_running"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["si_sdr", "si_snr"])
def test_a_loss_that_leaves_the_scale_open_is_refused(loss: str) -> None:
    with pytest.raises(ConfigError, match="leaves the scale and the sign of a frame open"):
        task_of(f"loss={loss}")


@pytest.mark.parametrize("begin", ["train", "val", "test"])
def test_global_generators_are_seeded_by_the_step(begin: str) -> None:
    """Third-party code may draw from them: a resumed run must draw the same."""
    task = task_of()
    seed = step_seed(task.seed, 0)
    hooks = {
        "train": lambda: task.on_train_batch_start(batch_of(), 5),
        "val": task.on_validation_epoch_start,
        "test": task.on_test_epoch_start,
    }
    hooks[begin]()
    drawn = random.random(), float(np.random.rand()), float(torch.rand(()))
    other = torch.rand((), generator=torch.Generator().manual_seed(seed))
    assert drawn == (
        random.Random(seed).random(),
        np.random.RandomState(seed % 2**32).rand(),
        float(other),
    )
