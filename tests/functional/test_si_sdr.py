import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    scale_invariant_signal_noise_ratio,
)

from lightning_sep.functional.si_sdr import pairwise_si_sdr, si_sdr, snr


def signals(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow(estimate, target):
    """The definition, in numpy, one signal at a time."""
    e, s = estimate.numpy(), target.numpy()
    aligned = (e @ s) / (s @ s) * s
    return 10 * math.log10((aligned @ aligned) / ((aligned - e) @ (aligned - e)))


HAND = [
    ((2.5, 0, 2, 8), (3, -0.5, 2, 7), 18.40299, 15.09176, 16.18048),
    ((1, -1, 1, 0), (1, -1, 1, -1), 4.77121, 6.53213, 6.02060),
]


@pytest.mark.parametrize(("estimate", "target", "sdr", "sisnr", "plain"), HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_worked_by_hand(estimate, target, sdr, sisnr, plain, dtype):
    pair = {
        "estimate": torch.tensor(estimate, dtype=dtype),
        "target": torch.tensor(target, dtype=dtype),
    }
    assert si_sdr(**pair).item() == pytest.approx(sdr, abs=2e-5)
    assert si_sdr(**pair, zero_mean=True).item() == pytest.approx(sisnr, abs=2e-5)
    assert snr(**pair).item() == pytest.approx(plain, abs=2e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.001, 30), st.floats(-80, 60))
def test_agrees_with_the_definition(seed, share, level_db):
    target = signals(64, seed=seed) * 10 ** (level_db / 20)
    estimate = target + share * 10 ** (level_db / 20) * signals(64, seed=seed + 1)
    expected = slow(estimate, target)
    floor = 10 * torch.finfo(torch.float64).eps * 10 ** (-expected / 10)  # that keeps it finite
    near = pytest.approx(expected, abs=1e-8 + floor)
    assert si_sdr(estimate=estimate, target=target).item() == near


@pytest.mark.parametrize("share", [0.01, 0.3, 3.0])
def test_agrees_with_torchmetrics(share):
    target = signals(3, 4000)
    estimate = target + share * signals(3, 4000, seed=1) + 0.1
    torch.testing.assert_close(
        si_sdr(estimate=estimate, target=target),
        scale_invariant_signal_distortion_ratio(estimate, target),
    )
    torch.testing.assert_close(
        si_sdr(estimate=estimate, target=target, zero_mean=True),
        scale_invariant_signal_noise_ratio(estimate, target),
    )


def orthogonal_noise(target, ratio):
    noise = signals(*target.shape, seed=5)
    noise = noise - (noise @ target) / (target @ target) * target
    return noise * (ratio * target.square().sum() / noise.square().sum()).sqrt()


def test_orthogonal_noise_of_a_tenth_of_the_energy_is_ten_decibels():
    target = signals(100)
    estimate = target + orthogonal_noise(target, 0.1)
    assert si_sdr(estimate=estimate, target=target).item() == pytest.approx(10, abs=1e-9)
    assert snr(estimate=estimate, target=target).item() == pytest.approx(10, abs=1e-9)


def test_half_the_volume_costs_snr_but_no_si_sdr():
    target = signals(100, dtype=torch.float32)
    assert snr(estimate=0.5 * target, target=target).item() == pytest.approx(6.0206, abs=1e-4)
    assert si_sdr(estimate=0.5 * target, target=target).item() == pytest.approx(69.24, abs=0.01)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([0.1, -1.0, 7.0, 1e-6, 1e6]), st.floats(0.01, 10))
def test_volume_and_sign_of_the_estimate_do_not_matter(gain, share):
    target = signals(80)
    estimate = target + share * signals(80, seed=1)
    torch.testing.assert_close(
        si_sdr(estimate=gain * estimate, target=target), si_sdr(estimate=estimate, target=target)
    )


@pytest.mark.parametrize("level", [1.0, 1e-2, 1e-4, 1e-12, 1e12])
def test_level_does_not_matter_in_float32(level):
    target = signals(100)
    estimate = target + orthogonal_noise(target, 0.01)
    scaled = {"estimate": (level * estimate).float(), "target": (level * target).float()}
    assert si_sdr(**scaled).item() == pytest.approx(20.0, abs=1e-3)
    assert snr(**scaled).item() == pytest.approx(20.0, abs=1e-3)


