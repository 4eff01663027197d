"""What rows are compared by: a table over seeds and the units that a new test set would bring.

A unit is a mixture, a sequence or a speaker, never one of the sources of a mixture, whose scores
go together. Each run gives one number a unit, whose mean is the run's score:

- a mean over examples: the examples' own values;
- R², a ratio of sums: its influence values (Hampel, JASA 69(346), 1974; a ratio's are those of
  Cochran, Sampling Techniques, 1977, ch. 6);
- an equal error rate: jackknife pseudo-values over speakers (Arvesen, Annals of Mathematical
  Statistics 40(6), 1969), since each speaker takes part in many trials.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_sep.errors import one_line
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.runs import LARGEST, Run
from lightning_sep.leaderboard.statistics import Floats

LEAST_SPEAKERS = 10  # fewer say nothing of new ones
# float32 sums over thousands of examples agree to about 1e-5 of their size
_CLOSE = {"rel_tol": 1e-3, "abs_tol": 1e-3}


class Damaged(ValueError):
    """Values per example that do not belong to the run's score."""


@dataclass(frozen=True)
class Values:
    """One run's number for each unit.

    Args:
        units: what tells the units apart: the data, and their numbers or names without those that
            are silent.
        scores: ``[unit]``, finite; their mean is the run's score, less a jackknife's correction.
    """

    units: tuple[Any, ...]
    scores: Floats


def values_of(run: Run, metric: Metric) -> Values | None:
    """A run's values per unit; None where it kept none.

    Raises:
        Damaged: they cannot be read, or are not those of its score.
    """
    if run.examples_file is None:
        return None
    kept = run.examples(_lists_of(metric))
    if kept is None:
        raise Damaged(f"{run.examples_file} cannot be read")
    score = run.metrics[metric.key]
    if metric.per_unit == "ratio":
        found = _ratio(kept, score)
    elif metric.per_unit == "jackknife":
        found = _jackknife(kept, score, metric)
    else:
        found = _mean(kept, score, metric)
    if found is None:
        return None
    return Values((*sorted(run.data.items()), *found.units), found.scores)


def shared_units(runs: Sequence[tuple[Run, Values | None]]) -> tuple[Any, ...] | None:
    """The units that most runs were tested on; None where most kept no values."""
    counts = Counter(None if values is None else values.units for _, values in runs)
    return counts.most_common(1)[0][0] if counts else None


def interquartile_mean(scores: Floats) -> float:
    """Mean of the middle half of ``scores [unit]``, a fraction of a unit at its ends included."""
    ordered = np.sort(scores)
    places = np.arange(len(ordered))
    low, high = len(ordered) / 4, 3 * len(ordered) / 4
    weights = np.clip(np.minimum(places + 1, high) - np.maximum(places, low), 0, 1)
    return float((weights * ordered).sum() / weights.sum())


def _lists_of(metric: Metric) -> list[str]:
    """Names of the lists that a metric's values per unit are made of."""
    if metric.per_unit == "ratio":
        return ["test/index", "test/squared_error", "test/energy"]
    if metric.per_unit == "jackknife":
        return ["test/speaker", f"{metric.key}_without_speaker"]
    return ["test/index", metric.key]


def _mean(kept: dict[str, list[Any]], score: float, metric: Metric) -> Values | None:
    listed = kept.get(metric.key)
    if listed is None:
        return None
    row = _array(listed)
    active = np.isfinite(row)
    if active.sum() < 2:
        return None
    if not math.isclose(float(row[active].mean()), score, **_CLOSE):
        raise Damaged(
            f"the mean of its test examples is {row[active].mean():.6g}, its record says "
            f"{score:.6g}"
        )
    return Values(_units(kept, active), row[active])


def _ratio(kept: dict[str, list[Any]], score: float) -> Values | None:
    if "test/squared_error" not in kept or "test/energy" not in kept:
        return None
    error, energy = _array(kept["test/squared_error"]), _array(kept["test/energy"])
    if len(error) != len(energy):
        raise Damaged("its test examples have lists of unequal lengths")
    active = np.isfinite(error) & np.isfinite(energy)
    error, energy = error[active], energy[active]
    if len(error) < 2 or energy.mean() <= 0:
        return None
    r2 = 1 - error.mean() / energy.mean()
    if not math.isclose(r2, score, **_CLOSE):
        raise Damaged(f"R² of its test examples is {r2:.6g}, its record says {score:.6g}")
    return Values(_units(kept, active), r2 - (error - (1 - r2) * energy) / energy.mean())


def _jackknife(kept: dict[str, list[Any]], score: float, metric: Metric) -> Values | None:
    names, without = kept.get("test/speaker"), kept.get(f"{metric.key}_without_speaker")
    if names is None or without is None:
        return None
    rates = _array(without)
    if len(rates) != len(names):
        raise Damaged("its error rates without each speaker are not those of its speakers")
    if len(rates) < LEAST_SPEAKERS or not np.isfinite(rates).all():
        return None
    count = len(rates)
    pseudo = count * score - (count - 1) * rates
    return Values(tuple(map(str, names)), pseudo)


def _array(listed: Sequence[Any]) -> Floats:
    try:
        found = np.array([math.nan if one is None else one for one in listed], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"its values per example are no numbers: {one_line(error)}") from error
    if found.ndim > 1:
        raise Damaged("its values per example are no numbers but lists")
    found[np.abs(found) > LARGEST] = math.nan
    return found


def _units(kept: dict[str, list[Any]], active: Any) -> tuple[Any, ...]:
    numbers: Sequence[Any] = kept.get("test/index", ())
    if len(numbers) != len(active):
        numbers = range(len(active))
    units = tuple(number for number, here in zip(numbers, active, strict=True) if here)
    try:
        hash(units)
    except TypeError as error:
        raise Damaged("its test examples are called neither by numbers nor by names") from error
    return units
