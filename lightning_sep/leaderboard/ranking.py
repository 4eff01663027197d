"""Who may be best: rows compared with the best one, and all pairs where there are few.

"May be best" takes only comparisons with one row, so it can say more than ranks, which take every
pair: K - 1 of them, each at a level of 5 % / (K - 1) (Bonferroni), the idea of Hsu's comparisons
with the best (J. Hsu, Annals of Statistics 12(3), 1984). Whoever is truly best is left out only if
one of the others is wrongly found ahead of it, which happens on at most 5 % of boards, whichever
row the others are compared with.

A setting whose runs collapse scatters by tens of dB, and the interval of a handful of such seeds
holds almost any mean. So a row is also compared with its collapsed runs raised to the floor, which
is what a predictor scores that has learnt nothing: that makes no score worse, and a row that is
behind even so is behind as it is. Each of the two comparisons finds a row wrongly behind in at most
half of its level, so the level holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from lightning_sep.leaderboard.statistics import (
    CONFIDENCE,
    Difference,
    Floats,
    crossed_difference,
    paired_difference,
    paired_seed_difference,
    rank_intervals,
    seed_difference,
)

MOST_RANKED = 30  # rows; beyond, the correction for all pairs leaves nothing to say


@dataclass(frozen=True)
class Scores:
    """What a row is compared by.

    Args:
        seeds: of each run, in the order of the other two; None for a run that had none.
        means: ``[seed]``, test score of each run.
        table: ``[seed, example]`` in the same order, where there are values per example.
    """

    seeds: tuple[int | None, ...]
    means: Floats
    table: Floats | None

    def raised(self, floor: float, sign: float) -> "Scores":
        """The same where no run that is worse than ``floor`` has an example below it."""
        collapsed = sign * self.means < sign * floor
        choose = np.maximum if sign > 0 else np.minimum
        if self.table is None:
            return replace(self, means=choose(self.means, floor))
        table = np.where(collapsed[:, None], choose(self.table, floor), self.table)
        means = np.where(collapsed, table.mean(axis=1), self.means)
        return replace(self, means=means, table=table)


@dataclass(frozen=True)
class Standing:
    """Where a row stands among the others.

    Args:
        place: by its mean, from 1.
        ranks: the ranks that it may truly have; None on a board of more than ``MOST_RANKED`` rows.
        may_be_best: no other row is distinguishably better.
        difference: its mean minus that of the best row; the intervals of all rows hold together.
    """

    place: int
    ranks: tuple[int, int] | None
    may_be_best: bool
    difference: Difference


def compare(a: Scores, b: Scores, confidence: float = CONFIDENCE) -> Difference:
    """Difference of two rows: paired by seed where they share all their seeds."""
    paired = a.seeds == b.seeds and None not in a.seeds
    if a.table is not None and b.table is not None:
        if paired:
            return paired_difference(a.table, b.table, confidence)
        return crossed_difference(a.table, b.table, confidence)
    if paired:
        return paired_seed_difference(a.means, b.means, confidence)
    return seed_difference(a.means, b.means, confidence)


def compare_above(
    a: Scores, b: Scores, floor: float | None, sign: float, confidence: float = CONFIDENCE
) -> Difference:
    """Difference of two rows, where runs worse than ``floor`` do not make the worse row's mean
    uncertain towards the better one's.

    Args:
        a: a row.
        b: another one.
        floor: score of a predictor that has learnt nothing; None where there is none.
        sign: 1 where a higher score is better, else -1.
        confidence: share of such intervals that hold the truth.
    """
    found = compare(a, b, confidence)
    if floor is None or found.low is None or found.high is None or found.p_value is None:
        return found
    if sign * found.mean < 0:
        above = compare(a.raised(floor, sign), b, confidence)
    else:
        above = compare(a, b.raised(floor, sign), confidence)
    if above.low is None or above.high is None or above.p_value is None:
        return found
    low, high, p_value = found.low, found.high, found.p_value
    if found.mean < 0:
        high = min(high, above.high)
    else:
        low = max(low, above.low)
    if found.mean * above.mean > 0:  # else the raised row is ahead, which says nothing
        p_value = min(p_value, above.p_value)
    return replace(found, low=low, high=high, p_value=p_value)


def standings(
    rows: Sequence[Scores],
    *,
    best: int,
    higher_is_better: bool,
    others: int = 0,
    floor: float | None = None,
) -> list[Standing]:
    """Where each of ``rows`` stands, in their order.

    Args:
        rows: what each is compared by.
        best: the row that was chosen as the best one, on other data than these.
        higher_is_better: direction of the metric.
        others: settings that would stand on the board but are listed apart: they count as
            comparisons, so that nothing which takes a row off the board narrows an interval.
        floor: score of a predictor that has learnt nothing, where it is known beforehand.
    """
    if not rows:
        return []
    means = [float(row.means.mean()) for row in rows]
    sign = 1.0 if higher_is_better else -1.0
    by_mean = sorted(range(len(rows)), key=lambda place: -sign * means[place])
    places = {row: place for place, row in enumerate(by_mean, start=1)}
    level = (1 - CONFIDENCE) / max(1, len(rows) + others - 1)
    to_best = [compare_above(row, rows[best], floor, sign, 1 - level) for row in rows]
    behind = {place for place, one in enumerate(to_best) if _is_behind(one, sign, level)}
    top = by_mean[0]
    if top != best:  # the chosen one may be behind, and others behind who leads
        to_top = [compare_above(row, rows[top], floor, sign) for row in rows]
        behind |= {place for place, one in enumerate(to_top) if _is_behind(one, sign, level)}
    ranks: list[tuple[int, int] | None] = [None] * len(rows)
    if len(rows) <= MOST_RANKED:
        pairs = [
            (one, two, compare_above(rows[one], rows[two], floor, sign).p_value)
            for one, two in combinations(range(len(rows)), 2)
        ]
        ranks = [*rank_intervals(means, pairs, higher_is_better=higher_is_better)]
    return [
        Standing(places[place], ranks[place], place not in behind, to_best[place])
        for place in range(len(rows))
    ]


def _is_behind(difference: Difference, sign: float, level: float) -> bool:
    """Whether a row is distinguishably worse than the one that it was compared with."""
    return (
        difference.p_value is not None and difference.p_value < level and sign * difference.mean < 0
    )
