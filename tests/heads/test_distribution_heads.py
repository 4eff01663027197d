import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.errors import ConfigError
from lightning_sep.functional import logistic_mixture, mu_law
from lightning_sep.heads.logistic_mixture import LogisticMixture
from lightning_sep.heads.mu_law_softmax import MuLawSoftmax

# As the formulas have them: raw values of 0 are all levels alike, or as wide as full scale.
FlatMuLaw = partial(MuLawSoftmax, start_scale=None)
WideMixture = partial(LogisticMixture, start_log_scale=0.0)


def test_uniform_mu_law_prediction_costs_eight_bits():
    loss = FlatMuLaw().own_loss(
        torch.zeros(3, 256, dtype=torch.float64), torch.tensor([-1.0, 0.1, 1.0])
    )
    torch.testing.assert_close(loss, torch.full((3,), 5.545177, dtype=torch.float64))


def test_uniform_mu_law_prediction_decodes_to_silence():
    assert FlatMuLaw().decode(torch.zeros(256)).item() == pytest.approx(0.0, abs=1e-6)


def test_mu_law_expectation_is_the_mean_over_levels():
    raw = torch.randn(256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = np.exp(raw.numpy()) / np.exp(raw.numpy()).sum()
    levels = [mu_law.decode(torch.tensor(k), dtype=torch.float64).item() for k in range(256)]
    assert FlatMuLaw().decode(raw).item() == pytest.approx(float(p @ levels), abs=1e-12)


def test_temperature_divides_the_raw_values():
    raw = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(FlatMuLaw(temperature=0.5)(raw), FlatMuLaw()(2 * raw))
    sharp, plain = FlatMuLaw(levels=16, temperature=0.5), FlatMuLaw(levels=16)
    raw = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(3)).double()
    target = torch.linspace(-1, 1, 30).double().reshape(2, 3, 5)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    for found, expected in (
        (sharp.decode(raw), plain.decode(2 * raw)),
        (sharp.own_loss(raw, target), plain.own_loss(2 * raw, target)),
        (sharp.pairwise_loss(raw, target), plain.pairwise_loss(2 * raw, target)),
        (sharp.sample(raw, one), plain.sample(2 * raw, other)),
    ):
        torch.testing.assert_close(found, expected)


def test_mu_law_draws_follow_the_distribution():
    raw = torch.full((4, 256), -torch.inf)
    raw[:, 239] = math.log(0.75)
    raw[:, 16] = math.log(0.25)
    drawn = FlatMuLaw().sample(
        raw.clamp(min=-1e4).repeat(5000, 1), torch.Generator().manual_seed(0)
    )
    # 20 000 draws: a standard error of 0.003
    assert (drawn > 0).double().mean().item() == pytest.approx(0.75, abs=0.015)


def raw_of(mean, log_scale, dtype=torch.float64):
    return torch.tensor([0.0, mean, log_scale], dtype=dtype)


def probabilities(levels, raw, components=1):
    head = WideMixture(components=components, levels=levels, log_scale_floor=-16.0)
    grid = logistic_mixture.value_of(torch.arange(levels), levels=levels, dtype=raw.dtype)
    return (-head.own_loss(raw.expand(levels, -1), grid)).exp()


@pytest.mark.parametrize("levels", [2, 256, 65536])
@pytest.mark.parametrize("log_scale", [-12.0, -3.0, -1.0, 0.0, 2.0, 40.0])
@pytest.mark.parametrize("mean", [0.0, 0.31, -1.0, 4.0])
def test_logistic_probabilities_sum_to_one(levels, log_scale, mean):
    total = probabilities(levels, raw_of(mean, log_scale)).sum().item()
    # a scale of exp(-12) magnifies the rounding of a level's value by as much
    assert total == pytest.approx(1.0, abs=1e-12 if levels <= 256 and log_scale >= -3 else 1e-9)


def test_probabilities_of_a_mixture_sum_to_one_with_16_bits():
    raw = torch.tensor([0.3, -1.0, 0.9, -0.5, 0.2, 0.99, -1.0, -4.0, -9.0], dtype=torch.float64)
    assert probabilities(65536, raw, components=3).sum().item() == pytest.approx(1.0, abs=1e-9)


def test_edge_levels_take_the_mass_beyond_them():
    mass = probabilities(256, raw_of(0.0, 0.0))
    assert mass[[0, -1]].tolist() == pytest.approx([0.269713, 0.269713], abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.floats(-2, 2), st.floats(-4, 3), st.integers(0, 255))
def test_level_probability_is_a_difference_of_sigmoids(mean, log_scale, level):
    def below(edge):
        return 1 / (1 + math.exp(min(700, -(edge - mean) / math.exp(log_scale))))

    x, h = -1 + 2 * level / 255, 1 / 255
    low = 0.0 if level == 0 else below(x - h)
    high = 1.0 if level == 255 else below(x + h)
    ours = logistic_mixture.log_probability(
        log_shares=torch.zeros(1, dtype=torch.float64),
        means=torch.tensor([mean], dtype=torch.float64),
        log_scales=torch.tensor([log_scale], dtype=torch.float64),
        level=torch.tensor(level),
        levels=256,
    )
    assert ours.exp().item() == pytest.approx(high - low, rel=1e-6, abs=1e-12)


def test_far_levels_keep_a_finite_loss_and_its_gradient_in_float32():
    raw = raw_of(0.9, -7.0, dtype=torch.float32).requires_grad_()
    loss = WideMixture(components=1).own_loss(raw, torch.tensor(-0.5))
    (gradient,) = torch.autograd.grad(loss, raw)
    assert loss.item() == pytest.approx(1.4 * math.exp(7), rel=0.01)
    assert gradient[1].item() == pytest.approx(math.exp(7), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, -2.4, -2.2, 0.0, 2.0])
