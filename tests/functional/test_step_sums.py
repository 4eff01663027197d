"""Sums over steps are the same to the last bit, whenever they are asked for."""

import pytest
import torch

from lightning_sep.functional.step_sums import AT_ONCE, StepSums


def numbers(count: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    spread = 10.0 ** torch.randint(-6, 7, (count, 2), generator=draw)
    return torch.randn(count, 2, generator=draw, dtype=torch.float64) * spread


@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, 3 * AT_ONCE + 5])
def test_sums_are_those_of_adding_step_by_step(count: int) -> None:
    sums, expected = StepSums(torch.tensor([0.1, -3.0])), torch.tensor([0.1, -3.0]).double()
    for row in numbers(count):
        sums.add(*row)
        expected = expected + row
    assert sums.total().tolist() == expected.tolist()


def test_asking_in_between_changes_nothing() -> None:
    asked, left_alone = StepSums(torch.zeros(2)), StepSums(torch.zeros(2))
    for number, row in enumerate(numbers(100)):
        asked.add(*row)
        left_alone.add(*row)
        if number % 7 == 0:
            asked = StepSums(asked.total())  # as a resumed run goes on
    assert asked.total().tolist() == left_alone.total().tolist()


def test_numbers_of_any_kind_are_summed_in_float64() -> None:
    sums = StepSums(torch.zeros(3))
    for _ in range(3):
        sums.add(torch.tensor(0.1), torch.tensor(2), torch.tensor(True))
    tenth = float(torch.tensor(0.1))
    assert sums.total().tolist() == [tenth + tenth + tenth, 6.0, 3.0]
    assert sums.total().dtype == torch.float64


def test_no_more_than_a_few_steps_wait() -> None:
    sums = StepSums(torch.zeros(2))
    for row in numbers(10 * AT_ONCE + 3):
        sums.add(*row)
        assert len(sums._waiting) < AT_ONCE
