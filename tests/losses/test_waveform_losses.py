import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.errors import ConfigError
from lightning_sep.functional.permutation import best_permutation
from lightning_sep.losses.base import WaveformLoss
from lightning_sep.losses.mse import Mse
from lightning_sep.losses.si_sdr import SiSdr
from lightning_sep.losses.si_snr import SiSnr
from lightning_sep.losses.thresholded_snr import ThresholdedSnr
from tests import contracts

NAMES = contracts.entries_of("loss", WaveformLoss)


@pytest.fixture(params=NAMES)
def loss(request):
    return contracts.build("loss", request.param)


def signals(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_one_number_per_signal(loss):
    value = loss(estimate=signals(2, 3, 50), target=signals(2, 3, 50, seed=1))
    assert value.shape == (2, 3)


def test_a_better_estimate_costs_less(loss):
    target, noise = signals(50), signals(50, seed=1)
    costs = [loss(estimate=target + share * noise, target=target) for share in (0.01, 0.1, 1.0)]
    assert costs == sorted(costs)


def test_pairwise_agrees_with_one_by_one(loss):
    estimate, target = signals(2, 3, 50), signals(2, 3, 50, seed=1)
    mixture = target.sum(1)
    table = loss.pairwise(estimate=estimate, target=target, mixture=mixture)
    for i in range(3):
        for j in range(3):
            one = loss(estimate=estimate[:, i], target=target[:, j], mixture=mixture)
            torch.testing.assert_close(table[:, i, j], one)


def test_pairwise_is_fit_for_training_in_float32(loss):
    target = signals(2, 2, 8000, dtype=torch.float32)
    estimate = target + 0.3 * signals(2, 2, 8000, seed=1, dtype=torch.float32)
    table = loss.pairwise(estimate=estimate, target=target, mixture=target.sum(1))
    one = loss(estimate=estimate, target=target, mixture=target.sum(1).unsqueeze(1))
    # 1e-3 dB at about 10 dB
    torch.testing.assert_close(table.diagonal(dim1=1, dim2=2), one, atol=1e-3, rtol=0)


def test_gradient_is_the_derivative(loss):
    estimate = signals(2, 2, 12).requires_grad_()
    target = signals(2, 2, 12, seed=1)
    assert torch.autograd.gradcheck(lambda e: loss(estimate=e, target=target), estimate)
    assert torch.autograd.gradcheck(lambda e: loss.pairwise(estimate=e, target=target), estimate)


@pytest.mark.parametrize("silent", ["estimate", "target", "both", "all"])
def test_silence_gives_finite_losses_and_gradients(loss, silent):
    quiet = torch.zeros(1, 2, 40)
    estimate = quiet.clone() if silent != "target" else signals(1, 2, 40, dtype=torch.float32)
    target = quiet if silent != "estimate" else signals(1, 2, 40, dtype=torch.float32)
    mixture = quiet[:, 0] if silent == "all" else signals(1, 40, dtype=torch.float32)
    estimate.requires_grad_()
    table = loss.pairwise(estimate=estimate, target=target, mixture=mixture)
    one = loss(estimate=estimate, target=target, mixture=mixture.unsqueeze(1))
    (gradient,) = torch.autograd.grad(table.sum() + one.sum(), estimate)
    assert table.isfinite().all()
    assert one.isfinite().all()
    assert gradient.isfinite().all()


def test_clipped_input_gives_finite_losses(loss):
    estimate, target = 50 * signals(2, 40), signals(2, 40, seed=1)
    assert loss(estimate=estimate.clamp(-1, 1), target=target.sign()).isfinite().all()


def test_stays_in_float32_under_autocast(loss):
    estimate = signals(2, 2, 40).bfloat16()
    target = signals(2, 2, 40, seed=1, dtype=torch.float32)
    plain = loss.pairwise(estimate=estimate.float(), target=target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss.pairwise(estimate=estimate, target=target)
        assert loss(estimate=estimate, target=target).dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_can_be_stacked(loss):
    estimate, target = signals(4, 3, 20), signals(4, 3, 20, seed=1)
    stacked = vmap(lambda e, t: loss(estimate=e, target=t))(estimate, target)
    torch.testing.assert_close(stacked, loss(estimate=estimate, target=target))


def test_refuses_unequal_shapes(loss):
    with pytest.raises(ValueError, match=r"same shape, got \[2, 40\] and \[2, 39\]"):
        loss(estimate=torch.zeros(2, 40), target=torch.zeros(2, 39))


def test_refuses_unequal_times_of_pairs(loss):
    with pytest.raises(ValueError, match="same batch and time"):
        loss.pairwise(estimate=torch.zeros(1, 2, 40), target=torch.zeros(1, 2, 39))


def test_fixes_the_scale_and_the_sign_of_an_estimate_when_it_says_so(loss):
    estimate, target = signals(50), signals(50, seed=1)
    costs = [loss(estimate=gain * estimate, target=target).item() for gain in (1.0, -1.0, 3.0)]
    assert loss.fixes_scale == (costs[1:] != pytest.approx(costs[:1] * 2))
    assert loss.on_waveforms
    decibels = contracts.target("loss", "mse") is not type(loss)
    assert loss.unit == ("dB" if decibels else "squared amplitude")


def test_scores_silence_when_it_says_so(loss):
    silence, noise = torch.zeros(50).double(), signals(50)
    quiet, loud = (
        loss(estimate=level * noise, target=silence, mixture=signals(50, seed=1))
        for level in (0.1, 1.0)
    )
    assert loss.handles_silence == bool(loud > quiet + 1e-3)


def test_the_entry_names_every_setting():
    for name in contracts.entries("loss"):
        named = set(contracts.arguments("loss", name)) - {"_target_"}
        settings = contracts.settings_of(contracts.target("loss", name))
        assert named == settings - {"embed", "classes"}, name  # those the task fills in


def test_the_entry_says_what_the_class_does_when_nothing_is_said():
    for name in contracts.entries("loss"):
        taken = contracts.settings_of(contracts.target("loss", name)) & {"embed", "classes"}
        filled = dict.fromkeys(taken, 3)
        assert contracts.unlike_the_class("loss", name, **filled) == {}, name


def test_si_sdr_loss_is_minus_the_ratio():
    s, e = torch.tensor([3, -0.5, 2, 7]).double(), torch.tensor([2.5, 0, 2, 8]).double()
    assert SiSdr()(estimate=e, target=s).item() == pytest.approx(-18.40299, abs=1e-5)
    assert SiSnr()(estimate=e, target=s).item() == pytest.approx(-15.09176, abs=1e-5)


def test_mse_of_the_zero_predictor_is_the_variance():
    target = signals(3, 1000)
    target = target - target.mean(-1, keepdim=True)
    torch.testing.assert_close(
        Mse()(estimate=torch.zeros_like(target), target=target), target.var(-1, correction=0)
    )


def test_mse_is_the_mean_of_the_squared_errors_of_each_signal():
    estimate = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 0.5, 0.5]])
    target = torch.tensor([[1.0, 0.0, 3.0, 1.0], [0.5, 0.5, 0.5, -0.5]])
    assert Mse()(estimate=estimate, target=target).tolist() == [13 / 4, 1 / 4]


