"""Schedules of scheduled sampling: how often the true previous frame is fed.

Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
arXiv:1506.03099. All fall, or stay, as training goes on.
"""

import math

from lightning_sep.errors import ConfigError


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
    if slope < 0:
        raise ConfigError(f"slope must not be negative, got {slope:g}: each step takes it off")
    if not 0 <= floor <= start <= 1:
        raise ConfigError(f"0 <= floor <= start <= 1 is needed, got {floor:g} and {start:g}")
    return max(floor, start - slope * step)


def exponential(step: int, *, base: float) -> float:
    """``base ** step``.

    Args:
        step: of training, from 0.
        base: what each step multiplies by, below 1.

    Raises:
        ConfigError: ``base`` is not between 0 and 1.
    """
    if not 0 < base < 1:
        raise ConfigError(f"base must be between 0 and 1, got {base:g}: each step multiplies by it")
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
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k:g}")
    exponent = step / k - math.log(k)
    # Written so that late steps do not overflow.
    return (
        math.exp(-exponent) / (1 + math.exp(-exponent))
        if exponent > 0
        else 1 / (1 + math.exp(exponent))
    )
