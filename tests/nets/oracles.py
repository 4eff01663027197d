"""What the nets must compute, written again by loops in NumPy: nothing here calls the package."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]  # as in a state dict


def convolved(
    x: Array, weight: Array, bias: Array | None, *, stride: int = 1, padding: int, groups: int = 1
) -> Array:
    """``x [channel, time]`` under ``weight [output, channel / groups, tap]``."""
    outputs, inputs, taps = weight.shape
    x = np.pad(x, ((0, 0), (padding, padding)))
    made = np.zeros((outputs, (x.shape[1] - taps) // stride + 1))
    for output in range(outputs):
        first = output // (outputs // groups) * inputs
        for place in range(made.shape[1]):
            seen = x[first : first + inputs, place * stride : place * stride + taps]
            made[output, place] = (weight[output] * seen).sum()
    return made if bias is None else made + bias[:, None]


def bent(x: Array, slope: float | Array) -> Array:
    return np.where(x > 0, x, np.reshape(slope, (-1, 1)) * x)


def wave_unet(x: Array, weights: Weights, *, levels: int, leak: float, context: bool) -> Array:
    """Stoller et al., table 1: ``[channel, time]`` in, without padding shorter if ``context``."""

    def conv(name: str, signal: Array) -> Array:
        weight = weights[f"{name}.weight"]
        padding = 0 if context else weight.shape[2] // 2
        return convolved(signal, weight, weights[f"{name}.bias"], padding=padding)

    def cropped(signal: Array, time: int) -> Array:
        cut = (signal.shape[1] - time) // 2
        return signal[:, cut : cut + time]

    y, skips = x, []
    for level in range(levels):
        y = bent(conv(f"down.{level}", y), leak)
        skips.append(y)
        y = y[:, ::2]
    y = bent(conv("bottom", y), leak)
    for level in range(levels):
        skip = skips.pop()
        left = 1 / (1 + np.exp(-weights.get(f"upsample.{level}.weight", np.zeros(len(y)))))
        risen = np.zeros((len(y), 2 * y.shape[1] - 1 if context else skip.shape[1]))
        for place in range(risen.shape[1]):
            right = min((place + 1) // 2, y.shape[1] - 1)
            risen[:, place] = left * y[:, place // 2] + (1 - left) * y[:, right]
        both = np.concatenate([cropped(skip, risen.shape[1]), risen])
        y = bent(conv(f"up.{level}", both), leak)
    return conv("output", np.concatenate([cropped(x, y.shape[1]), y]))


def sudo_rm_rf(
    x: Array,
    weights: Weights,
    *,
    original: bool,
    mask_norm: bool,
    blocks: int,
    depth: int,
    sources: int,
    outputs: int,
) -> Array:
    """Tzinis et al., either variant: ``[channel, time]`` in, ``[output, time]`` out."""

    def conv(name: str, signal: Array, *, padding: int = 0, **how: int) -> Array:
        weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        return convolved(signal, weight, bias, padding=padding, **how)

    def norm(name: str, signal: Array) -> Array:
        flat = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-8)
        return weights[f"{name}.weight"][:, None] * flat + weights[f"{name}.bias"][:, None]

    def norm_prelu(name: str, signal: Array) -> Array:
        return bent(norm(f"{name}.0", signal), weights[f"{name}.1.weight"])

    time = x.shape[1]
    basis, _, kernel = weights["encoder.weight"].shape
    stride = kernel // 2
    x = np.pad(x, ((0, 0), (0, -time % (stride * 2 ** (depth - 1)))))
    frames = conv("encoder", x, stride=stride, padding=stride)
    if original:
        frames = np.maximum(frames, 0)
    y = conv("bottleneck", norm("norm", frames))
    for block in range(blocks):
        at, before, scales = f"blocks.{block}", y, []
        y = norm_prelu(f"{at}.expand.1", conv(f"{at}.expand.0", y))
        for scale in range(depth):
            name, step = f"{at}.scales.{scale}", 1 if scale == 0 else 2
            y = norm(f"{name}.1", conv(f"{name}.0", y, stride=step, padding=2, groups=len(y)))
            scales.append(y)
        for above in reversed(scales[:-1]):
            y = above + y.repeat(2, axis=1)
        y = conv(f"{at}.project", norm_prelu(f"{at}.merged", y))
        if original:
            y = norm_prelu(f"{at}.output", norm(f"{at}.projected", y) + before)
        else:
            y = y + before

    count = y.shape[1]
    if original:
        y = conv("mask.reshape", y)
        if mask_norm:
            y = norm("mask.norm", y)
        around = np.pad(y, ((basis // 2, basis // 2), (0, 0)))
        scores = np.zeros((sources, basis, count))
        for source in range(sources):
            filters = weights["mask.slide.weight"][source, 0]
            for place in range(basis):
                scores[source, place] = filters @ around[place : place + basis + 1]
            scores[source] += weights["mask.slide.bias"][source]
        shares = np.exp(scores)
        masks = shares / (shares.sum(0) if sources > 1 else shares + 1)
    else:
        y = conv("mask.1", bent(y, weights["mask.0.weight"]))
        masks = np.maximum(y.reshape(sources, basis, count), 0)

    masked = masks * frames
    filters, each = weights["decoder.weight"], outputs // sources
    long = np.zeros((outputs, count * stride + kernel))
    for output in range(outputs):
        source = output // each
        for frame in range(count):
            if original:  # a decoder for each source
                own = filters[source * basis : (source + 1) * basis, output % each]
                part = masked[source, :, frame] @ own
            else:
                part = masked[:, :, frame].reshape(-1) @ filters[:, output]
            long[output, frame * stride : frame * stride + kernel] += part
        if original:
            long[output] += weights["decoder.bias"][output]
    return long[:, stride : stride + time]
