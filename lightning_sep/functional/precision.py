"""Full precision where rounding would change a loss or a metric.

``tanh`` is exactly 1, with a gradient of exactly 0, from 3.5 on in bfloat16 (9.0 in float32), and
SI-SDR in half precision is off by decibels: heads, losses and metrics leave autocast.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_NOTHING = nullcontext()


def at_least_float32(values: Tensor) -> Tensor:
    """``values`` in float32, or in float64 where they were float64."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def measured(values: Tensor) -> Tensor:
    """``values`` in float64, for metrics; float32 on devices that have no float64."""
    return values.float() if values.device.type == "mps" else values.double()


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on the device of ``like`` keep their dtype."""
    device = like.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return _NOTHING
    return torch.autocast(device, enabled=False)
