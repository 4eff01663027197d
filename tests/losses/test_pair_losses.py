import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.errors import ConfigError
from lightning_sep.functional.divergence import kl, pairwise_kl
from lightning_sep.heads.softmax import Softmax
from lightning_sep.losses.base import PairLoss
from lightning_sep.losses.contrastive import Contrastive
from lightning_sep.losses.kl_hinge import KlHinge
from tests import contracts

NAMES = contracts.entries_of("loss", PairLoss)
SAME = torch.ones(2, 2, dtype=torch.bool)
DIFFERENT = torch.eye(2, dtype=torch.bool)


@pytest.fixture(params=NAMES)
def loss(request):
    return contracts.build("loss", request.param)


def table(p, q):
    return pairwise_kl(torch.tensor([p, q], dtype=torch.float64).log())


def divergences(*shape, seed=0):
    raw = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Softmax().divergence(raw)


def labels(*numbers):
    value = torch.tensor(numbers)
    return value[:, None] == value[None]


def test_one_number_per_unordered_pair_row_by_row(loss):
    divergence, same = divergences(4, 5), labels(0, 1, 0, 1)
    value = loss(divergence=divergence, same=same)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for number, (i, j) in enumerate(pairs):
        one = loss(divergence=divergence[[i, j]][:, [i, j]], same=same[[i, j]][:, [i, j]])
        assert value[number].item() == one.item()


def test_order_within_a_pair_does_not_matter(loss):
    divergence, same = divergences(3, 5), labels(0, 1, 0)
    torch.testing.assert_close(
        loss(divergence=divergence.mT, same=same), loss(divergence=divergence, same=same)
    )


def test_single_pairs_cost_what_they_cost_among_others(loss):
    divergence, same = divergences(4, 5), labels(0, 1, 0, 1)
    one, two = torch.triu_indices(4, 4, offset=1)
    single = loss.of_pairs(
        forth=divergence[one, two], back=divergence[two, one], same=same[one, two]
    )
    assert torch.equal(single, loss(divergence=divergence, same=same))


def test_examples_are_all_pairs_of_rows_with_their_kind(loss):
    raw = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    speakers = torch.tensor([7, 2, 7, 9])
    costs = loss.costs(Softmax(), raw, speakers)
    assert costs.rows.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert costs.groups.tolist() == [[0], [1], [0], [0], [0], [0]]
    expected = loss(divergence=Softmax().divergence(raw), same=labels(0, 1, 0, 2))
    torch.testing.assert_close(costs.losses, expected)
    assert loss.group_names(["ann"]) == [("different",), ("same",)]


def test_is_not_negative_for_distributions(loss):
    assert loss(divergence=divergences(9, 4), same=labels(*range(3), *range(6))).min() >= 0


def test_gradient_is_the_derivative(loss):
    raw = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw.requires_grad_()
    same = labels(0, 1, 0, 1)
    assert torch.autograd.gradcheck(
        lambda one: loss(divergence=Softmax().divergence(one), same=same), raw
    )


def test_identical_rows_have_a_finite_gradient(loss):
    raw = torch.ones(3, 5, requires_grad=True)
    loss(divergence=Softmax().divergence(raw), same=labels(0, 0, 1)).sum().backward()
    assert raw.grad.isfinite().all()


def test_stays_in_float32_under_autocast(loss):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(divergence=divergences(3, 4).bfloat16(), same=labels(0, 0, 1))
    assert value.dtype == torch.float32


def test_can_be_stacked(loss):
    tables = torch.stack([divergences(4, 5), divergences(4, 5, seed=1)])
    same = labels(0, 1, 0, 1)
    stacked = vmap(lambda one: loss(divergence=one, same=same))(tables)
    single = torch.stack([loss(divergence=one, same=same) for one in tables])
    torch.testing.assert_close(stacked, single)


def test_margins_of_stacked_runs(loss):
    family = type(loss)
    runs = [family(margin=torch.tensor(one)) for one in (0.5, 3.0)]
    inputs = {"divergence": divergences(4, 5), "same": labels(0, 1, 0, 1)}
    stacked = vmap(lambda p, b: functional_call(runs[0], (p, b), (), inputs))(
        *stack_module_state(runs)
    )
    torch.testing.assert_close(
        stacked, torch.stack([family(margin=one)(**inputs) for one in (0.5, 3.0)])
    )


@pytest.mark.parametrize("margin", [0, -1.0, torch.tensor([1.0, 0.0])])
def test_refuses_a_margin_that_is_not_positive(loss, margin):
    with pytest.raises(ConfigError, match=r"margin = .*: a finite number above 0 .*at 0 and below"):
        type(loss)(margin=margin)


