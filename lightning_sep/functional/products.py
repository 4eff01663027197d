"""Inner products of signals, summed in float64 and differentiated in float32."""

import math
from typing import Any

import torch
from torch import Tensor


def inner_products(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All that ratios of energies need, in float64.

    In float32 the products of two nearly equal signals cancel; of float32 signals they can neither
    over- nor underflow here. What comes back to the signals are float64 numbers times float32
    signals: the backward pass needs no float64 copy of anything as long as a signal. Of signals
    below 1e-15 or above 1e15 the values are right, the gradients no more than finite.

    Args:
        estimate: ``[..., estimate, time]`` float32.
        target: ``[..., target, time]`` float32.

    Returns:
        The products ``[..., estimate, target]``, and the energies ``[..., estimate]`` and
        ``[..., target]``.
    """
    products: tuple[Tensor, Tensor, Tensor] = _Products.apply(estimate, target)  # type: ignore[no-untyped-call]
    return products


def sums_in_float64(signal: Tensor) -> bool:
    """Whether :func:`inner_products` is meant for this signal: float32, where there is float64."""
    return signal.dtype == torch.float32 and signal.device.type != "mps"


_AT_ONCE = 1 << 17  # samples: a megabyte of float64


class _Products(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, (count, time), others = estimate.shape[:-2], estimate.shape[-2:], target.shape[-2]
        number = math.prod(batch)
        one, two = estimate.reshape(number, count, time), target.reshape(number, others, time)
        # A few examples at a time, whose copies in float64 stay in the processor's cache.
        size = max(_AT_ONCE // max((count + others) * time, 1), 1)
        parts = [
            (long @ wide.mT, torch.linalg.vecdot(long, long), torch.linalg.vecdot(wide, wide))
            for long, wide in (
                (few.double(), fewer.double())
                for few, fewer in zip(torch.split(one, size), torch.split(two, size), strict=True)
            )
        ]
        products, whole, reference = (torch.cat(part) for part in zip(*parts, strict=True))
        return (
            products.reshape(*batch, count, others),
            whole.reshape(*batch, count),
            reference.reshape(*batch, others),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        of_product, of_estimate, of_target = (_finite(one) for one in gradients)
        estimate, target = ctx.saved_tensors
        to_estimate = to_target = None
        if ctx.needs_input_grad[0]:
            to_estimate = torch.addcmul(
                of_product @ target, 2 * of_estimate.unsqueeze(-1), estimate
            )
        if ctx.needs_input_grad[1]:
            to_target = torch.addcmul(of_product.mT @ estimate, 2 * of_target.unsqueeze(-1), target)
        return to_estimate, to_target


def _finite(coefficients: Tensor) -> Tensor:
    largest = torch.finfo(torch.float32).max / 4
    return coefficients.clamp(-largest, largest).float()