@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.4, 0.0, 0.8, 1.2])
def test_decodes_to_the_mean_over_levels(mean, log_scale, dtype):
    levels = 4096
    mass = probabilities(levels, raw_of(mean, log_scale))
    grid = logistic_mixture.value_of(torch.arange(levels), levels=levels, dtype=torch.float64)
    decoded = WideMixture(components=1).decode(raw_of(mean, log_scale, dtype))
    # the closed form is of the continuous distribution: they differ by less than a level
    assert decoded.item() == pytest.approx((mass @ grid).item(), abs=2 / levels)


def test_logistic_draws_have_the_decoded_mean():
    raw = torch.tensor([0.0, 1.0, 0.7, -0.4, -1.0, -2.0]).expand(40_000, -1)
    head = WideMixture(components=2)
    drawn = head.sample(raw, torch.Generator().manual_seed(0))
    # 40 000 draws with a standard deviation of about 0.6: a standard error of 0.003
    assert drawn.mean().item() == pytest.approx(head.decode(raw[0]).item(), abs=0.012)


def test_scales_stay_above_the_floor():
    raw = torch.tensor([0.0, 0, 0, 0, -9, 1])
    for start in (0.0, -2.0, 4.0):
        view = LogisticMixture(components=2, log_scale_floor=-3.0, start_log_scale=start)(raw)
        assert view[-2:].tolist() == [-3.0, 1.0 + start]


def test_forward_normalises_the_shares():
    view = WideMixture(components=3)(torch.randn(4, 9, generator=torch.Generator()))
    torch.testing.assert_close(view[:, :3].exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("levels", [2, 64, 256])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_a_mu_law_net_starts_at_a_logistic_distribution(levels, temperature):
    head = MuLawSoftmax(levels=levels, temperature=temperature, start_scale=0.1)
    values = [mu_law.decode(torch.tensor(k), levels=levels).item() for k in range(levels)]
    edges = [-math.inf, *[(a + b) / 2 for a, b in pairwise(values)], math.inf]
    below = [1 / (1 + math.exp(-edge / 0.1)) if edge > -math.inf else 0.0 for edge in edges]
    shares = torch.tensor([b - a for a, b in pairwise(below)])
    zeros = torch.zeros(1, 1, 1, levels)
    torch.testing.assert_close(head(zeros[0, 0, 0]).exp(), shares, rtol=1e-3, atol=1e-7)
    assert head.decode(zeros[0, 0, 0]).item() == pytest.approx(0.0, abs=1e-5)
    target = torch.tensor([[[0.3]]])
    one = -shares[mu_law.encode(target.flatten(), levels=levels)].log()
    torch.testing.assert_close(head.own_loss(zeros[0, 0], target[0, 0]), one, rtol=1e-3, atol=0)
    torch.testing.assert_close(head.pairwise_loss(zeros, target).flatten(), one, rtol=1e-3, atol=0)
    draws = head.sample(zeros.expand(1, 1, 20_000, levels), torch.Generator().manual_seed(0))
    top = float(shares[-1])
    assert (draws == values[-1]).double().mean().item() == pytest.approx(top, abs=0.02)
    loudness = sum(share * abs(value) for share, value in zip(shares.tolist(), values, strict=True))
    assert draws.abs().mean().item() == pytest.approx(loudness, abs=0.005)
    # What the net says, divided by the temperature, goes on top of the start.
    raw = torch.linspace(0, 0.3, levels)
    raised = shares.numpy() * np.exp(raw.numpy() / temperature)
    mean = float(raised @ np.array(values)) / float(raised.sum())
    assert head.decode(raw).item() == pytest.approx(mean, rel=1e-3)


def test_a_start_scale_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"start_scale = 0\.0: a finite number above 0"):
        MuLawSoftmax(start_scale=0.0)


def test_a_mixture_starts_at_its_scale():
    raw = raw_of(0.2, 0.5)
    started = LogisticMixture(components=1, start_log_scale=-2.5)
    plain = WideMixture(components=1)
    torch.testing.assert_close(started(raw), plain(raw - torch.tensor([0.0, 0.0, 2.5])))
    target = torch.tensor(0.1, dtype=torch.float64)
    torch.testing.assert_close(
        started.own_loss(raw, target), plain.own_loss(raw_of(0.2, -2.0), target)
    )


def test_a_mixture_beyond_its_bounds_is_seen_before_it_is_clipped():
    head = WideMixture(components=2)
    raw = torch.tensor([math.log(3.0), 0.0, 1.6, -0.4, -3.0, -3.0], dtype=torch.float64)
    assert head.unclipped(raw).item() == pytest.approx(0.75 * 1.6 - 0.25 * 0.4)


def test_a_draw_of_one_logistic_is_its_quantile_of_the_generators_number():
    """``m + s (log v - log(1 - v))``, clipped; the first number chooses the component."""
    head = LogisticMixture(components=1, start_log_scale=0.0)
    raw = torch.tensor([[0.0, 0.2, -2.0], [3.0, -0.9, -1.0]], dtype=torch.float64).repeat(500, 1)
    numbers = torch.Generator().manual_seed(4)
    torch.rand(1000, generator=numbers, dtype=torch.float64)
    v = torch.rand(1000, generator=numbers, dtype=torch.float64).numpy()
    mean, scale = np.tile([0.2, -0.9], 500), np.exp(np.tile([-2.0, -1.0], 500))
    expected = np.clip(mean + scale * (np.log(v) - np.log1p(-v)), -1, 1)
    found = head.sample(raw, torch.Generator().manual_seed(4))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    assert 0 < (np.abs(expected) == 1).mean() < 0.5