def test_refuses_shapes_that_do_not_fit(loss):
    with pytest.raises(ValueError, match=r"one shape \[batch, batch\]"):
        loss(divergence=torch.zeros(3, 3), same=SAME)
    with pytest.raises(ValueError, match=r"one shape \[batch, batch\]"):
        loss(divergence=torch.zeros(2, 3), same=torch.ones(2, 3, dtype=torch.bool))


PAIRS = [
    ((0.7, 0.2, 0.1), (0.1, 0.2, 0.7), 1.167546, 1.167546),
    ((0.5, 0.5), (0.9, 0.1), 0.510826, 0.368064),
    ((0.98, 0.01, 0.01), (0.01, 0.01, 0.98), 4.447418, 4.447418),
    ((1.0, 2.0, 3.0), (2.0, 3.0, 4.0), -2.367124, 3.753418),
]


@pytest.mark.parametrize(("p", "q", "forth", "back"), PAIRS)
def test_divergence_of_known_pairs(p, q, forth, back):
    value = table(p, q)
    assert (value[0, 1].item(), value[1, 0].item()) == pytest.approx((forth, back), abs=1e-6)


@pytest.mark.parametrize(
    ("pair", "margin", "same", "expected"),
    [
        (0, 2.0, True, 2.335092),
        (0, 2.0, False, 1.664908),
        (0, 3.0, False, 3.664908),
        (0, 1.0, False, 0.0),
        (1, 2.0, True, 0.878890),
        (1, 2.0, False, 3.121110),
        (1, 3.0, False, 5.121110),
        (1, 1.0, False, 1.121110),
        (2, 2.0, True, 8.894837),
        (2, 1.0, False, 0.0),
        (2, 2.0, False, 0.0),
        (2, 3.0, False, 0.0),
        (2, 4.0, False, 0.0),
        (3, 2.0, True, 1.386294),
        (3, 2.0, False, 4.367124),
    ],
)
def test_pair_loss_of_known_pairs(pair, margin, same, expected):
    p, q, *_ = PAIRS[pair]
    value = KlHinge(margin=margin)(divergence=table(p, q), same=SAME if same else DIFFERENT)
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("margin", "start"), [(2.0, 4.0), (3.0, 6.0)])
def test_uniform_outputs_cost_twice_the_margin_between_speakers(margin, start):
    divergence = Softmax().divergence(torch.zeros(4, 100, dtype=torch.float64))
    value = KlHinge(margin=margin)(divergence=divergence, same=labels(0, 0, 1, 2))
    assert value.tolist() == pytest.approx([0.0] + [start] * 5, abs=1e-12)


@pytest.mark.parametrize(("margin", "start"), [(2.0, 4.0), (3.0, 6.0)])
def test_a_fresh_batch_of_100_speakers_starts_near_twice_the_margin(margin, start):
    raw = 0.1 * torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    value = KlHinge(margin=margin)(
        divergence=Softmax().divergence(raw), same=torch.eye(100, dtype=torch.bool)
    )
    assert value.shape == (4950,)
    assert value.mean().item() == pytest.approx(start, abs=0.1)


def test_gradients_of_the_divergence():
    one = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    two = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = kl(log_p=one.log_softmax(-1), log_q=two.log_softmax(-1))
    value.backward()
    assert value.item() == pytest.approx(0.266217, abs=1e-6)
    assert two.grad.tolist() == pytest.approx([-0.331908, 0.088605, 0.243303], abs=1e-6)
    assert one.grad.tolist() == pytest.approx([0.282587, -0.140770, -0.141817], abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_both_directions_together_are_not_negative_even_for_unnormalised_rows(p, q):
    value = table(p, q)
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert (value[0, 1] + value[1, 0]).item() == pytest.approx(expected, abs=1e-9)
    assert expected >= 0


def test_contrastive_worked_by_hand():
    divergence = torch.tensor([[0.0, 0.10], [0.22, 0.0]], dtype=torch.float64)
    assert Contrastive(margin=1.0)(divergence=divergence, same=SAME).item() == pytest.approx(0.16)
    different = Contrastive(margin=1.0)(divergence=divergence, same=DIFFERENT)
    assert different.item() == pytest.approx(0.36)


def test_contrastive_is_zero_beyond_the_margin():
    divergence = torch.tensor([[0.0, 1.21], [1.21, 0.0]])
    assert Contrastive(margin=1.0)(divergence=divergence, same=DIFFERENT).item() == 0.0


def test_different_speakers_at_one_spot_cost_the_whole_margin_squared():
    value = Contrastive(margin=1.5)(divergence=torch.zeros(2, 2).double(), same=DIFFERENT)
    assert value.item() == pytest.approx(2.25)
