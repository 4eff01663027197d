"""Random numbers that depend on what they are for, not on when they were drawn.

Every draw is a hash of (seed, epoch, index, purpose, column), so an example comes out the same in
any batch, worker or process, and a resumed run continues by arithmetic alone. The hash is
splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
applied to whole arrays at once.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RANKED = 256  # how many numbers are ranked by their hashes rather than drawn one by one
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def uniform(
    *, seed: int, epoch: int, index: NDArray[np.int64], purpose: str, columns: int = 1
) -> NDArray[np.float64]:
    """Numbers uniform in [0, 1), ``[index, columns]``; rows do not depend on one another.

    Args:
        seed: seed of the run, or of the split where draws are fixed.
        epoch: number of the epoch.
        index: ``[n]`` numbers of the examples.
        purpose: what is drawn; another purpose gives independent numbers.
        columns: how many numbers each example needs.

    Example:
        >>> both = uniform(seed=0, epoch=1, index=np.array([4, 7]), purpose="doctest")
        >>> alone = uniform(seed=0, epoch=1, index=np.array([7]), purpose="doctest")
        >>> bool(both[1] == alone[0])
        True
    """
    state = _mixed(seed & _MASK)
    state = _mixed(state ^ (epoch & _MASK))
    state = _mixed(state ^ zlib.crc32(purpose.encode()))
    rows = _mixed_array(np.uint64(state) ^ np.asarray(index).astype(np.uint64))
    steps = np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits = _mixed_array(rows[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53  # 53 bits: all a float64 holds


def below(numbers: NDArray[np.float64], bound: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Whole numbers in [0, bound), from uniform ``numbers``.

    Example:
        >>> below(np.array([0.0, 0.5, 0.99]), 4).tolist()
        [0, 2, 3]
    """
    whole = np.floor(numbers * bound).astype(np.int64)
    return np.asarray(
        np.minimum(whole, np.asarray(bound) - 1)
    )  # rounding may reach the bound itself


def distinct(
    *,
    seed: int,
    epoch: int,
    index: NDArray[np.int64],
    purpose: str,
    among: NDArray[np.int64],
    columns: int,
    skip: int = 0,
) -> NDArray[np.int64]:
    """Numbers out of ``among``, ``[index, columns]``, none twice in a row, in random order.

    Where all of ``among`` are below 256, those with the smallest hashes are taken: then a number
    that is left out leaves the others as they are. Otherwise one after the other is drawn from
    those that are left, which costs the same however many there are.

    Args:
        seed: see :func:`uniform`.
        epoch: see :func:`uniform`.
        index: see :func:`uniform`.
        purpose: see :func:`uniform`.
        among: ``[m]`` what to draw from, rising, at least ``columns`` of them.
        columns: how many to draw.
        skip: columns that another draw of this purpose has used, from other numbers.
    """
    if among[-1] < _RANKED:
        hashes = uniform(
            seed=seed, epoch=epoch, index=index, purpose=purpose, columns=int(among[-1]) + 1
        )
        return among[np.argsort(hashes[:, among], axis=1, kind="stable")[:, :columns]]
    drawn = uniform(seed=seed, epoch=epoch, index=index, purpose=purpose, columns=skip + columns)
    places = np.empty((len(index), columns), dtype=np.int64)
    for column in range(columns):
        left = below(
            drawn[:, skip + column], len(among) - column
        )  # place among those that are left
        passed = np.sort(places[:, :column], axis=1) - np.arange(column)
        places[:, column] = left + (passed <= left[:, None]).sum(axis=1)
    return among[places]


def shuffled_order(names: list[str], *, seed: int) -> list[str]:
    """``names`` in an order that depends on the seed and each name, not on their listing.

    A name that is added later leaves the others in their order.

    Example:
        >>> shuffled_order(["b", "a"], seed=0) == shuffled_order(["a", "b"], seed=0)
        True
    """

    def key(name: str) -> tuple[int, str]:
        state = _mixed(seed & _MASK)
        for byte in name.encode():
            state = _mixed(state ^ byte)
        return state, name

    return sorted(names, key=key)


def _mixed(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mixed_array(values: NDArray[Any]) -> NDArray[np.uint64]:
    # array arithmetic wraps around silently, which is what the hash wants
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)
