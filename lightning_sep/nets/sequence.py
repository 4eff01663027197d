"""What nets on sequences of frames can do."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class SequenceNet(Protocol):
    """A causal net on frames, as a whole and frame by frame.

    A state is whatever the net wants back with the next frame; ``None`` stands before the first.
    All three draw their dropout masks from the generator in training, and have none without.
    """

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw outputs ``[batch, frame, outputs]`` of ``[batch, frame, inputs]``."""

    def run(
        self, x: Tensor, state: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Raw outputs of the frames after a state, and the state after them."""

    def step(
        self, x: Tensor, state: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Raw output ``[batch, outputs]`` of one frame ``[batch, inputs]``, and the state."""
