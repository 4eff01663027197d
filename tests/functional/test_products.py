import pytest
import torch

from lightning_sep.functional.permutation import best_permutation
from lightning_sep.functional.products import inner_products, sums_in_float64
from lightning_sep.functional.si_sdr import pairwise_si_sdr
from lightning_sep.losses.thresholded_snr import ThresholdedSnr


def signals(*shape, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    target = torch.randn(*shape, generator=draw, dtype=torch.float64)
    noise = torch.randn(*shape, generator=draw, dtype=torch.float64)
    return (target + 0.5 * noise).to(dtype), target.to(dtype)


def test_products_and_energies_are_those_of_float64():
    estimate, target = signals(3, 2, 4000)
    products, whole, reference = inner_products(estimate, target[:, :1])
    long, wide = estimate.double(), target[:, :1].double()
    torch.testing.assert_close(products, torch.einsum("bet,bst->bes", long, wide))
    torch.testing.assert_close(whole, long.square().sum(-1))
    torch.testing.assert_close(reference, wide.square().sum(-1))
    assert products.dtype == whole.dtype == reference.dtype == torch.float64


def test_the_gradient_is_that_of_the_products():
    estimate, target = (one.requires_grad_() for one in signals(2, 3, 50))
    weights = [torch.randn(*one.shape) for one in inner_products(estimate, target)]

    def total(products):
        return sum((w * one).sum() for w, one in zip(weights, products, strict=True))

    found = torch.autograd.grad(total(inner_products(estimate, target)), (estimate, target))
    plain = (
        estimate @ target.mT,
        estimate.square().sum(-1),
        target.square().sum(-1),
    )
    expected = torch.autograd.grad(total(plain), (estimate, target))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def by_cosines(estimate, target):
    """SI-SDR from the squared cosines, in the signals' own precision, with float32's epsilon."""
    eps = torch.finfo(torch.float32).eps
    energies = estimate.square().sum(-1)[..., None] * target.square().sum(-1)[..., None, :]
    share = (estimate @ target.mT).square() / energies
    return 10 * ((share + eps).log10() - (1 - share).clamp(min=eps).log10())


@pytest.mark.parametrize("shape", [(0, 2, 100), (7, 2, 40_000), (2, 3, 2, 500), (2, 0)])
def test_batches_of_any_size_and_shape(shape):
    estimate, target = signals(*shape)
    products, whole, _ = inner_products(estimate, target)
    torch.testing.assert_close(products, estimate.double() @ target.double().mT)
    torch.testing.assert_close(whole, estimate.double().square().sum(-1))


@pytest.mark.parametrize("level", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_si_sdr_of_float32_is_that_of_float64_at_every_level(level):
    estimate, target = signals(4, 3, 2000)
    estimate = (level * estimate).requires_grad_()
    assert sums_in_float64(estimate)
    found = pairwise_si_sdr(estimate=estimate, target=target)
    long = estimate.detach().double().requires_grad_()
    assert not sums_in_float64(long)
    expected = by_cosines(long, target.double())
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-5)
    losses = [-best_permutation(-one)[0].mean() for one in (found, expected)]
    one, other = torch.autograd.grad(losses[0], estimate), torch.autograd.grad(losses[1], long)
    assert one[0].isfinite().all()
    if not 1e-15 < level < 1e15:  # no recording's: the coefficients leave float32
        return
    torch.testing.assert_close(level * one[0].double(), level * other[0], rtol=1e-4, atol=1e-7)


def test_silence_has_the_lowest_value_and_no_gradient():
    estimate, target = signals(2, 2, 100)
    estimate[0, 0], target[1, 1] = 0, 0
    estimate.requires_grad_()
    found = pairwise_si_sdr(estimate=estimate, target=target)
    expected = by_cosines(estimate.detach().double(), target.double())
    floor = 10 * torch.log10(torch.tensor(torch.finfo(torch.float32).eps))
    torch.testing.assert_close(found[0, 0], floor.expand(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1, :, 1], floor.expand(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1, :, 0], expected[1, :, 0].float(), rtol=1e-6, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), estimate)
    assert gradient.isfinite().all()
    assert (gradient[0, 0] == 0).all()


@pytest.mark.parametrize("mixed", [True, False])
def test_thresholded_snr_by_products_is_that_of_residuals(mixed):
    loss = ThresholdedSnr()
    estimate, target = signals(3, 2, 500)
    target[0, 1] = 0
    target[1] = 0
    estimate[2] = target[2]  # perfect: the ceiling alone is left
    mixture = target.sum(1) if mixed else None
    given = {"target": target, "mixture": mixture}
    found = loss.pairwise(estimate=estimate.requires_grad_(), **given)
    pairs = torch.stack(
        [
            torch.stack(
                [
                    loss(estimate=estimate[:, e], target=target[:, s], mixture=mixture)
                    for s in range(2)
                ],
                dim=-1,
            )
            for e in range(2)
        ],
        dim=1,
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pairs, rtol=1e-5, atol=1e-5)
    one, other = (torch.autograd.grad(value.sum(), estimate)[0] for value in (found, pairs))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
