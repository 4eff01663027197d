"""Draws from rows of probabilities."""

import pytest
import torch

from lightning_sep.functional.categorical import draw

SHARES = [0.1, 0.0, 0.25, 0.4, 0.25, 0.0]


@pytest.mark.parametrize("scale", [1.0, 7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_choices_come_as_often_as_their_shares_say(scale: float, dtype: torch.dtype) -> None:
    rows = scale * torch.tensor([SHARES], dtype=dtype).expand(40_000, -1)
    counts = draw(rows, generator=torch.Generator().manual_seed(0)).bincount(minlength=6) / 40_000
    # four standard deviations of a share of one half
    torch.testing.assert_close(counts, torch.tensor(SHARES), rtol=0, atol=4 * 0.5 / 200)
    assert counts[1] == counts[5] == 0


def test_rows_are_drawn_on_their_own() -> None:
    rows = torch.eye(5)[[3, 0, 4, 1, 2]].reshape(5, 1, 5)
    assert draw(rows, generator=torch.Generator()).tolist() == [[3], [0], [4], [1], [2]]


def test_the_generator_decides() -> None:
    rows = torch.ones(100, 4)
    one, same, other = (draw(rows, generator=torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
