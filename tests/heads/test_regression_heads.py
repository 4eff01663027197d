import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.heads.clip_at_eval import ClipAtEval
from lightning_sep.heads.cosine import Cosine
from lightning_sep.heads.hard_clip import HardClip
from lightning_sep.heads.sine import Sine
from lightning_sep.heads.straight_through_clip import StraightThroughClip
from lightning_sep.heads.tanh import Tanh
from lightning_sep.heads.tanh_cross_entropy import TanhCrossEntropy

BOUNDED = [Tanh, HardClip, StraightThroughClip, Sine, Cosine, TanhCrossEntropy]


def point(value, dtype=torch.float64):
    return torch.tensor([value], dtype=dtype, requires_grad=True)


def loss_and_gradient(head, a, t):
    """Squared error, or the head's own loss, of one sample."""
    raw, target = point(a), torch.tensor(t, dtype=torch.float64)
    loss = head.own_loss(raw, target) if head.brings_loss else (head(raw) - target).square()
    loss.backward()
    return loss.item(), raw.grad.item()


@pytest.mark.parametrize(("a", "slope"), [(1, 0.419974), (3, 0.00986604), (5, 1.815832e-4)])
def test_slope_of_tanh(a, slope):
    raw = point(float(a))
    Tanh()(raw).backward()
    assert raw.grad.item() == pytest.approx(slope, rel=1e-5)


TABLE = [  # a, t, then (loss, gradient) by head
    (1.4, 1.0, ClipAtEval, 0.16, 0.8),
    (1.4, 1.0, HardClip, 0, 0),
    (1.4, 1.0, StraightThroughClip, 0, 0),
    (1.4, 1.0, Tanh, 0.013144, -0.049563),
    (1.4, 1.0, Sine, 0.000212, -0.004946),
    (1.4, 1.0, TanhCrossEntropy, 0.059033, -0.114648),
    (1.4, 0.5, ClipAtEval, 0.81, 1.8),
    (1.4, 0.5, HardClip, 0.25, 0),
    (1.4, 0.5, StraightThroughClip, 0.25, 1.0),
    (1.4, 0.5, Tanh, 0.148496, 0.166589),
    (1.4, 0.5, Sine, 0.235661, 0.165021),
    (1.4, 0.5, TanhCrossEntropy, 0.759033 - 0.562335, 0.385352),
    (-3, 1.0, ClipAtEval, 16, -8),
    (-3, 1.0, HardClip, 4, 0),
    (-3, 1.0, StraightThroughClip, 4, -4),
    (-3, 1.0, Tanh, 3.980243, -0.039367),
    (-3, 1.0, Sine, 1.302155, 2.259400),
    (-3, 1.0, TanhCrossEntropy, 6.002476, -1.995055),
    (0, 1.0, ClipAtEval, 1, -2),
    (0, 1.0, HardClip, 1, -2),
    (0, 1.0, StraightThroughClip, 1, -2),
    (0, 1.0, Tanh, 1, -2),
    (0, 1.0, Sine, 1, -2),
    (0, 1.0, TanhCrossEntropy, 0.693147, -1),
    (0, 1.0, Cosine, 0, 0),
    (0, 0.5, Cosine, 0.25, 0),
    (1.4, 0.5, Cosine, 0.108922, 0.650462),
]


@pytest.mark.parametrize(("a", "t", "head", "loss", "gradient"), TABLE)
def test_loss_and_gradient_of_one_sample(a, t, head, loss, gradient):
    assert loss_and_gradient(head(), float(a), t) == pytest.approx((loss, gradient), abs=6e-7)


