"""What every task receives, whatever the corpus: one batch of examples."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Batch:
    """Examples of one step.

    Args:
        waveform: ``[batch, channel, time]`` float32: the mixture, the recording or the speech.
        labels: ``[batch]`` or ``[batch, source]`` int64: class or speaker numbers.
        active: same shape as ``labels``, bool. ``False`` marks digital silence, which has no
            direction to project on and is left out of losses, weights and means.
        index: ``[batch]`` int64, number of the example within its epoch or split; -1 where there is
            none, see :meth:`of_nobody`.
        sources: ``[batch, source, channel, time]`` float32, adding up to ``waveform``;
            separation only.
        sessions: ``[batch]`` int64, numbers of the recordings or of the sessions in which they were
            made; two snippets of one are no trial. Verification only.
    """

    waveform: Tensor
    labels: Tensor
    active: Tensor
    index: Tensor
    sources: Tensor | None = None
    sessions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.waveform)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on ``device``; ``non_blocking`` is of use from pinned memory alone."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in memory that a GPU copies from by itself; a data loader asks for it."""
        return self._each(lambda value: value.pin_memory())

    def rows(self, piece: slice) -> "Batch":
        """Some of the examples."""
        return self._each(lambda value: value[piece])

    def of_nobody(self) -> "Batch":
        """The same shapes for a process that has no example of a step, and takes part in it all the
        same: they count nowhere."""
        none = torch.full_like(self.index, -1)
        return replace(self, active=torch.zeros_like(self.active), index=none)

    def _each(self, make: Callable[[Tensor], Tensor]) -> "Batch":
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        made: dict[str, Any] = {
            name: None if one is None else make(one) for name, one in parts.items()
        }
        return replace(self, **made)
