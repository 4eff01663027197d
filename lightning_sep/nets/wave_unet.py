"""Wave-U-Net: a U-Net on the raw waveform, at many time scales."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_sep.checks import Arguments
from lightning_sep.functional.pieces import in_pieces


class WaveUnet(nn.Module):
    """Convolutions that halve the sampling rate level by level, and climb back with skips.

    The published network (Stoller, Ewert, Dixon, "Wave-U-Net", ISMIR 2018, arXiv:1806.03185): down
    level i has ``filters * (i + 1)`` filters, every second sample is dropped without any filter,
    the way up interpolates between neighbours, and the input is concatenated once more before
    the last 1x1 convolution. No normalisation layers. What comes out is raw: bounding is the
    head's work.

    With ``context=True`` nothing is padded inside (valid convolutions), so the output is shorter
    than the input: `sizes` tells by how much and `forward_valid` is the network itself. `forward`
    always gives back the length that it got, by padding the input with zeros. With
    ``context=False`` every convolution pads with zeros ("same") and any length goes through.

    Args:
        inputs: channels of the mixture.
        outputs: raw channels; source by source, within a source channel (or parameter) by channel.
        levels: times that the rate is halved (and doubled again).
        filters: filters of the first level, and what each further level adds.
        down_kernel: samples per filter on the way down and at the bottom; odd.
        up_kernel: samples per filter on the way up; odd.
        leak: slope of the LeakyReLU below zero.
        upsampling: ``"linear"`` (mean of the neighbours) or ``"learned"`` (a weight in (0, 1) per
            channel says how much of the left neighbour; starts as linear).
        context: valid convolutions on a longer input, instead of zeros at every edge.

    Shape:
        ``[batch, inputs, time]`` to ``[batch, outputs, time]``, any time of at least one sample.

    Raises:
        ConfigError: a setting cannot be used.

    Example:
        >>> net = WaveUnet(inputs=1, outputs=2, levels=3, filters=4)
        >>> net(torch.zeros(1, 1, 1001)).shape
        torch.Size([1, 2, 1001])
    """

    material: ClassVar[str] = "waveform"

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        levels: int = 12,
        filters: int = 24,
        down_kernel: int = 15,
        up_kernel: int = 5,
        leak: float = 0.2,
        upsampling: Literal["linear", "learned"] = "linear",
        context: bool = True,
    ) -> None:
        super().__init__()
        arguments = Arguments("WaveUnet")
        arguments.whole("inputs", inputs)
        arguments.whole("outputs", outputs)
        arguments.whole("levels", levels)
        arguments.whole("filters", filters)
        # odd, or cropping and padding could not be the same on both sides
        arguments.whole("down_kernel", down_kernel, odd=True)
        arguments.whole("up_kernel", up_kernel, odd=True)
        arguments.number("leak", leak, low=0.0, below=1.0)
        arguments.one_of("upsampling", upsampling, ("linear", "learned"))
        arguments.yes_or_no("context", context)
        arguments.check()

        self.inputs, self.outputs, self.levels = inputs, outputs, levels
        self.down_kernel, self.up_kernel, self.leak = down_kernel, up_kernel, float(leak)
        self.context = context

        widths = [filters * (level + 1) for level in range(levels + 1)]
        down_padding = 0 if context else down_kernel // 2
        up_padding = 0 if context else up_kernel // 2
        self.down = nn.ModuleList(
            nn.Conv1d(narrow, wide, down_kernel, padding=down_padding)
            for narrow, wide in zip([inputs, *widths], widths[:-1], strict=False)
        )
        self.bottom = nn.Conv1d(widths[-2], widths[-1], down_kernel, padding=down_padding)
        self.upsample = nn.ModuleList(
            LearnedUpsampling(wide) if upsampling == "learned" else LinearUpsampling()
            for wide in reversed(widths[1:])
        )
        self.up = nn.ModuleList(
            nn.Conv1d(narrow + wide, narrow, up_kernel, padding=up_padding)
            for narrow, wide in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
        )
        self.output = nn.Conv1d(widths[0] + inputs, outputs, 1)

        for module in self.modules():
            if isinstance(module, nn.Conv1d):  # as the paper's framework starts convolutions
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def sizes(self, wished_samples: int) -> tuple[int, int]:
        """Input and output samples of the smallest valid network that gives ``wished_samples``.

        Only some lengths pass through halving and doubling without a remainder. The output is
        at least as long as wished and sits in the middle of the input.

        Example:
            >>> with torch.device("meta"):
            ...     net = WaveUnet(inputs=2, outputs=4)
            >>> net.sizes(16384)
            (147443, 16389)
        """
        if not self.context:
            return wished_samples, wished_samples
        bottom = wished_samples
        for _ in range(self.levels):
            # the exact length is a fraction; its ceiling may be taken level by level
            bottom = -(-(bottom + self.up_kernel) // 2)
        output_samples = bottom
        input_samples = bottom + self.down_kernel - 1
        for _ in range(self.levels):
            output_samples = 2 * output_samples - self.up_kernel
            input_samples = 2 * input_samples - 1 + self.down_kernel - 1
        return input_samples, output_samples

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw sources, as long as the input.

        Args:
            x: ``[batch, inputs, time]``.
            generator: not used, this net has no noise.

        Returns:
            ``[batch, outputs, time]``.
        """
        if not self.context:
            return self._through(x)
        time = x.shape[-1]
        input_samples, output_samples = self.sizes(time)
        side = (input_samples - output_samples) // 2
        padded = F.pad(x, (side, side + output_samples - time))
        return self._through(padded)[..., :time]

    def forward_valid(self, x: Tensor) -> Tensor:
        """The network without any padding of its input.

        Args:
            x: ``[batch, inputs, time]``; with ``context=True``, time is an input length of `sizes`.

        Returns:
            ``[batch, outputs, shorter time]``, the middle of the input's time.
        """
        return self._through(x)

    @property
    def step_samples(self) -> int:
        """Pieces of a recording are decimated alike when they start at multiples of this."""
        return int(2**self.levels)

    @property
    def reach_samples(self) -> int:
        """Samples on either side that an output sample depends on, at most, in whole steps."""
        # The margin of the smallest valid network: by halves of kernels, level by level.
        down, up = self.down_kernel // 2, self.up_kernel // 2
        reach = down
        for _ in range(self.levels):
            # one more for the neighbour that upsampling looks at
            reach = 2 * (reach + up + 1) + down
        return -(-reach // self.step_samples) * self.step_samples

    def forward_chunked(self, x: Tensor, *, wished_samples: int = 16384) -> Tensor:
        """Raw sources of a long recording, computed piece by piece in bounded memory.

        Each piece sees its true surroundings and starts at a multiple of `step_samples`, so the
        result is that of `forward`, to rounding.

        Args:
            x: ``[batch, inputs, time]``.
            wished_samples: output samples per piece, rounded up to whole steps, and at least
                `reach_samples`.

        Returns:
            ``[batch, outputs, time]``.
        """
        steps = -(-max(wished_samples, self.reach_samples) // self.step_samples)
        pieces = in_pieces(
            self.forward, [x], piece=steps * self.step_samples, reach=self.reach_samples
        )
        return torch.cat(list(pieces), dim=-1)

    def _through(self, x: Tensor) -> Tensor:
        y, skips = x, []
        for conv in self.down:
            y = F.leaky_relu(conv(y), self.leak)
            skips.append(y)
            y = y[..., ::2]
        y = F.leaky_relu(self.bottom(y), self.leak)
        for upsample, conv, skip in zip(self.upsample, self.up, reversed(skips), strict=True):
            doubled = 2 * y.shape[-1]
            # between N samples lie N - 1 new ones; "same" needs one more at the end, if the skip
            # has an even length
            y = upsample(y)[..., : doubled - 1 if self.context else skip.shape[-1]]
            y = torch.cat((_middle(skip, y.shape[-1]), y), dim=1)
            y = F.leaky_relu(conv(y), self.leak)
        mixture = _middle(x, y.shape[-1])
        raw: Tensor = self.output(torch.cat((mixture, y), dim=1))
        return raw


class LinearUpsampling(nn.Module):
    """Doubles the rate: between two neighbours their mean, after the last one its repetition.

    Shape:
        ``[batch, channel, time]`` to ``[batch, channel, 2 * time]``.

    Example:
        >>> LinearUpsampling()(torch.tensor([[[0.0, 2.0]]]))
        tensor([[[0., 1., 2., 2.]]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return _interleave(x, (x + _next(x)) / 2)


class LearnedUpsampling(nn.Module):
    """Doubles the rate: new samples are ``sigmoid(w) * left + (1 - sigmoid(w)) * right``.

    One ``w`` per channel, starting at 0, which is linear interpolation (Stoller et al., 2018,
    section 3.2.2).

    Args:
        channels: channels of the input.

    Shape:
        ``[batch, channel, time]`` to ``[batch, channel, 2 * time]``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        left = torch.sigmoid(self.weight).unsqueeze(-1)
        return _interleave(x, left * x + (1 - left) * _next(x))


def _next(x: Tensor) -> Tensor:
    return torch.cat((x[..., 1:], x[..., -1:]), dim=-1)


def _interleave(x: Tensor, between: Tensor) -> Tensor:
    return torch.stack((x, between), dim=-1).flatten(-2)


def _middle(x: Tensor, samples: int) -> Tensor:
    start = (x.shape[-1] - samples) // 2
    return x[..., start : start + samples]
