import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.functional import logistic_mixture, mu_law

VALUES = [-1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mu_law_codes(dtype):
    codes = mu_law.encode(torch.tensor(VALUES, dtype=dtype))
    assert codes.tolist() == [0, 16, 98, 128, 157, 239, 255]


def test_silence_does_not_survive_mu_law_exactly():
    value = mu_law.decode(torch.tensor(128), dtype=torch.float64)
    assert value.item() == pytest.approx(8.621e-5, rel=1e-3)


def test_mu_law_value_of_a_level():
    value = mu_law.decode(torch.tensor(239), dtype=torch.float64)
    assert value.item() == pytest.approx(0.496677, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 16, 256, 65536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_mu_law_level_survives_a_round_trip(levels, dtype):
    every = torch.arange(levels)
    values = mu_law.decode(every, levels=levels, dtype=dtype)
    assert torch.equal(mu_law.encode(values, levels=levels), every)


def test_largest_round_trip_error_of_mu_law():
    values = torch.linspace(-1, 1, 400_001, dtype=torch.float64)
    error = (mu_law.decode(mu_law.encode(values), dtype=torch.float64) - values).abs()
    assert error.max().item() == pytest.approx(0.0216, abs=1e-4)
    assert values[error.argmax()].abs().item() == pytest.approx(0.9784, abs=1e-4)


def test_values_beyond_full_scale_are_clipped():
    assert mu_law.encode(torch.tensor([-3.0, 1.2])).tolist() == [0, 255]
    assert logistic_mixture.level_of(torch.tensor([-3.0, 1.2]), levels=256).tolist() == [0, 255]


@settings(deadline=None, max_examples=30)
@given(st.floats(-1, 1))
def test_mu_law_agrees_with_numpy(value):
    companded = np.sign(value) * np.log1p(255 * abs(value)) / np.log(256)
    expected = int(np.floor((companded + 1) / 2 * 255 + 0.5))
    assert mu_law.encode(torch.tensor(value, dtype=torch.float64)).item() == expected


@pytest.mark.parametrize("levels", [2, 256, 65536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_linear_level_survives_a_round_trip(levels, dtype):
    every = torch.arange(levels)
    values = logistic_mixture.value_of(every, levels=levels, dtype=dtype)
    assert torch.equal(logistic_mixture.level_of(values, levels=levels), every)