def test_perfect_estimate_costs_minus_the_ceiling():
    target = signals(100)
    loss = ThresholdedSnr(max_snr_db=30)
    assert loss(estimate=target, target=target).item() == pytest.approx(-30.0, abs=1e-9)


def test_thresholded_snr_worked_by_hand():
    target = torch.tensor([2.0, 0, 0, 0]).double()
    estimate = torch.tensor([2.0, 0.2, 0, 0]).double()
    value = ThresholdedSnr(max_snr_db=30)(estimate=estimate, target=target)
    assert value.item() == pytest.approx(-19.5861, abs=1e-4)


def test_silent_target_is_measured_against_the_mixture():
    estimate, mixture = signals(100), signals(100, seed=1)
    value = ThresholdedSnr()(estimate=estimate, target=torch.zeros(100), mixture=mixture)
    energy = mixture.square().sum()
    expected = 10 * math.log10(((estimate.square().sum() + 0.01 * energy) / energy).item())
    assert value.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("rms", "silent"), [(0.9e-8, True), (1.1e-8, False)])
def test_a_target_up_to_an_rms_of_1e_8_is_silence(rms, silent):
    target = torch.full((100,), rms).double()
    estimate, mixture = 2 * target, signals(100, seed=1)
    energy = mixture.square().sum().item() if silent else 100 * rms**2
    expected = 10 * math.log10(100 * rms**2 / energy + (1e-2 if silent else 1e-3))
    value = ThresholdedSnr()(estimate=estimate, target=target, mixture=mixture)
    assert value.item() == pytest.approx(expected, abs=1e-6)
    table = ThresholdedSnr().pairwise(
        estimate=estimate[None, None], target=target[None, None], mixture=mixture[None]
    )
    assert table.item() == pytest.approx(expected, abs=1e-6)


def test_perfect_silence_costs_minus_the_other_ceiling():
    value = ThresholdedSnr()(
        estimate=torch.zeros(9), target=torch.zeros(9), mixture=signals(9).float()
    )
    assert value.item() == pytest.approx(-20.0, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.floats(-80, 60))
def test_thresholded_snr_does_not_depend_on_the_level(gain_db):
    gain = 10 ** (gain_db / 20)
    estimate, target = signals(64), signals(64, seed=1)
    loss = ThresholdedSnr()
    torch.testing.assert_close(
        loss(estimate=gain * estimate, target=gain * target), loss(estimate=estimate, target=target)
    )


def test_ceilings_of_stacked_runs():
    losses = [ThresholdedSnr(max_snr_db=torch.tensor(one)) for one in (10.0, 30.0)]
    target = signals(2, 50)
    values = vmap(
        lambda p, b, t: functional_call(losses[0], (p, b), (), {"estimate": t, "target": t})
    )(*stack_module_state(losses), target)
    assert values.tolist() == pytest.approx([-10.0, -30.0], abs=1e-5)


def test_refuses_a_ceiling_that_is_no_number():
    with pytest.raises(ConfigError, match="max_snr_db = 'high': a finite number is needed"):
        ThresholdedSnr(max_snr_db="high")


@pytest.mark.parametrize("family", [SiSdr, SiSnr])
def test_a_silent_target_has_no_say_in_the_permutation(family):
    target = signals(1, 3, 200)
    target[:, 1] = 0
    estimate = target[:, [2, 1, 0]] + 0.1 * signals(1, 3, 200, seed=1)
    table = family().pairwise(estimate=estimate, target=target)
    assert table[0, :, 1].unique().numel() == 1
    _, order = best_permutation(table)
    assert order[0, [0, 2]].tolist() == [2, 0]
