"""What nets can do, said by the methods and attributes that they have.

A task asks ``isinstance(net, ...)`` for what it needs and calls nothing else, so a net of anybody's
serves it by having the methods: there is no base class.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Net(Protocol):
    """Raw tensors out of tensors: what every net does.

    Dropout masks and other noise are drawn from the generator in training, by
    :mod:`lightning_sep.functional.noise`, row by row of the batch; there are none without it.
    """

    @property
    def material(self) -> str:
        """What goes in and comes out: ``waveform`` (``[batch, inputs, time]``, as long),
        ``sequence`` (``[batch, frame, inputs]``, as long and causal) or ``pooled`` (the same in,
        ``[batch, outputs]`` out)."""

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw outputs of ``x``."""


@runtime_checkable
class SequenceNet(Net, Protocol):
    """A causal net on frames that carries a state: as a whole and frame by frame.

    A state is whatever the net wants back with the next frame; ``None`` stands before the first.
    """

    def run(
        self, x: Tensor, state: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Raw outputs of the frames after a state, and the state after them."""

    def step(
        self, x: Tensor, state: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Raw output ``[batch, outputs]`` of one frame ``[batch, inputs]``, and the state."""


@runtime_checkable
class LocalNet(Net, Protocol):
    """A net on waveforms of which an output sample depends on near samples alone, so that pieces
    of a recording give what the whole of it gives."""

    @property
    def reach_samples(self) -> int:
        """Samples on either side that an output sample depends on, at most, in whole steps."""

    @property
    def step_samples(self) -> int:
        """Pieces are treated alike when they start at multiples of this."""


@runtime_checkable
class ContextNet(Net, Protocol):
    """A net on waveforms that can go without padding, where a recording has surroundings."""

    @property
    def context(self) -> bool:
        """Whether it was built to; else its input and output are as long."""

    def sizes(self, wished_samples: int) -> tuple[int, int]:
        """Input and output samples of the smallest net that gives ``wished_samples``."""

    def forward_valid(self, x: Tensor) -> Tensor:
        """Raw outputs of the middle of ``x [batch, inputs, time]``, a length of ``sizes``."""


@runtime_checkable
class LayeredNet(Net, Protocol):
    """A net on snippets of which an inner layer describes a snippet, beside its outputs."""

    def embed(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """What that layer gives for ``x [batch, frame, inputs]``, ``[batch, value]``."""


@runtime_checkable
class BatchNet(Net, Protocol):
    """A net that norms over its batch in training and keeps running statistics for later, so that
    there an example is changed by the others; in evaluation it is not."""

    @property
    def batch_statistics(self) -> bool:
        """Whether it was built to."""
