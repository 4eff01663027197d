"""All settings of a board in one list, and the axes along which they differ.

The table of the page and its charts speak of an entry by its place in this list.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_sep.leaderboard.axes import Value, label_text, shown, typed
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.runs import Run
from lightning_sep.leaderboard.search import Tried

MOST_ENTRIES = 3000  # settings on a page; the JSON has all


@dataclass(frozen=True)
class Entry:
    """A setting of a board: a ranked row, one listed apart, or one that only the search saw.

    Args:
        label: the settings that set it apart.
        config_hash: of its settings without the seed.
        row: its final runs; None where only the search saw it.
        tried: what the search saw; None where there are final runs.
        reasons: why it is not ranked, where it is listed apart.
    """

    label: list[tuple[str, Value]]
    config_hash: str
    row: Row | None
    tried: Tried | None
    reasons: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``ranked``, ``apart`` or ``tried``."""
        return "tried" if self.row is None else "apart" if self.reasons else "ranked"

    @property
    def name(self) -> str:
        """The settings that set it apart, as overrides."""
        return label_text(self.label)

    @property
    def short(self) -> str:
        """Its values, each number with the last word of its setting's name."""
        words = [
            f"{name.rpartition('.')[2]}={shown(value)}" if _is_number(value) else shown(value)
            for name, value in self.label
        ]
        return " · ".join(words) or "all defaults"

    @property
    def runs(self) -> list[Run]:
        """Its final runs, or those of the search."""
        return self.row.runs if self.row else self.tried.runs if self.tried else []

    @property
    def validation(self) -> float | None:
        """Mean of what its runs monitored."""
        found = self.row or self.tried
        return found.validation if found else None


def entries_of(board: Board) -> list[Entry]:
    """The settings in the order of the table: ranked, listed apart, then those tried."""
    every = [
        *(Entry(row.label, row.config_hash, row, None) for row in board.rows),
        *(
            Entry(one.row.label, one.row.config_hash, one.row, None, tuple(one.reasons))
            for one in board.apart
        ),
        *(Entry(one.label, one.config_hash, None, one) for one in board.tried),
    ]
    return every[:MOST_ENTRIES]


@dataclass(frozen=True)
class Axis:
    """One setting that the entries are told apart by.

    Args:
        name: of the setting.
        values: of each entry; None where it has no such setting.
        is_number: whether all of them are numbers.
        is_logarithmic: whether they lie evenly over decades rather than over their range.
    """

    name: str
    values: list[tuple[Value] | None]
    is_number: bool
    is_logarithmic: bool


def axes_of(entries: Sequence[Entry], names: Sequence[str] = ()) -> list[Axis]:
    """The axes of a board's settings.

    Args:
        entries: the settings.
        names: axes that come first, in this order, as far as some entry has them.
    """
    labels = [
        {name: typed(value) if isinstance(value, str) else value for name, value in one.label}
        for one in entries
    ]
    known = dict.fromkeys(name for label in labels for name in label)
    order = [*(name for name in names if name in known), *(n for n in known if n not in names)]
    found = []
    for name in order:
        values = [(label[name],) if name in label else None for label in labels]
        numbers = [
            float(one[0])
            for one in values
            if one is not None and isinstance(one[0], int | float) and not isinstance(one[0], bool)
        ]
        is_number = len(numbers) == sum(one is not None for one in values)
        is_number = is_number and all(map(math.isfinite, numbers))
        found.append(Axis(name, values, is_number, is_number and _spans_decades(numbers)))
    return found


def _is_number(value: Value) -> bool:
    return isinstance(typed(value) if isinstance(value, str) else value, int | float)


def _spans_decades(numbers: Sequence[float]) -> bool:
    """Whether values lie evenly over decades rather than over their range."""
    low, high = min(numbers), max(numbers)
    if low <= 0 or high / low < 20:
        return False
    middle = sorted(numbers)[len(numbers) // 2]
    on_log = math.log(middle / low) / math.log(high / low)
    return abs(on_log - 0.5) < abs((middle - low) / (high - low) - 0.5)
