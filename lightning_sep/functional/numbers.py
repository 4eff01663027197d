"""Numbers that a sweep moves: checked where they enter, kept as a float or as a tensor.

A tensor becomes a buffer (outside of the state dict, so that checkpoints do not depend on it), and
several runs can be stacked by handing stacked buffers to ``torch.func.functional_call``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_sep.checks import finite_number, refusal


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
    for one in value.flatten().tolist() if isinstance(value, Tensor) else [value]:
        finite_number(name, one, above=0 if positive else None, at_most=at_most, meaning=meaning)
    if isinstance(value, Tensor):
        module.register_buffer(name, value, persistent=False)
    else:
        setattr(module, name, float(value))


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
            needed = "a list of numbers is needed"
            raise refusal(name, values, needed, meaning=meaning) from None
    if not bool(numbers.isfinite().all()):
        needed = "a list of finite numbers is needed"
        raise refusal(name, numbers.tolist(), needed, meaning=meaning)
    return numbers


def filled(value: float | Tensor, like: Tensor) -> Tensor:
    """A held number as a tensor with the dtype and on the device of ``like``.

    Filled in there: a number that is sent there makes the host wait for the device in every step.
    """
    if isinstance(value, Tensor):
        return value.to(like)
    return torch.full((), value, dtype=like.dtype, device=like.device)
