"""Error rates of verification trials, exact by sorting.

A trial is accepted when its score is *above* the threshold t: misses are the same-class trials
with scores <= t, false alarms the different-class trials with scores > t. Candidates for t are
minus infinity and every score that occurs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


class ErrorCurve(NamedTuple):
    """Both error rates at every threshold that makes a difference, in rising order.

    Args:
        thresholds: ``[threshold]``, the first is minus infinity.
        miss: ``[threshold]``, share of same-class trials refused; rises from 0 to 1.
        false_alarm: ``[threshold]``, share of different-class trials accepted; falls from 1 to 0.
    """

    thresholds: NDArray[np.float64]
    miss: NDArray[np.float64]
    false_alarm: NDArray[np.float64]


class EqualError(NamedTuple):
    """Where misses and false alarms are equally frequent."""

    rate: float
    threshold: float  # the candidate at which the two rates lie closest together


def error_curve(*, scores: ArrayLike | Tensor, same: ArrayLike | Tensor) -> ErrorCurve:
    """Miss and false-alarm rates at all thresholds.

    Args:
        scores: ``[trial]``, higher means more alike.
        same: ``[trial]`` bool, whether a trial is of one class.

    Raises:
        ValueError: no trial of one of the two kinds, a score that is NaN, or unequal lengths.
    """
    values = _array(scores).ravel()
    if values.dtype != np.float32:  # which sorts twice as fast, and loses nothing if it was one
        values = values.astype(np.float64, copy=False)
    flags = _array(same).astype(bool, copy=False).ravel()
    if len(values) != len(flags):
        raise ValueError(f"scores and same need one length, got {len(values)} and {len(flags)}")
    targets = int(flags.sum())
    others = len(flags) - targets
    if targets == 0 or others == 0:
        raise ValueError(
            f"error rates need trials of both kinds, got {targets} of one class and {others} of two"
        )
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN")
    order = np.argsort(values)  # ties move together: their order does not count
    values, flags = values[order], flags[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    refused_targets = np.cumsum(flags)[last]
    refused_others = last + 1 - refused_targets
    return ErrorCurve(
        thresholds=np.concatenate([[-np.inf], values[last].astype(np.float64)]),
        miss=np.concatenate([[0.0], refused_targets / targets]),
        false_alarm=np.concatenate([[1.0], 1 - refused_others / others]),
    )


def equal_error_rate(
    *, scores: ArrayLike | Tensor, same: ArrayLike | Tensor, interpolate: bool = True
) -> EqualError:
    """Equal error rate, a share between 0 and 1; lower is better.

    Args:
        scores: ``[trial]``, higher means more alike.
        same: ``[trial]`` bool.
        interpolate: where the two rates cross between thresholds, take the crossing of the lines
            that join their values. Otherwise take their mean at the threshold where they lie
            closest together, the lowest such threshold in a tie.

    Raises:
        ValueError: no trial of one of the two kinds, or a score that is NaN.

    Example:
        >>> scores = [0.9, 0.8, 0.7, 0.35, 0.6, 0.4, 0.3, 0.2, 0.1]
        >>> same = [True] * 4 + [False] * 5
        >>> equal_error_rate(scores=scores, same=same)
        EqualError(rate=0.25, threshold=0.4)
    """
    return equal_error_of(error_curve(scores=scores, same=same), interpolate=interpolate)


def equal_error_of(curve: ErrorCurve, *, interpolate: bool = True) -> EqualError:
    """:func:`equal_error_rate` of a curve that is there already."""
    thresholds, miss, false_alarm = curve
    gap = false_alarm - miss  # falls from 1 to -1
    closest = int(np.argmin(np.abs(gap)))
    if not interpolate:
        rate = (miss[closest] + false_alarm[closest]) / 2
        return EqualError(rate=float(rate), threshold=float(thresholds[closest]))
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    rate = miss[after - 1] + share * (miss[after] - miss[after - 1])
    return EqualError(rate=float(rate), threshold=float(thresholds[closest]))


def min_dcf(
    *,
    scores: ArrayLike | Tensor,
    same: ArrayLike | Tensor,
    prior: float = 0.01,
    miss_cost: float = 1.0,
    false_alarm_cost: float = 1.0,
    normalised: bool = True,
) -> float:
    """Least detection cost over all thresholds; lower is better.

    ``miss_cost * prior * miss + false_alarm_cost * (1 - prior) * false_alarm``.

    Args:
        scores: ``[trial]``, higher means more alike.
        same: ``[trial]`` bool.
        prior: assumed share of same-class trials.
        miss_cost: of refusing one class.
        false_alarm_cost: of accepting two.
        normalised: divide by the cost of the better blind decision, as NIST does, so that 1 is
            useless; SpeechBrain does not.

    Raises:
        ValueError: no trial of one of the two kinds, or a score that is NaN.
    """
    return min_dcf_of(
        error_curve(scores=scores, same=same),
        prior=prior,
        miss_cost=miss_cost,
        false_alarm_cost=false_alarm_cost,
        normalised=normalised,
    )


def min_dcf_of(
    curve: ErrorCurve,
    *,
    prior: float = 0.01,
    miss_cost: float = 1.0,
    false_alarm_cost: float = 1.0,
    normalised: bool = True,
) -> float:
    """:func:`min_dcf` of a curve that is there already."""
    _, miss, false_alarm = curve
    of_miss, of_alarm = miss_cost * prior, false_alarm_cost * (1 - prior)
    least = float((of_miss * miss + of_alarm * false_alarm).min())
    return least / min(of_miss, of_alarm) if normalised else least


def error_rate_at(
    *, scores: ArrayLike | Tensor, same: ArrayLike | Tensor, threshold: float
) -> float:
    """Mean of the two error rates at a threshold that was chosen on other data.

    Raises:
        ValueError: no trial of one of the two kinds, or a score that is NaN.
    """
    return error_rate_of(error_curve(scores=scores, same=same), threshold=threshold)


def error_rate_of(curve: ErrorCurve, *, threshold: float) -> float:
    """:func:`error_rate_at` of a curve that is there already."""
    thresholds, miss, false_alarm = curve
    place = int(np.searchsorted(thresholds, threshold, side="right")) - 1
    return float((miss[place] + false_alarm[place]) / 2)


def _array(values: ArrayLike | Tensor) -> NDArray[np.generic]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
