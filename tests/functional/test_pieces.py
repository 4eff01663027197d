"""Long signals piece by piece."""

import pytest
import torch

from lightning_sep.functional.pieces import in_faded_pieces, in_pieces


def blocks_of(x: torch.Tensor, *sizes: int) -> list[torch.Tensor]:
    return list(x.split(list(sizes), dim=-1))


def smooth(x: torch.Tensor) -> torch.Tensor:
    """The mean over seven samples, of every sample, doubled at odd places."""
    padded = torch.nn.functional.pad(x, (3, 3)).unfold(-1, 7, 1).mean(-1)
    return padded * (1 + torch.arange(x.shape[-1]) % 2)


@pytest.mark.parametrize("piece", [4, 6, 10, 40])
@pytest.mark.parametrize("sizes", [(37,), (1, 1, 35), (20, 0, 17), (9, 9, 9, 10)])
def test_pieces_equal_the_whole_whatever_the_blocks(piece: int, sizes: tuple[int, ...]) -> None:
    x = torch.randn(2, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = list(in_pieces(smooth, blocks_of(x, *sizes), piece=piece, reach=4))
    torch.testing.assert_close(torch.cat(made, dim=-1), smooth(x), rtol=0, atol=1e-15)


def test_nothing_is_held_but_a_piece_and_its_surroundings() -> None:
    seen: list[int] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[-1])
        return x

    made = list(in_pieces(run, [torch.arange(1000.0)], piece=50, reach=20))
    assert torch.equal(torch.cat(made), torch.arange(1000.0))
    assert max(seen) == 50 + 2 * 20


@pytest.mark.parametrize(("piece", "reach"), [(0, 0), (3, 4)])
def test_a_piece_shorter_than_the_reach_is_refused(piece: int, reach: int) -> None:
    with pytest.raises(ValueError, match="a piece needs at least"):
        list(in_pieces(smooth, [torch.zeros(9)], piece=piece, reach=reach))


def test_sources_keep_their_order_from_piece_to_piece() -> None:
    time = torch.arange(1000) / 100
    true = torch.stack([torch.sin(5 * time), torch.cos(11 * time)])
    calls: list[int] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        """The right sources, in another order in every second call."""
        start = int(x[0])
        calls.append(len(x))
        found = true[:, start : start + len(x)]
        return found.flip(0) if len(calls) % 2 == 0 else found

    blocks = blocks_of(torch.arange(1000.0), 300, 300, 400)
    made = torch.cat(list(in_faded_pieces(run, blocks, piece=200, overlap=40)), dim=-1)
    assert len(calls) > 3
    assert max(calls[:-1]) == 200
    assert calls[-1] <= 400
    torch.testing.assert_close(made, true)


def test_one_piece_fades_into_the_next() -> None:
    levels = iter([0.0, 5.0])
    made = list(
        in_faded_pieces(
            lambda x: torch.full((1, len(x)), next(levels)), [torch.zeros(21)], piece=10, overlap=4
        )
    )
    expected = [0.0] * 6 + [1.0, 2.0, 3.0, 4.0] + [5.0] * 11
    torch.testing.assert_close(torch.cat(made, dim=-1), torch.tensor([expected]))


def test_a_short_signal_goes_through_at_once() -> None:
    calls: list[int] = []
    list(
        in_faded_pieces(
            lambda x: (calls.append(len(x)), x[None])[1], [torch.zeros(20)], piece=10, overlap=4
        )
    )
    assert calls == [20]


def test_an_overlap_of_the_whole_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="0 < overlap < piece"):
        list(in_faded_pieces(smooth, [torch.zeros(9)], piece=4, overlap=4))