@pytest.mark.parametrize("t", [-1.0, -0.4, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("a", [-4.0, 0.3, 2.0])
def test_cross_entropy_has_no_vanishing_factor(a, t):
    _, gradient = loss_and_gradient(TanhCrossEntropy(), a, t)
    assert gradient == pytest.approx(math.tanh(a) - t, abs=1e-12)


@pytest.mark.parametrize("t", [-1.0, -0.999, -0.5, 0.0, 0.01, 0.7, 1.0])
def test_a_perfect_output_costs_nothing_at_any_level(t):
    a = math.atanh(t) if abs(t) < 1 else math.copysign(30.0, t)
    loss, gradient = loss_and_gradient(TanhCrossEntropy(), a, t)
    assert (loss, gradient) == pytest.approx((0.0, 0.0), abs=1e-9)
    if abs(t) < 1:
        assert loss_and_gradient(TanhCrossEntropy(), a + 0.2, t)[0] > 1e-5


def test_tanh_is_exactly_one_in_float32_from_nine_on():
    raw = torch.tensor([[9.02], [8.9]], requires_grad=True)
    value = Tanh()(raw)
    value.sum().backward()
    assert (value == 1).tolist() == [True, False]
    assert (raw.grad == 0).flatten().tolist() == [True, False]


def test_tanh_keeps_its_slope_where_bfloat16_would_lose_it():
    raw = torch.tensor([3.5], dtype=torch.bfloat16, requires_grad=True)
    assert raw.detach().tanh().item() == 1.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Tanh()(raw).backward()
    assert raw.grad.item() == pytest.approx(1 - math.tanh(3.5) ** 2, rel=1e-2)


@pytest.mark.parametrize(
    ("value", "a"), [(0.99, 2.646652), (0.999, 3.800201), (32767 / 32768, 5.545170)]
)
def test_raw_value_that_tanh_needs_near_full_scale(value, a):
    decoded = Tanh().decode(torch.tensor([a], dtype=torch.float64))
    assert decoded.item() == pytest.approx(value, abs=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e6, 1e6), st.floats(-1, 1))
def test_clipping_at_evaluation_never_raises_an_error(a, t):
    clipped = ClipAtEval().decode(torch.tensor([a], dtype=torch.float64)).item()
    assert abs(clipped - t) <= abs(a - t)


def descend(head, steps=2000, rate=0.1):
    raw, target = point(0.3), torch.ones((), dtype=torch.float64)
    for _ in range(steps):
        loss = head.own_loss(raw, target) if head.brings_loss else (head(raw) - 1).square()
        (gradient,) = torch.autograd.grad(loss.sum(), raw)
        raw = (raw - rate * gradient).detach().requires_grad_()
    return raw.item()


@pytest.mark.parametrize(
    ("head", "a", "y"),
    [
        (Tanh, 2.351, 0.9820),
        (TanhCrossEntropy, 3.340, 0.9975),
        (ClipAtEval, 1.0, 1.0),
        (Sine, 1.5208, 0.99875),
    ],
)
def test_where_descent_to_full_scale_has_come_after_2000_steps(head, a, y):
    raw = descend(head())
    assert raw == pytest.approx(a, abs=6e-4)
    assert head().decode(torch.tensor([raw])).item() == pytest.approx(y, abs=6e-5)


@pytest.mark.parametrize("head", [*BOUNDED, ClipAtEval])
def test_output_in_evaluation_mode_is_bounded(head):
    raw = torch.linspace(-50, 50, 1001).unsqueeze(-1)
    assert head().eval()(raw).abs().max() <= 1


def test_clip_at_eval_is_not_clipped_in_training():
    raw = torch.tensor([[1.4], [-7.0]])
    assert torch.equal(ClipAtEval().train()(raw), raw.squeeze(-1))


def test_clip_at_eval_decodes_clipped_in_training():
    raw = torch.tensor([[1.4], [-7.0]])
    assert ClipAtEval().train().decode(raw).tolist() == [1.0, -1.0]


def test_clip_at_eval_lets_the_loss_pull_an_overshoot_back():
    _, gradient = loss_and_gradient(ClipAtEval(), 1.4, 1.0)
    assert gradient == pytest.approx(2 * 0.4)


@settings(deadline=None, max_examples=30)
@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_straight_through_clip_is_exactly_the_clipped_value(a):
    value = StraightThroughClip()(torch.tensor([a]))
    assert value.item() == max(-1.0, min(1.0, a))


def test_straight_through_clip_has_slope_one_everywhere():
    raw = torch.tensor([[-9.0], [0.2], [9.0]], requires_grad=True)
    StraightThroughClip()(raw).sum().backward()
    assert raw.grad.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize(("head", "a"), [(Sine, math.pi / 2), (Sine, -math.pi / 2), (Cosine, 0.0)])
def test_flat_points_lie_at_full_scale(head, a):
    raw = point(a)
    value = head()(raw)
    value.backward()
    assert abs(value.item()) == 1.0
    assert raw.grad.item() == pytest.approx(0.0, abs=1e-15)
