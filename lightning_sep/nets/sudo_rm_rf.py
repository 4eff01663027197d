"""SuDoRM-RF: successive downsampling and resampling of multi-resolution features."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_sep.checks import Arguments

EPS = 1e-8  # of the papers' normalisations


class SudoRmRf(nn.Module):
    """Masks on a learned filter bank, made by blocks that look at many time scales.

    An encoder (strided convolution) turns the mixture into frames; blocks (see `ResamplingBlock`)
    estimate one mask per source; masked frames go back to waveforms through a transposed
    convolution. Two published variants:

    - ``"original"`` (Tzinis, Wang, Smaragdis, "Sudo rm -rf", MLSP 2020, arXiv:2007.06833): ReLU
      after the encoder, masks by a softmax over the sources (a sigmoid if there is one), a decoder
      for each source.
    - ``"improved"`` (Tzinis et al., "Compute and memory efficient universal sound source
      separation", arXiv:2103.02644): no ReLU and no biases in encoder and decoder, ReLU masks, one
      decoder for all sources.

    The public code of the original variant creates a normalisation before the mask layer and
    counts it, but never applies it. ``mask_norm=False`` does the same: its parameters are there
    and counted, but not trained.

    The input is padded with zeros at its end to a multiple of `multiple_samples` and the output
    cut back. Statistics of the normalisations are taken over channels and time of one example,
    padding included: a batch changes nothing, a longer silence at the end does.

    Args:
        inputs: channels of the mixture.
        outputs: raw channels, source by source; a multiple of ``sources``. Each source's masked
            frames are decoded to ``outputs / sources`` channels, so a head that wants several
            numbers per sample gets them from the decoder, not from more masks.
        variant: ``"original"`` or ``"improved"``.
        blocks: number of resampling blocks.
        width: channels between the blocks (`out_channels` in the public code).
        inner_width: channels inside a block (`in_channels` there).
        depth: time scales inside a block, each half the rate of the one above.
        kernel: samples per encoder and decoder filter; odd. The stride is half of it.
        basis: filters of the encoder (even for the original variant).
        mask_norm: apply the normalisation before the mask layer of the original variant; the
            improved one has none.
        sources: number of masks; ``None`` takes one for each output. Where ``outputs`` hold fewer
            sources of ``inputs`` channels, as when the task takes the last source as the mixture
            minus the others, there are no more masks than those.

    Shape:
        ``[batch, inputs, time]`` to ``[batch, outputs, time]``, any time of at least one sample.

    Raises:
        ConfigError: a setting cannot be used.

    Example:
        >>> net = SudoRmRf(inputs=1, outputs=2, blocks=1, width=8, inner_width=16, basis=32)
        >>> net(torch.zeros(1, 1, 1001)).shape
        torch.Size([1, 2, 1001])
    """

    material: ClassVar[str] = "waveform"

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        variant: Literal["original", "improved"] = "original",
        blocks: int = 16,
        width: int = 128,
        inner_width: int = 512,
        depth: int = 5,
        kernel: int = 21,
        basis: int = 512,
        mask_norm: bool = False,
        sources: int | None = None,
    ) -> None:
        super().__init__()
        arguments = Arguments("SudoRmRf")
        arguments.whole("inputs", inputs)
        arguments.whole("outputs", outputs)
        arguments.one_of("variant", variant, ("original", "improved"))
        arguments.whole("blocks", blocks)
        arguments.whole("width", width)
        arguments.whole("inner_width", inner_width)
        arguments.whole("depth", depth)
        # odd, or a padded frame would be one sample off; below 3 there is no stride
        arguments.whole("kernel", kernel, odd=True, at_least=3)
        arguments.whole("basis", basis)
        arguments.yes_or_no("mask_norm", mask_norm)
        if sources is not None:
            arguments.whole("sources", sources)
        arguments.check()
        # fewer sources than are mixed where the task takes the last as a difference
        masks = outputs if sources is None else min(sources, max(outputs // inputs, 1))
        original = variant == "original"
        if outputs % masks:
            arguments.refuse("sources", sources, f"it has to divide the {outputs} raw outputs")
        if original and basis % 2:
            arguments.refuse("basis", basis, "an even number is needed by variant=original")
        if mask_norm and not original:
            arguments.refuse("mask_norm", mask_norm, "only variant=original has this normalisation")
        arguments.check()

        self.inputs, self.outputs, self.sources = inputs, outputs, masks
        self.original, self.basis = original, basis
        stride = kernel // 2
        self.stride_samples = stride
        # the frames must halve depth - 1 times without a remainder
        self.multiple_samples = stride * 2 ** (depth - 1)

        self.encoder = nn.Conv1d(
            inputs, basis, kernel, stride=stride, padding=stride, bias=original
        )
        self.norm = nn.GroupNorm(1, basis, eps=EPS)
        self.bottleneck = nn.Conv1d(basis, width, 1)
        self.blocks = nn.ModuleList(
            ResamplingBlock(width=width, inner_width=inner_width, depth=depth, original=original)
            for _ in range(blocks)
        )
        self.mask: nn.Module
        if original:
            self.mask = OriginalMask(width=width, basis=basis, sources=masks, norm=mask_norm)
        else:
            self.mask = nn.Sequential(
                nn.PReLU(), nn.Conv1d(width, masks * basis, 1), nn.Unflatten(1, (masks, basis))
            )
        self.decoder = nn.ConvTranspose1d(
            masks * basis,
            outputs,
            kernel,
            stride=stride,
            padding=stride,
            output_padding=stride - 1,
            groups=masks if original else 1,
            bias=original,
        )
        if not original:
            nn.init.xavier_uniform_(self.encoder.weight)
            nn.init.xavier_uniform_(self.decoder.weight)

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Raw sources, as long as the input.

        Args:
            x: ``[batch, inputs, time]``.
            generator: not used, this net has no noise.

        Returns:
            ``[batch, outputs, time]``.
        """
        time = x.shape[-1]
        frames = self.encode(x)
        y = self.bottleneck(self.norm(frames))
        for block in self.blocks:
            y = block(y)
        masks = self.mask(y)  # [batch, source, basis, frame]
        if not self.original:
            masks = F.relu(masks)
        elif self.sources == 1:
            masks = torch.sigmoid(masks)  # a softmax over one source is 1, whatever goes in
        else:
            masks = torch.softmax(masks, dim=1)
        waveforms: Tensor = self.decoder((masks * frames.unsqueeze(1)).flatten(1, 2))
        return waveforms[..., :time]

    def encode(self, x: Tensor) -> Tensor:
        """Frames of the filter bank.

        Args:
            x: ``[batch, inputs, time]``.

        Returns:
            ``[batch, basis, frame]``, one frame per stride, of the zero-padded input.
        """
        missing = -x.shape[-1] % self.multiple_samples
        frames: Tensor = self.encoder(F.pad(x, (0, missing)))
        return F.relu(frames) if self.original else frames


class ResamplingBlock(nn.Module):
    """Looks at its input at several rates at once and adds what it found.

    1x1 expansion, a depthwise convolution, then depthwise convolutions of stride 2 one after
    the other; on the way back each scale is repeated to twice its rate and added to the one above;
    1x1 projection, residual connection.

    Args:
        width: channels outside.
        inner_width: channels inside.
        depth: number of time scales.
        original: of the two published variants, the one with a slope per channel in its PReLUs and
            normalisations after the projection and after the residual sum.

    Shape:
        ``[batch, width, frame]`` to the same; frames a multiple of ``2 ** (depth - 1)``.
    """

    def __init__(self, *, width: int, inner_width: int, depth: int, original: bool) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv1d(width, inner_width, 1), _norm_prelu(inner_width, original)
        )
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(
                    inner_width,
                    inner_width,
                    5,
                    stride=1 if scale == 0 else 2,
                    padding=2,
                    groups=inner_width,
                ),
                nn.GroupNorm(1, inner_width, eps=EPS),
            )
            for scale in range(depth)
        )
        self.merged = _norm_prelu(inner_width, original)
        self.project = nn.Conv1d(inner_width, width, 1)
        self.projected = nn.GroupNorm(1, width, eps=EPS) if original else nn.Identity()
        self.output = _norm_prelu(width, original) if original else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        scales = []
        for scale in self.scales:
            y = scale(y)
            scales.append(y)
        for above in reversed(scales[:-1]):
            y = above + F.interpolate(y, scale_factor=2.0, mode="nearest")
        projected = self.projected(self.project(self.merged(y)))
        out: Tensor = self.output(projected + x)
        return out


