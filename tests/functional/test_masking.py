import pytest
import torch
from torch import nn

from lightning_sep.functional.masking import finite, shield, weighted_sum


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_loss_left_out_does_not_reach_the_sum(broken):
    losses = torch.tensor([1.0, broken, 3.0])
    total = weighted_sum(losses, torch.tensor([0.5, 0.0, 0.5]), torch.tensor([True, False, True]))
    assert total.item() == 2.0


def test_a_weight_left_out_does_not_reach_the_sum():
    total = weighted_sum(torch.ones(2), torch.tensor([1.0, torch.nan]), torch.tensor([True, False]))
    assert total.item() == 1.0


def test_nothing_left_gives_zero_with_zero_gradient():
    losses = torch.full((3,), torch.nan, requires_grad=True)
    total = weighted_sum(losses, torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    total.backward()
    assert total.item() == 0.0
    assert (losses.grad == 0).all()


def broken_loss(raw):
    """The loss of the second example is NaN, with a NaN slope, though its raw values are fine."""
    factor = torch.tensor([1.0, 0.0, 1.0], dtype=raw.dtype).unsqueeze(-1)
    energy = (factor * raw).square().sum(-1)
    return energy.log() - energy.log()[0] * 0 + torch.where(energy == 0, torch.nan, 0.0)


def gradients(net, inputs, shielded=True):
    net.zero_grad()
    kept = []
    raw = net(inputs)
    if shielded:
        raw = shield(raw, lambda: kept[0])
    losses = broken_loss(raw) if len(inputs) == 3 else raw.square().sum(-1).log()
    mask = losses.detach().isfinite()
    kept.append(mask)
    weights = torch.where(mask, 0.5, 0.0).to(losses.dtype)
    weighted_sum(losses, weights, mask).backward()
    return [one.grad.clone() for one in net.parameters()]


def test_a_nan_loss_leaves_the_gradients_of_the_others_exact():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs = torch.randn(3, 4, dtype=torch.float64)
    with_broken = gradients(net, inputs)
    without = gradients(net, inputs[[0, 2]])
    assert all(one.isfinite().all() for one in with_broken)
    torch.testing.assert_close(with_broken, without)


def test_without_a_shield_the_nan_would_spread():
    torch.manual_seed(0)
    net = nn.Linear(4, 3).double()
    inputs = torch.randn(3, 4, dtype=torch.float64)
    assert gradients(net, inputs, shielded=False)[0].isnan().any()


def test_a_shield_takes_a_tensor_too():
    raw = torch.ones(3, 2, requires_grad=True)
    shielded = shield(raw * 1.0, torch.tensor([True, False, True]))
    shielded.sum().backward()
    assert raw.grad.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_a_shield_leaves_values_without_gradient_alone():
    raw = torch.ones(3, 2)
    assert shield(raw, torch.zeros(3, dtype=torch.bool)) is raw


def test_a_shield_that_drops_nothing_hands_the_gradient_on():
    raw = torch.ones(3, 2, requires_grad=True)
    given = torch.tensor([[1.0, 2.0], [torch.nan, 4.0], [5.0, 6.0]])
    (shield(raw * 1.0, lambda: None) * given).sum().backward()
    torch.testing.assert_close(raw.grad, given, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_is_neither_nan_nor_infinite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    values = [0.0, -0.0, largest, -largest, torch.inf, -torch.inf, torch.nan, -torch.nan]
    assert finite(torch.tensor(values, dtype=dtype)).tolist() == [True] * 4 + [False] * 4
