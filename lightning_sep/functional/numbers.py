"""Numbers that a sweep moves: checked where they enter, kept as a float or as a tensor.

A tensor becomes a buffer (outside of the state dict, so that checkpoints do not depend on it), and
several runs can be stacked by handing stacked buffers to ``torch.func.functional_call``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_sep.errors import ConfigError


def hold(
    module: nn.Module,
    name: str,
    value: float | Tensor,
    *,
    positive: bool = False,
    at_most: float | None = None,
    meaning: str,
) -> None:
    """Check a setting and keep it as ``module.<name>``.

    Args:
        module: who keeps it.
        name: what the user calls it.
        value: a number, or a tensor of them when several runs are stacked.
        positive: refuse 0 and below.
        at_most: refuse anything larger.
        meaning: what the number does, for the message.

    Raises:
        ConfigError: not a number, not finite, or out of range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not isinstance(value, Tensor):
        raise ConfigError(f"{name} = {value!r}: a number is needed ({meaning})")
    numbers = [float(value)] if not isinstance(value, Tensor) else value.flatten().tolist()
    for one in numbers:
        if not math.isfinite(one):
            raise ConfigError(f"{name} must be finite, got {one:g}: {meaning}")
        if positive and one <= 0:
            raise ConfigError(f"{name} must be positive, got {one:g}: {meaning}")
        if at_most is not None and one > at_most:
            raise ConfigError(f"{name} must be at most {at_most:g}, got {one:g}: {meaning}")
    if isinstance(value, Tensor):
        module.register_buffer(name, value, persistent=False)
    else:
        setattr(module, name, float(value))


def whole(name: str, value: int, *, at_least: int, meaning: str) -> int:
    """A whole number of at least ``at_least``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(
            f"{name} must be a whole number of at least {at_least}, got {value!r}: {meaning}"
        )
    return value


def row(name: str, values: Sequence[float] | Tensor, *, meaning: str) -> Tensor:
    """A row of finite numbers as a tensor ``[..., number]``.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(values, Tensor):
        numbers = values
    else:
        try:
            numbers = torch.tensor([float(value) for value in values])
        except (TypeError, ValueError):
            raise ConfigError(
                f"{name} = {values!r}: a list of numbers is needed ({meaning})"
            ) from None
    if not bool(numbers.isfinite().all()):
        raise ConfigError(f"{name} must hold finite numbers, got {numbers.tolist()}: {meaning}")
    return numbers
