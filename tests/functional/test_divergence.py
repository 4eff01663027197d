import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.functional.divergence import (
    hinge_cost,
    kl,
    pairwise_kl,
    pairwise_squared_distance,
)


def log_rows(batch, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    return raw.log_softmax(-1).to(dtype)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0.01, 5))
def test_pairwise_agrees_with_numpy(batch, seed, scale):
    log_p = log_rows(batch, seed, scale=scale).numpy()
    expected = [[np.sum(np.exp(p) * (p - q)) for q in log_p] for p in log_p]
    np.testing.assert_allclose(pairwise_kl(torch.from_numpy(log_p)).numpy(), expected, atol=1e-12)


def test_divergences_of_known_rows():
    """KL(P||Q) = sum P log(P/Q), of rows that sum to 1 and of rows that do not."""
    log_p = torch.tensor([[0.5, 0.5, 1.0], [0.9, 0.1, 1.0], [1.0, 2.0, 3.0]]).double().log()
    log_q = torch.tensor([[0.9, 0.1, 1.0], [0.5, 0.5, 1.0], [2.0, 3.0, 4.0]]).double().log()
    found = kl(log_p=log_p, log_q=log_q)
    np.testing.assert_allclose(found, [0.510826, 0.368064, -2.367124], atol=1e-6)


def test_close_rows_keep_their_divergence_in_float32():
    base = log_rows(1)
    near = torch.cat([base, (base + 1e-2 * log_rows(1, seed=1)).log_softmax(-1)])
    # a divergence of about 1e-5: the product of plain logarithms would be off by a tenth of it
    torch.testing.assert_close(
        pairwise_kl(near.float()).double(), pairwise_kl(near), atol=1e-7, rtol=0
    )


def test_squared_distance_agrees_with_residuals():
    rows = log_rows(5)
    expected = (rows[:, None] - rows[None]).square().sum(-1)
    torch.testing.assert_close(pairwise_squared_distance(rows), expected)


@pytest.mark.parametrize(
    ("divergence", "same", "expected"), [(0.5, True, 0.5), (0.5, False, 1.5), (3.0, False, 0.0)]
)
def test_hinge_cost(divergence, same, expected):
    cost = hinge_cost(divergence=torch.tensor(divergence), same=torch.tensor(same), margin=2.0)
    assert cost.item() == expected
