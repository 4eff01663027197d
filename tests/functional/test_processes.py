"""What several processes have together, by value; three of them, one without a row of its own."""

import pytest
import torch
from torch import Tensor

from lightning_sep.functional import noise, processes
from tests import gloo

ROWS = [2, 0, 3]  # of each process
PLAIN = [None, False, True]
TOLD = [1, "", (1, {"a": [None]}), 0.1]


class Odd(Exception):
    """Cannot be made again from what it says."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def never() -> None:
    raise AssertionError("only the first process decides")


def told(value: object) -> object:
    return processes.of_first((lambda: value) if processes.own_rank() == 0 else never)


def raised(error: Exception) -> tuple[str, bool]:
    def fails() -> None:
        raise error

    try:
        processes.of_first(fails if processes.own_rank() == 0 else never)
    except Exception as found:
        return f"{type(found).__name__}: {found}", processes.is_of_first(found)
    return "nothing", False


def rows_of(rank: int) -> Tensor:
    first = sum(ROWS[:rank])
    numbers = torch.arange(first, first + ROWS[rank], dtype=torch.float64)
    return torch.stack([numbers, 10 + numbers], dim=1)


def generator_of(numbers: list[int]) -> noise.SharedGenerator:
    generator = noise.SharedGenerator()
    generator.index = torch.tensor(numbers)
    generator.manual_seed(3)
    return generator


def work(rank: int, world: int) -> dict[str, object]:
    rows = rows_of(rank).requires_grad_()
    together, first = processes.gathered(rows)
    # Each process weighs the rows of all in its own way; DDP would take the mean over processes.
    weights = torch.arange(10.0, dtype=torch.float64).reshape(5, 2) * (rank + 1)
    (together * weights).sum().backward()
    # Four rows of a batch dealt out to three processes, then two: the third has one of nobody.
    drawn = []
    for own in ([[0, 3], [1], [2]], [[0], [1], [-1]]):
        numbers, device = own[rank], torch.device("cpu")
        generator = generator_of(numbers)
        drawn += [
            noise.uniform(torch.Size([len(numbers), 2]), generator=generator, device=device),
            noise.normal(torch.Size([len(numbers)]), generator=generator, device=device),
        ]
    return {
        "who": (processes.own_rank(), processes.world_size()),
        "rows": (together.detach(), first, rows.grad),
        "told": [told(value) for value in (*PLAIN, *TOLD)],
        "raised": [raised(ValueError("no")), raised(Odd(1, 2))],
        "drawn": drawn,
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return gloo.run(work, 3, tmp_path_factory.mktemp("gloo"))


def test_a_process_knows_its_number_and_that_of_all(ranks: list[dict[str, object]]) -> None:
    assert [one["who"] for one in ranks] == [(0, 3), (1, 3), (2, 3)]


def test_rows_of_all_come_in_order_and_gradients_back_to_whose_they_are(
    ranks: list[dict[str, object]],
) -> None:
    whole = torch.cat([rows_of(rank) for rank in range(3)])
    gradient = torch.arange(10.0, dtype=torch.float64).reshape(5, 2) * (1 + 2 + 3)
    for rank, one in enumerate(ranks):
        together, first, own = one["rows"]
        assert first == sum(ROWS[:rank])
        assert torch.equal(together, whole)
        assert torch.equal(own, gradient[first : first + ROWS[rank]])


def test_all_get_what_the_first_decides_or_raises(ranks: list[dict[str, object]]) -> None:
    for rank, one in enumerate(ranks):
        for found, value in zip(one["told"], (*PLAIN, *TOLD), strict=True):
            assert (type(found), found) == (type(value), value)
        odd = "Odd: 1 and 2" if rank == 0 else "RuntimeError: Odd: 1 and 2"
        assert one["raised"] == [("ValueError: no", rank > 0), (odd, rank > 0)]


def test_rows_that_are_dealt_out_draw_what_they_would_in_one_batch(
    ranks: list[dict[str, object]],
) -> None:
    for place, count in ((0, 4), (2, 2)):
        generator = torch.Generator().manual_seed(3)
        uniform = torch.rand(count, 2, generator=generator)
        normal = torch.randn(count, generator=generator)
        for rank in range(min(3, count)):
            found = ranks[rank]["drawn"]
            assert torch.equal(found[place], uniform[rank::3])
            assert torch.equal(found[place + 1], normal[rank::3])
    assert [one.shape[0] for one in ranks[2]["drawn"]] == [1, 1, 1, 1]


def test_alone_there_is_nobody_to_ask() -> None:
    rows = rows_of(0)
    assert (processes.own_rank(), processes.world_size()) == (0, 1)
    assert processes.gathered(rows)[0] is rows
    assert processes.gathered(rows)[1] == 0
    assert processes.of_first(lambda: 5) == 5
    assert raised(ValueError("no")) == ("ValueError: no", False)
    device, shape = torch.device("cpu"), torch.Size([3, 2])
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    assert torch.equal(
        noise.uniform(shape, generator=one, device=device), torch.rand(shape, generator=other)
    )
    assert torch.equal(
        noise.normal(shape, generator=one, device=device), torch.randn(shape, generator=other)
    )