@pytest.mark.parametrize("zero_mean", [False, True])
@pytest.mark.parametrize("quiet", ["estimate", "target", "both"])
def test_silence_gives_the_lowest_value_and_a_finite_gradient(quiet, zero_mean):
    pair = {
        "estimate": signals(50, dtype=torch.float32),
        "target": signals(50, seed=1, dtype=torch.float32),
    }
    for name in ("estimate", "target") if quiet == "both" else (quiet,):
        pair[name] = torch.zeros(50)
    pair["estimate"].requires_grad_()
    value = si_sdr(**pair, zero_mean=zero_mean)
    value.backward()
    assert value.item() == pytest.approx(-69.24, abs=0.01)
    assert pair["estimate"].grad.isfinite().all()


def test_a_constant_is_silence_without_its_mean():
    constant = torch.full((16000,), 0.1)
    value = si_sdr(estimate=signals(16000, dtype=torch.float32), target=constant, zero_mean=True)
    assert value.item() == pytest.approx(-69.24, abs=0.01)


@pytest.mark.parametrize("quiet", ["estimate", "target", "both"])
def test_snr_of_silence_is_finite(quiet):
    pair = {"estimate": signals(50), "target": signals(50, seed=1)}
    for name in ("estimate", "target") if quiet == "both" else (quiet,):
        pair[name] = torch.zeros(50, dtype=torch.float64)
    assert snr(**pair).isfinite()


def test_gradient_is_the_derivative():
    estimate, target = signals(2, 12).requires_grad_(), signals(2, 12, seed=1)
    for zero_mean in (False, True):
        assert torch.autograd.gradcheck(
            lambda one, flag=zero_mean: si_sdr(estimate=one, target=target, zero_mean=flag),
            estimate,
        )
    assert torch.autograd.gradcheck(lambda one: snr(estimate=one, target=target), estimate)


def test_half_precision_is_computed_in_float32():
    target = signals(8000, dtype=torch.float32).bfloat16()
    noise = 0.1 * signals(8000, seed=1, dtype=torch.float32)
    estimate = (30 * (target + noise)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = si_sdr(estimate=estimate, target=target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow(estimate.double(), target.double()), abs=1e-3)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_pairwise_agrees_with_residuals(zero_mean):
    estimate, target = signals(2, 3, 60), signals(2, 2, 60, seed=1)
    table = pairwise_si_sdr(estimate=estimate, target=target, zero_mean=zero_mean)
    for i in range(3):
        for j in range(2):
            one = si_sdr(estimate=estimate[:, i], target=target[:, j], zero_mean=zero_mean)
            torch.testing.assert_close(table[:, i, j], one)


@pytest.mark.parametrize("decibels", [10, 30, 50])
def test_pairwise_of_float32_signals_does_not_cancel(decibels):
    target = signals(16000)
    estimate = (target + orthogonal_noise(target, 10 ** (-decibels / 10))).float()
    value = pairwise_si_sdr(estimate=estimate[None], target=target.float()[None])
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(decibels, abs=1e-3)


def test_refuses_unequal_shapes():
    message = r"estimate and target need the same shape, got \[4, 2, 160\] and \[4, 2, 159\]"
    with pytest.raises(ValueError, match=message):
        si_sdr(estimate=torch.zeros(4, 2, 160), target=torch.zeros(4, 2, 159))


RATE = 2000


def museval_sdr(reference, estimate):
    """SDR of each window of one second, ``[source, window]``."""
    # The file alone: the package itself asks for ffmpeg when it is imported.
    package = Path(importlib.util.find_spec("museval").origin).parent
    spec = importlib.util.spec_from_file_location("museval_metrics", package / "metrics.py")
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    sdr, *_ = metrics.bss_eval(
        reference.numpy()[..., None], estimate.numpy()[..., None], window=RATE, hop=RATE
    )
    return sdr


def test_sdr_of_a_museval_window_is_its_plain_snr():
    reference = signals(2, 2 * RATE)
    estimate = reference + 0.3 * signals(2, 2 * RATE, seed=1)
    windows = snr(
        estimate=estimate.unflatten(-1, (2, RATE)), target=reference.unflatten(-1, (2, RATE))
    )
    np.testing.assert_allclose(museval_sdr(reference, estimate), windows.numpy(), atol=1e-9)


def test_a_silent_reference_window_is_nan_for_all_sources_in_museval():
    reference = signals(2, 2 * RATE)
    reference[0, :RATE] = 0
    estimate = signals(2, 2 * RATE, seed=1)
    assert np.isnan(museval_sdr(reference, estimate)).tolist() == [[True, False], [True, False]]
