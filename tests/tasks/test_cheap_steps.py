"""Shortcuts of a step give what the long way gives, to the last bit."""

from typing import Any

import pytest
import torch

from lightning_sep.parts import build_task
from lightning_sep.reweighting.uniform import Uniform
from lightning_sep.settings import compose
from lightning_sep.tasks.base import Scored, _rows_kept
from tests.tasks import facts


def scored_of(mask: torch.Tensor, rows: torch.Tensor) -> Scored:
    losses = torch.randn(len(mask), generator=torch.Generator().manual_seed(len(mask)))
    return Scored(losses=losses, groups=rows, mask=mask, rows=rows)


@pytest.mark.parametrize("size", [1, 3, 16, 496])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_plain_mean_is_what_the_even_rule_gives(size: int, share: float) -> None:
    task: Any = build_task(compose(["task=autoregression"]).tree, facts.SEQUENCES)
    mask = torch.rand(size, generator=torch.Generator().manual_seed(size)) < share
    scored = scored_of(mask, torch.zeros(size, 1, dtype=torch.int64))
    expected = Uniform().weights(scored.losses, scored.groups, mask, 0)
    for rule in (None, Uniform()):
        task.reweighting = rule
        assert torch.equal(task._weights(scored, mask), expected)


def test_a_rule_of_somebodys_own_is_asked() -> None:
    class Odd(Uniform):
        def scores(self, losses: torch.Tensor, groups: Any, step: Any) -> torch.Tensor:
            return torch.arange(len(losses), dtype=losses.dtype)

    task: Any = build_task(compose(["task=autoregression"]).tree, facts.SEQUENCES)
    task.reweighting = Odd()
    mask = torch.ones(3, dtype=torch.bool)
    found = task._weights(scored_of(mask, torch.zeros(3, 1, dtype=torch.int64)), mask)
    torch.testing.assert_close(found, torch.arange(3.0).softmax(0))


PAIRS = torch.tensor([[0, 1], [0, 2], [1, 2]])


@pytest.mark.parametrize(
    ("kept", "rows"),
    [
        ([True, True, True], None),
        ([True, False, False], [True, True, False]),
        ([False, True, False], [True, False, True]),
        ([False, False, False], [False, False, False]),
    ],
)
def test_a_row_stays_where_any_example_of_it_is_kept(
    kept: list[bool], rows: list[bool] | None
) -> None:
    mask = torch.tensor(kept)
    found = _rows_kept(scored_of(mask, PAIRS), mask, 3)
    assert (found if found is None else found.tolist()) == rows


def test_of_a_batch_without_examples_no_row_stays() -> None:
    mask = torch.zeros(0, dtype=torch.bool)
    found = _rows_kept(scored_of(mask, torch.zeros(0, 2, dtype=torch.int64)), mask, 1)
    assert found is not None
    assert found.tolist() == [False]
