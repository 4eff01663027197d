"""Separation of several channels: what is scored, against loops over the same batch."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.separation import Separation
from tests.tasks import facts, oracles

EXAMPLES, CHANNELS, TIME = 3, 2, 160
FACTS = replace(facts.MIXTURES, channels=CHANNELS, class_names=tuple("abc"))


def task_of(*overrides: str, sources: int = 2, net: str = "wave_unet_small") -> Separation:
    small = ["net.levels=2"] if net == "wave_unet_small" else []
    settings = compose(
        [
            *("task=separation", f"task.sources={sources}", f"net={net}", "head=tanh"),
            *(*small, *overrides),
        ]
    )
    task = build_task(settings.tree, FACTS)
    assert isinstance(task, Separation)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(2)  # estimates that differ from each other by much
    return task.double().train()


def batch_of(sources: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(4)
    shape = (EXAMPLES, sources, CHANNELS, TIME)
    waves = 0.3 * torch.randn(shape, generator=draw, dtype=torch.float64)
    waves *= torch.rand(*shape[:3], 1, generator=draw, dtype=torch.float64) + 0.1  # panned
    active = torch.ones(EXAMPLES, sources, dtype=torch.bool)
    labels = torch.arange(EXAMPLES * sources).reshape(EXAMPLES, sources) % 3
    return Batch(waves.sum(1), labels, active, torch.arange(EXAMPLES), sources=waves)


def one_signal(waves: Tensor) -> np.ndarray:
    """The samples of all channels in one row."""
    return np.concatenate([channel.detach().numpy() for channel in waves])


@pytest.mark.parametrize("net", ["wave_unet_small", "sudo_rm_rf_small"])
@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("difference", [False, True])
def test_all_channels_go_in_and_those_of_all_sources_come_out(
    net: str, sources: int, difference: bool
) -> None:
    task = task_of(f"task.difference={difference}", net=net, sources=sources)
    given = sources - difference
    assert task.sizes() == (CHANNELS, given * CHANNELS)
    batch = batch_of(sources)
    raw = task.raw(batch, None)
    assert raw.shape == (EXAMPLES, given, CHANNELS, TIME, 1)
    by_net = task.net(batch.waveform)
    for source in range(given):  # source by source, within a source channel by channel
        for channel in range(CHANNELS):
            assert torch.equal(
                raw[:, source, channel, :, 0], by_net[:, CHANNELS * source + channel]
            )
    assert task.separate(batch.waveform).shape == (EXAMPLES, sources, CHANNELS, TIME)


@pytest.mark.parametrize("variant", ["original", "improved"])
@pytest.mark.parametrize("difference", [False, True])
def test_a_mask_is_for_a_source_with_all_its_channels(variant: str, difference: bool) -> None:
    more = [f"net.variant={variant}", f"task.difference={difference}"]
    task = task_of(*more, net="sudo_rm_rf_small", sources=3)
    assert task.net.sources == 3 - difference
    assert task.net.outputs == 2 * (3 - difference)


def test_the_parameters_of_a_distribution_belong_to_their_channel() -> None:
    task = task_of("head=mu_law_softmax", "head.levels=16", "head.start_scale=null")
    batch = batch_of()
    assert batch.sources is not None
    assert task.sizes() == (CHANNELS, 2 * CHANNELS * 16)
    raw = task.raw(batch, None)
    logits = task.net(batch.waveform).detach().numpy()
    logits = logits.reshape(EXAMPLES, 2, CHANNELS, 16, TIME)
    costs = []
    for example in range(EXAMPLES):
        pairwise = np.zeros((2, 2))
        for e, s in itertools.product(range(2), range(2)):
            total = 0.0
            for channel, time in itertools.product(range(CHANNELS), range(TIME)):
                row = logits[example, e, channel, :, time]
                target = float(batch.sources[example, s, channel, time].clamp(-1, 1))
                total -= row[oracles.mu_law_level(target, 16)] - np.log(np.exp(row).sum())
            pairwise[e, s] = total / (CHANNELS * TIME)
        order = oracles.best_order(pairwise, np.array([True, True]))
        costs.append(sum(pairwise[order[s], s] for s in range(2)) / 2)
    np.testing.assert_allclose(task.scores(batch, raw).losses.detach().numpy(), costs, rtol=1e-9)


@pytest.mark.parametrize("loss", ["si_sdr", "mse", "thresholded_snr"])
def test_a_source_is_scored_with_its_channels_as_one_signal(loss: str) -> None:
    task, batch = task_of(f"loss={loss}"), batch_of()
    assert batch.sources is not None
    made = task.net(batch.waveform).tanh().unflatten(1, (2, CHANNELS))
    costs = []
    for example in range(EXAMPLES):
        mixture = one_signal(batch.waveform[example])
        pairwise = np.zeros((2, 2))
        for e, s in itertools.product(range(2), range(2)):
            pair = one_signal(made[example, e]), one_signal(batch.sources[example, s])
            if loss == "thresholded_snr":
                pairwise[e, s] = oracles.thresholded_snr(*pair, mixture)
            else:
                pairwise[e, s] = oracles.mse(*pair) if loss == "mse" else -oracles.si_sdr(*pair)
        order = oracles.best_order(pairwise, np.array([True, True]))
        costs.append(sum(pairwise[order[s], s] for s in range(2)) / 2)
    scored = task.scores(batch, task.raw(batch, None))
    np.testing.assert_allclose(scored.losses.detach().numpy(), costs, rtol=1e-6)


def improvement(task: Separation, batch: Batch, raw: Tensor) -> list[float]:
    task.eval()
    evaluation = task.evaluation("test")
    evaluation.add(batch, raw)
    return evaluation.finish()[1]["si_sdr_improvement_db"]


def test_improvement_is_that_of_all_channels_together() -> None:
    task, batch = task_of("head=linear"), batch_of()
    assert batch.sources is not None
    # not in the order of the targets, with another error and the same error in each channel
    draw = torch.Generator().manual_seed(8)
    noise = torch.randn(batch.sources.shape, generator=draw, dtype=torch.float64)
    estimate = (0.7 * batch.sources + 0.05 * noise).flip(1)
    expected = []
    for example in range(EXAMPLES):
        gains = []
        for source in range(2):
            true = one_signal(batch.sources[example, source])
            after = oracles.si_sdr(one_signal(estimate[example, 1 - source]), true)
            gains.append(after - oracles.si_sdr(one_signal(batch.waveform[example]), true))
        expected.append(np.mean(gains))
    found = improvement(task, batch, estimate.unsqueeze(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_gain_for_all_channels_costs_nothing_and_one_for_each_does() -> None:
    task, batch = task_of("head=linear"), batch_of()
    assert batch.sources is not None
    together = 3.0 * batch.sources
    apart = batch.sources * torch.tensor([[1.0], [0.2]], dtype=torch.float64)
    assert min(improvement(task, batch, together.unsqueeze(-1))) > 100
    assert max(improvement(task, batch, apart.unsqueeze(-1))) < 30


@pytest.mark.parametrize("sources", [2, 3])
def test_the_difference_is_taken_channel_by_channel(sources: int) -> None:
    task, batch = task_of("task.difference=true", sources=sources), batch_of(sources)
    raw = task.raw(batch, None)
    found = task.seen(raw, batch.waveform)
    made = raw.squeeze(-1).tanh()
    torch.testing.assert_close(found[:, :-1], made)
    torch.testing.assert_close(found[:, -1], batch.waveform - made.sum(1))


@pytest.mark.parametrize("net", ["wave_unet_small", "sudo_rm_rf_small"])
def test_in_blocks_both_channels_go_on_where_they_were(net: str) -> None:
    task = task_of(net=net).eval()
    draw = torch.Generator().manual_seed(1)
    waveform = 0.3 * torch.randn(CHANNELS, 3000, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        whole = task.separate(waveform[None])[0]
        pieces = list(task.separate_blocks(waveform.split([700, 1, 1299, 1000], 1), piece=800))
    assert len(pieces) > 2
    made = torch.cat(pieces, dim=-1)
    assert made.shape == whole.shape == (2, CHANNELS, 3000)
    if net == "wave_unet_small":
        assert float((made - whole).norm() / whole.norm()) < 1e-12
    else:  # a norm over the piece instead of the whole: near, and in the same channels
        for source, channel in itertools.product(range(2), range(CHANNELS)):
            one, other = made[source, channel], whole[source, channel]
            assert float((one * other).sum() / (one.norm() * other.norm())) > 0.99


def test_audio_examples_have_all_channels() -> None:
    task, batch = task_of().eval(), batch_of()
    made = task.audio_examples(batch, 1)
    assert {tuple(one.shape) for one in made.values()} == {(CHANNELS, TIME)}
    assert batch.sources is not None
    gain = made["0-mixture"] / batch.waveform[0]
    torch.testing.assert_close(made["0-target-2"], batch.sources[0, 1] * gain[0, 0])


@pytest.mark.parametrize("order", ["any", "fixed"])
@pytest.mark.parametrize("loss", ["si_sdr", "mse", "thresholded_snr", "mu_law_softmax"])
def test_a_fixed_order_scores_each_source_against_its_own(order: str, loss: str) -> None:
    by_head = loss == "mu_law_softmax"
    more = ["head=mu_law_softmax", "head.levels=16"] if by_head else [f"loss={loss}"]
    task = task_of(*more, f"task.order={order}", "task.level=source")
    free = task_of(*more, "task.level=source")
    batch = batch_of()
    assert batch.sources is not None
    raw = task.raw(batch, None).detach()
    swapped = raw.flip(1)
    one, other = task.scores(batch, raw).losses, task.scores(batch, swapped).losses
    best = free.scores(batch, raw).losses
    if order == "any":
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one, best)
        return
    one, other = one.unflatten(0, (EXAMPLES, 2)), other.unflatten(0, (EXAMPLES, 2))
    assert float((one - other).abs().min()) > 1e-6
    # either is the best order, example by example
    least = torch.where((one.sum(1) < other.sum(1))[:, None], one, other)
    torch.testing.assert_close(least, best.unflatten(0, (EXAMPLES, 2)))
    if not by_head:
        made = raw.squeeze(-1).tanh()
        for example, source in itertools.product(range(EXAMPLES), range(2)):
            pair = one_signal(made[example, source]), one_signal(batch.sources[example, source])
            mixture = one_signal(batch.waveform[example])
            expected = {
                "si_sdr": lambda pair=pair: -oracles.si_sdr(*pair),
                "mse": lambda pair=pair: oracles.mse(*pair),
                "thresholded_snr": lambda pair=pair, mixture=mixture: oracles.thresholded_snr(
                    *pair, mixture
                ),
            }[loss]()
            assert float(one[example, source]) == pytest.approx(expected, rel=1e-6)


def test_a_fixed_order_is_evaluated_as_it_stands() -> None:
    batch = batch_of()
    assert batch.sources is not None
    raw = (0.9 * batch.sources + 0.1 * batch.sources.roll(1, -1)).unsqueeze(-1)
    fixed, free = task_of("head=linear", "task.order=fixed"), task_of("head=linear")
    right, wrong = improvement(fixed, batch, raw), improvement(fixed, batch, raw.flip(1))
    np.testing.assert_allclose(right, improvement(free, batch, raw), rtol=1e-9)
    np.testing.assert_allclose(right, improvement(free, batch, raw.flip(1)), rtol=1e-9)
    assert max(wrong) < min(right) - 10


def test_a_silent_source_costs_nothing_or_what_is_heard_in_its_place_in_a_fixed_order() -> None:
    task, batch = task_of("loss=si_sdr", "task.order=fixed"), batch_of()
    assert batch.sources is not None
    batch.sources[1, 0] = 0
    batch.active[1, 0] = False
    raw = task.raw(batch, None).detach()
    scored = task.scores(batch, raw)
    made = one_signal(raw[1, 1].squeeze(-1).tanh())
    expected = -oracles.si_sdr(made, one_signal(batch.sources[1, 1]))
    assert float(scored.losses[1]) == pytest.approx(expected, rel=1e-6)
    task = task_of("loss=thresholded_snr", "task.order=fixed", "task.level=source")
    made, silence, mixture = map(
        one_signal, (raw[1, 0].squeeze(-1).tanh(), batch.sources[1, 0], batch.waveform[1])
    )
    expected = oracles.thresholded_snr(made, silence, mixture)  # silence under the mixture's level
    assert float(task.scores(batch, raw).losses[2]) == pytest.approx(expected, rel=1e-6)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="order = 'first'"):
        task_of("task.order=first")
