import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.heads.base import EmbeddingHead
from lightning_sep.heads.prelu import PReLU
from lightning_sep.heads.softmax import Softmax
from lightning_sep.heads.softplus import Softplus
from lightning_sep.heads.unit_sphere import UnitSphere
from lightning_sep.losses.kl_hinge import KlHinge
from tests import contracts

NAMES = contracts.entries_of("head", EmbeddingHead)


@pytest.fixture(params=NAMES)
def head(request):
    return contracts.build("head", request.param)


@pytest.fixture(params=[name for name in NAMES if contracts.target("head", name).is_distribution])
def distribution_head(request):
    return contracts.build("head", request.param)


def rows(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_divergence_of_a_row_from_itself_is_zero(head):
    torch.testing.assert_close(
        head.divergence(rows(5, 7)).diagonal(),
        torch.zeros(5, dtype=torch.float64),
        atol=1e-12,
        rtol=0,
    )


def test_distributions_sum_to_one(distribution_head):
    head = distribution_head
    raw = torch.cat([rows(6, 9), 100 * rows(2, 9), torch.full((1, 9), -80.0).double()])
    torch.testing.assert_close(head.decode(raw).sum(-1), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(head(raw).exp(), head.decode(raw))


def test_divergence_of_distributions_is_not_negative(distribution_head):
    head = distribution_head
    assert head.divergence(3 * rows(12, 9)).min() > -1e-12


def test_decodes_extreme_values_to_finite_numbers(head):
    raw = torch.tensor([[1e30, -1e30, 0.0], [-1e30, -1e30, -1e30], [torch.inf, 1.0, -torch.inf]])
    assert head.decode(raw).isfinite().all()


def test_divergence_matches_pairs_taken_one_by_one(head):
    raw = rows(5, 7)
    table = head.divergence(raw)
    for i in range(5):
        for j in range(5):
            pair = head.divergence(raw[[i, j]])
            assert table[i, j].item() == pytest.approx(pair[0, 1].item(), abs=1e-12)


def test_gradient_is_the_derivative(head):
    raw = (0.5 + rows(4, 5).abs() * 0.1).requires_grad_()
    assert torch.autograd.gradcheck(head, raw)
    assert torch.autograd.gradcheck(head.divergence, raw)


def test_stays_in_float32_under_autocast(head):
    raw = rows(4, 6, dtype=torch.float32).bfloat16()
    plain = [head(raw.float()), head.decode(raw.float()), head.divergence(raw.float())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [head(raw), head.decode(raw), head.divergence(raw)]
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_can_be_stacked(head):
    raw = rows(3, 4, 5)
    divergence = torch.stack([head.divergence(one) for one in raw])
    torch.testing.assert_close(vmap(head)(raw.float()), head(raw.float()))
    torch.testing.assert_close(vmap(head.divergence)(raw), divergence)


@pytest.mark.parametrize("name", ["softmax", "softplus"])
def test_runs_that_differ_in_temperature_can_be_stacked(name):
    heads = [contracts.build("head", name, temperature=torch.tensor(t)) for t in (0.5, 2.0)]
    raw = rows(2, 4, 5)
    stacked = vmap(lambda p, b, x: functional_call(heads[0], (p, b), (x,)))(
        *stack_module_state(heads), raw
    )
    singles = [contracts.build("head", name, temperature=t) for t in (0.5, 2.0)]
    torch.testing.assert_close(
        stacked, torch.stack([h(x) for h, x in zip(singles, raw, strict=True)])
    )


def test_a_row_that_is_nan_leaves_the_other_pairs_and_gradients_exact(head):
    raw = rows(4, 5)
    whole = raw[[0, 1, 3]].clone().requires_grad_()
    head.divergence(whole).sum().backward()
    broken = raw.clone()
    broken[2, 1] = torch.nan
    broken.requires_grad_()
    table = head.divergence(broken)
    assert table[2].isnan().all()
    assert table[:, 2].isnan().all()
    rest = [0, 1, 3]
    table[rest][:, rest].sum().backward()
    torch.testing.assert_close(broken.grad[rest], whole.grad)
    assert (broken.grad[2] == 0).all()


@pytest.mark.parametrize("size", [2, 5])
def test_parts_of_the_divergence_are_cut_out_of_the_whole(head, size):
    raw = rows(7, size)
    raw[4, 1] = torch.inf
    whole = head.divergence(raw)
    part = head.divergence_parts(raw)
    for one, other in (
        (slice(0, 2), slice(3, 7)),
        (slice(3, 7), slice(0, 2)),
        (slice(7), slice(7)),
    ):
        torch.testing.assert_close(part(one, other), whole[one, other], equal_nan=True)
    assert whole.isnan().sum() == 13  # the row that is not finite, and no other pair


def test_a_head_that_says_nothing_of_parts_gives_them_too():
    class Cities(EmbeddingHead):
        def training_view(self, raw):
            return raw

        def decoded(self, raw):
            return raw

        def pairwise(self, raw):
            return (raw.unsqueeze(-2) - 2 * raw.unsqueeze(-3)).abs().sum(-1)

    raw = rows(7, 3)
    part = Cities().divergence_parts(raw)(slice(1, 3), slice(2, 7))
    expected = [[float((raw[i] - 2 * raw[j]).abs().sum()) for j in range(2, 7)] for i in (1, 2)]
    torch.testing.assert_close(part, torch.tensor(expected, dtype=torch.float64))


def test_temperature_divides_the_raw_values():
    raw = rows(3, 5)
    for head in (Softmax, Softplus):
        sharp, plain = head(temperature=0.5), head()
        torch.testing.assert_close(sharp(raw), plain(2 * raw))
        torch.testing.assert_close(sharp.decode(raw), plain.decode(2 * raw))
        torch.testing.assert_close(sharp.divergence(raw), plain.divergence(2 * raw))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-60, 60), min_size=3, max_size=3))
