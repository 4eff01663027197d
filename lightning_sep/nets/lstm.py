"""A stack of LSTM layers that predicts the next frame of raw audio from all before it."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_sep.checks import Arguments
from lightning_sep.nets.dropout import dropout as drop

LstmState = tuple[Tensor, Tensor]


class Lstm(nn.Module):
    """LSTM layers and a linear layer, frame by frame and causal.

    Output j depends on inputs 0 to j alone, so it can be trained on whole sequences and run one
    frame at a time (Hochreiter, Schmidhuber, "Long short-term memory", 1997; the default size
    follows C. Beckham's course write-up on raw-audio prediction, 2016: 3 layers of 600).

    Args:
        inputs: numbers per input frame.
        outputs: raw numbers per output frame.
        hidden: cells per layer.
        layers: number of LSTM layers.
        dropout: share of each layer's outputs that is zeroed in training, in ``[0, 1)``.
        input_dropout: share of the input values that is zeroed in training, in ``[0, 1)``.

    Shape:
        ``[batch, frame, inputs]`` to ``[batch, frame, outputs]``.

    Raises:
        ConfigError: a setting cannot be used.

    Example:
        >>> net = Lstm(inputs=8, outputs=8, hidden=16, layers=1)
        >>> net(torch.zeros(2, 50, 8)).shape
        torch.Size([2, 50, 8])
    """

    material: ClassVar[str] = "sequence"

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        hidden: int = 600,
        layers: int = 3,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        arguments = Arguments("Lstm")
        arguments.whole("inputs", inputs)
        arguments.whole("outputs", outputs)
        arguments.whole("hidden", hidden)
        arguments.whole("layers", layers)
        arguments.number("dropout", dropout, low=0.0, below=1.0)
        arguments.number("input_dropout", input_dropout, low=0.0, below=1.0)
        arguments.check()
        self.inputs, self.outputs, self.hidden = inputs, outputs, hidden
        self.dropout, self.input_dropout = float(dropout), float(input_dropout)
        # one module per layer: dropout between layers is ours, with the caller's generator
        self.layers = nn.ModuleList(
            nn.LSTM(inputs if layer == 0 else hidden, hidden, batch_first=True)
            for layer in range(layers)
        )
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw outputs of whole sequences, from the zero state.

        Args:
            x: ``[batch, frame, inputs]``.
            generator: draws the dropout masks in training; ``None`` means no dropout.

        Returns:
            ``[batch, frame, outputs]``.
        """
        return self.run(x, generator=generator)[0]

    def run(
        self, x: Tensor, state: LstmState | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, LstmState]:
        """Several frames at once, and what is needed to go on after them.

        Args:
            x: ``[batch, frame, inputs]``, at least one frame.
            state: what the last call returned; ``None`` before the first frame.
            generator: as for `forward`.

        Returns:
            The raw outputs ``[batch, frame, outputs]`` and the state: hidden and cell values, each
            ``[layer, batch, hidden]``.
        """
        noise = generator if self.training else None
        y = drop(x, share=self.input_dropout, generator=noise)
        hidden, cell = [], []
        for number, layer in enumerate(self.layers):
            before = None if state is None else tuple(s[number : number + 1] for s in state)
            y, (last_hidden, last_cell) = layer(y, before)
            y = drop(y, share=self.dropout, generator=noise)
            hidden.append(last_hidden)
            cell.append(last_cell)
        raw: Tensor = self.output(y)
        return raw, (torch.cat(hidden), torch.cat(cell))

    def step(
        self, x: Tensor, state: LstmState | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, LstmState]:
        """One frame: what `run` does, by one cell per layer instead of a whole nn.LSTM, which for
        a single frame takes twice as long.

        Args:
            x: ``[batch, inputs]``, the newest frame.
            state: what the last call returned; ``None`` before the first frame.
            generator: as for `forward`.

        Returns:
            The raw output ``[batch, outputs]`` and the state, as from `run`.
        """
        noise = generator if self.training else None
        y = drop(x, share=self.input_dropout, generator=noise)
        if state is None:
            zeros = x.new_zeros(len(self.layers), len(x), self.hidden)
            state = zeros, zeros
        hidden, cell = [], []
        for layer, *before in zip(self.layers, *state, strict=True):
            assert isinstance(layer, nn.LSTM)
            now = torch.lstm_cell(y, before, *layer.all_weights[0])
            hidden.append(now[0])
            cell.append(now[1])
            y = drop(now[0], share=self.dropout, generator=noise)
        raw: Tensor = self.output(y)
        return raw, (torch.stack(hidden), torch.stack(cell))
