import pytest
import torch

from lightning_sep.nets.dropout import dropout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_zeroes_the_share_that_was_asked_for() -> None:
    zeroed = (dropout(torch.ones(100_000), share=0.3, generator=seeded()) == 0).float().mean()
    # five standard deviations of a share of 100000 draws
    assert zeroed == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 100_000) ** 0.5)


def test_scales_what_is_left_so_that_the_mean_stays() -> None:
    left = dropout(torch.ones(1000), share=0.75, generator=seeded())
    assert set(left.tolist()) == {0.0, 4.0}


def test_no_share_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    dropout(torch.ones(4), share=0.0, generator=generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_mask_does_not_depend_on_the_precision(dtype: torch.dtype) -> None:
    single = dropout(torch.ones(1000), share=0.5, generator=seeded())
    other = dropout(torch.ones(1000, dtype=dtype), share=0.5, generator=seeded())
    assert other.dtype == dtype
    assert torch.equal(other.float(), single)


def test_gradient_flows_through_what_is_left_alone() -> None:
    x = torch.ones(100, requires_grad=True)
    y = dropout(x, share=0.5, generator=seeded())
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