def test_softplus_is_softplus_over_its_sum(values):
    expected = [math.log1p(math.exp(-abs(v))) + max(v, 0.0) for v in values]
    expected = [one / sum(expected) for one in expected]
    decoded = Softplus().decode(torch.tensor([values], dtype=torch.float64))[0]
    assert decoded.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_softplus_decodes_the_largest_numbers_at_a_low_temperature():
    most = torch.finfo(torch.float32).max
    decoded = Softplus(temperature=0.01).decode(torch.tensor([[most, 0.0], [-most, most]]))
    torch.testing.assert_close(decoded, torch.eye(2), rtol=0, atol=1e-6)


def test_sphere_divergence_is_two_minus_two_cosines():
    raw = rows(4, 6)
    cosine = torch.nn.functional.cosine_similarity(raw[:, None], raw[None], dim=-1)
    torch.testing.assert_close(UnitSphere().divergence(raw), 2 - 2 * cosine)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_sphere_rows_have_length_one_at_every_scale(scale):
    length = UnitSphere()(scale * rows(4, 6, dtype=torch.float32)).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones(4))


def test_sphere_keeps_a_zero_row_and_a_finite_gradient():
    raw = torch.zeros(2, 3, requires_grad=True)
    value = UnitSphere()(raw)
    value.sum().backward()
    assert (value == 0).all()
    assert raw.grad.isfinite().all()


def test_prelu_divergence_can_be_negative_and_its_hinge_exceeds_twice_the_margin():
    head = PReLU(highest=10.0)
    divergence = head.divergence(torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]).double())
    assert divergence[0, 1].item() == pytest.approx(-2.367124, abs=1e-6)
    assert divergence[1, 0].item() == pytest.approx(3.753418, abs=1e-6)
    loss = KlHinge(margin=2.0)(divergence=divergence, same=torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(4.367124, abs=1e-6)


@pytest.mark.parametrize(("settings", "lowest"), [({}, 1e-7), ({"lowest": 1e-3}, 1e-3)])
def test_prelu_takes_the_logarithm_of_nothing_below_its_lowest(settings, lowest):
    raw = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    divergence = PReLU(**settings).divergence(raw)
    assert divergence[1, 0].item() == pytest.approx(-math.log(lowest), rel=1e-12)
    assert divergence[0, 1].item() == pytest.approx(lowest * math.log(lowest), rel=1e-9)


def test_prelu_clipping_kills_the_gradient_of_everything_outside():
    raw = torch.tensor([[2.0, -3.0, 1.5], [-2.0, 4.0, 1.1]], requires_grad=True)
    PReLU().divergence(raw).sum().backward()
    assert (raw.grad == 0).all()


def test_prelu_shows_negative_values_times_a_slope_that_is_learnt():
    head = PReLU(slope=0.1)
    raw = torch.tensor([[2.0, -3.0], [-0.5, 0.0]])
    torch.testing.assert_close(head(raw), torch.tensor([[2.0, -0.3], [-0.05, 0.0]]))
    torch.testing.assert_close(head.decode(raw), head(raw))
    head(raw).sum().backward()
    assert [one.grad.item() for one in head.parameters()] == [-3.5]