class OriginalMask(nn.Module):
    """Mask scores of the original variant: one filter per source slides over the filter bank.

    Args:
        width: channels of the input.
        basis: filters of the encoder; even.
        sources: number of masks.
        norm: apply the normalisation; else it is only there, without a gradient.

    Shape:
        ``[batch, width, frame]`` to ``[batch, source, basis, frame]``.
    """

    def __init__(self, *, width: int, basis: int, sources: int, norm: bool) -> None:
        super().__init__()
        self.basis, self.sources, self.applies_norm = basis, sources, norm
        self.reshape = nn.Identity() if width == basis else nn.Conv1d(width, basis, 1)
        self.norm = nn.GroupNorm(1, basis, eps=EPS).requires_grad_(norm)
        self.slide = nn.Conv1d(1, sources, basis + 1)  # never called: holds the filters

    def forward(self, x: Tensor) -> Tensor:
        y = self.reshape(x)
        if self.applies_norm:
            y = self.norm(y)
        # One matrix product per frame: sliding a tall filter as a convolution takes far longer
        # on a CPU. Row n of the matrix is the filter, centred on n and cut off at both ends.
        side = self.basis // 2 - 1
        filters = F.pad(self.slide.weight.squeeze(1), (side, side))
        matrix = filters.unfold(-1, self.basis, 1).flip(1)  # [source, basis, basis]
        scores = torch.unflatten(matrix.flatten(0, 1) @ y, 1, (self.sources, self.basis))
        assert self.slide.bias is not None
        return scores + self.slide.bias[:, None, None]


def _norm_prelu(channels: int, original: bool) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(1, channels, eps=EPS), nn.PReLU(channels if original else 1))
