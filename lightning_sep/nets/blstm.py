"""Bidirectional LSTM layers that turn a snippet's features into one vector."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_sep.checks import Arguments
from lightning_sep.nets.dropout import dropout as drop


class Blstm(nn.Module):
    """Bidirectional LSTM, its last outputs, and dense layers.

    The speaker network of Stadelmann, Glinski-Haefeli, Gerber, Duerr, "Capturing suprasegmental
    features of a voice with RNNs for improved speaker clustering", ANNPR 2018: two layers of 256
    cells per direction, dropout, and dense layers of 1000, 500 and 100 without activations, as in
    the authors' code. The published embedding is what the second recurrent layer gives (`embed`,
    512 values); the head sees the last dense layer.

    Args:
        inputs: features per frame (mel bands).
        outputs: raw numbers per snippet.
        hidden: cells per direction and layer.
        layers: number of bidirectional layers.
        dense: widths of the dense layers before the output layer.
        dropout: share zeroed between recurrent layers in training, in ``[0, 1)``.
        dense_dropout: share zeroed after the first dense layer in training, in ``[0, 1)``.

    Shape:
        ``[batch, frame, inputs]`` to ``[batch, outputs]``, any number of frames of at least one.

    Raises:
        ConfigError: a setting cannot be used.

    Example:
        >>> net = Blstm(inputs=16, outputs=10, hidden=8, dense=[12])
        >>> net(torch.zeros(3, 40, 16)).shape
        torch.Size([3, 10])
    """

    material: ClassVar[str] = "pooled"

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        hidden: int = 256,
        layers: int = 2,
        dense: Sequence[int] = (1000, 500),
        dropout: float = 0.5,
        dense_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        arguments = Arguments("Blstm")
        arguments.whole("inputs", inputs)
        arguments.whole("outputs", outputs)
        arguments.whole("hidden", hidden)
        arguments.whole("layers", layers)
        if isinstance(dense, str) or not isinstance(dense, Sequence):
            arguments.refuse("dense", dense, "a list of whole numbers is needed, such as [1000]")
        else:
            for number, width in enumerate(dense):
                arguments.whole(f"dense[{number}]", width)
        arguments.number("dropout", dropout, low=0.0, below=1.0)
        arguments.number("dense_dropout", dense_dropout, low=0.0, below=1.0)
        arguments.check()
        self.inputs, self.outputs, self.hidden = inputs, outputs, hidden
        self.dropout, self.dense_dropout = float(dropout), float(dense_dropout)
        self.layers = nn.ModuleList(
            nn.LSTM(
                inputs if layer == 0 else 2 * hidden, hidden, batch_first=True, bidirectional=True
            )
            for layer in range(layers)
        )
        widths = [2 * hidden, *dense, outputs]
        self.dense = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw values of whole snippets.

        Args:
            x: ``[batch, frame, inputs]``.
            generator: draws the dropout masks in training; ``None`` means no dropout.

        Returns:
            ``[batch, outputs]``.
        """
        y = self.embed(x, generator=generator)
        noise = generator if self.training else None
        for number, dense in enumerate(self.dense):
            y = dense(y)
            if number == 0 and len(self.dense) > 1:  # never on the raw outputs themselves
                y = drop(y, share=self.dense_dropout, generator=noise)
        return y

    def embed(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """What the last recurrent layer knows at the end of each direction.

        Args:
            x: ``[batch, frame, inputs]``.
            generator: as for `forward`.

        Returns:
            ``[batch, 2 * hidden]``: the forward direction after the last frame, then the backward
            direction after the first.
        """
        y, last = x, x
        noise = generator if self.training else None
        for number, layer in enumerate(self.layers):
            if number > 0:
                y = drop(y, share=self.dropout, generator=noise)
            y, (last, _) = layer(y)
        return last.transpose(0, 1).flatten(1)
