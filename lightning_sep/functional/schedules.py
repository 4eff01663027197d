"""Schedules of scheduled sampling: how often the true previous frame is fed.

Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
arXiv:1506.03099. All fall, or stay, as training goes on.
"""

import math

from lightning_sep.checks import finite_number


def linear(step: int, *, start: float = 1.0, slope: float, floor: float = 0.0) -> float:
    """``max(floor, start - slope * step)``.

    Args:
        step: of training, from 0.
        start: probability at step 0.
        slope: what each step takes off.
        floor: least probability.

    Raises:
        ConfigError: a negative slope, or not ``0 <= floor <= start <= 1``.

    Example:
        >>> linear(50, slope=0.01)
        0.5
    """
    finite_number("slope", slope, at_least=0, meaning="each step takes it off")
    finite_number("start", start, at_least=0, at_most=1, meaning="probability at step 0")
    finite_number("floor", floor, at_least=0, at_most=start, meaning="least probability")
    return max(floor, start - slope * step)


def exponential(step: int, *, base: float) -> float:
    """``base ** step``.

    Args:
        step: of training, from 0.
        base: what each step multiplies by, below 1.

    Raises:
        ConfigError: ``base`` is not between 0 and 1.
    """
    finite_number("base", base, above=0, below=1, meaning="each step multiplies by it")
    return math.exp(step * math.log(base))


def inverse_sigmoid(step: int, *, k: float) -> float:
    """``k / (k + exp(step / k))``: nearly 1 at first, one half at ``k log(k)`` steps.

    Args:
        step: of training, from 0.
        k: at least 1; larger falls later.

    Raises:
        ConfigError: ``k`` is below 1.

    Example:
        >>> round(inverse_sigmoid(10, k=10), 6)
        0.78627
    """
    finite_number("k", k, at_least=1)
    exponent = step / k - math.log(k)
    # Written so that late steps do not overflow.
    return (
        math.exp(-exponent) / (1 + math.exp(-exponent))
        if exponent > 0
        else 1 / (1 + math.exp(exponent))
    )
