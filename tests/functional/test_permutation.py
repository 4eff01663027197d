from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from lightning_sep.functional.permutation import best_permutation, reorder
from lightning_sep.losses.si_sdr import SiSdr


def table(batch, sources, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, sources, sources, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_finds_the_least_sum_of_all_permutations(sources, seed):
    pairwise = table(2, sources, seed)
    losses, order = best_permutation(pairwise)
    for example in range(2):
        costs = pairwise[example].numpy()
        every = [sum(costs[p[j], j] for j in range(sources)) for p in permutations(range(sources))]
        assert losses[example].sum().item() == pytest.approx(np.min(every))
        chosen = [costs[order[example, j], j] for j in range(sources)]
        assert losses[example].tolist() == pytest.approx(chosen)


def test_chooses_for_each_example_by_itself():
    pairwise = torch.tensor([[[0.0, 9.0], [9.0, 0.0]], [[9.0, 0.0], [0.0, 9.0]]])
    _, order = best_permutation(pairwise)
    assert order.tolist() == [[0, 1], [1, 0]]


def test_swapped_estimates_are_found_and_cost_what_unswapped_ones_do():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 2, 400, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(3, 2, 400, generator=generator, dtype=torch.float64)
    loss = SiSdr()
    losses, order = best_permutation(
        loss.pairwise(estimate=(target + noise).flip(1), target=target)
    )
    assert order.tolist() == [[1, 0]] * 3
    torch.testing.assert_close(losses, loss(estimate=target + noise, target=target))


@pytest.mark.parametrize("sources", [2, 4, 6])
def test_reorders_estimates_like_their_targets(sources):
    target = torch.randn(3, sources, 50, generator=torch.Generator().manual_seed(0))
    mixed = torch.stack([one[torch.randperm(sources)] for one in target])
    _, order = best_permutation((mixed[:, :, None] - target[:, None]).square().sum(-1))
    assert torch.equal(reorder(mixed, order), target)


@pytest.mark.parametrize("sources", [2, 4, 6])
def test_gradient_reaches_the_chosen_pairs_alone(sources):
    pairwise = table(2, sources).requires_grad_()
    losses, order = best_permutation(pairwise)
    losses.sum().backward()
    expected = torch.zeros_like(pairwise)
    expected.scatter_(1, order.unsqueeze(1), 1.0)
    torch.testing.assert_close(pairwise.grad, expected)


@pytest.mark.parametrize("sources", [2, 4, 6])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_an_example_that_is_not_finite_leaves_the_others_alone(sources, broken):
    pairwise = table(3, sources)
    expected = best_permutation(pairwise)[1][[0, 2]]
    pairwise[1] = broken
    losses, order = best_permutation(pairwise)
    assert torch.equal(order[[0, 2]], expected)
    assert not losses[1].isfinite().any()
    assert sorted(order[1].tolist()) == list(range(sources))


def test_a_nan_is_avoided_where_another_permutation_exists():
    losses, order = best_permutation(torch.tensor([[[torch.nan, 5.0], [7.0, 1.0]]]))
    assert order.tolist() == [[1, 0]]
    assert losses.tolist() == [[7.0, 5.0]]


@pytest.mark.parametrize("sources", [3, 5])
def test_can_be_stacked_where_all_are_tried(sources):
    pairwise = torch.stack([table(2, sources), table(2, sources, seed=1)])
    losses, order = vmap(best_permutation)(pairwise)
    for number, one in enumerate(pairwise):
        torch.testing.assert_close((losses[number], order[number]), best_permutation(one))


def test_an_empty_batch_stays_empty():
    for sources in (2, 6):
        losses, order = best_permutation(torch.zeros(0, sources, sources))
        assert losses.shape == order.shape == (0, sources)


def test_refuses_unequal_numbers_of_sources():
    with pytest.raises(ValueError, match=r"got \[1, 2, 3\]"):
        best_permutation(torch.zeros(1, 2, 3))
