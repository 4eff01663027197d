"""Optimizers as settings: what moves the weights, without the weights.

Each class holds checked numbers and builds the torch optimizer once there are parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lightning_sep.checks import finite_number

_FUSED_DEVICES = ("cpu", "cuda")  # on a CPU the fused kernel is 2 to 5 times faster than the loop


class Optimizer(ABC):
    """Settings that become a torch optimizer.

    Args:
        learning_rate: step size.
        weight_decay: pull of the weights towards zero.
        eps: keeps the division by small gradients finite.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, learning_rate: float, weight_decay: float, eps: float) -> None:
        finite_number("learning_rate", learning_rate, above=0, meaning="or nothing would be learnt")
        finite_number("weight_decay", weight_decay, at_least=0)
        finite_number("eps", eps, above=0, meaning="what it is added to may be 0")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.eps = eps

    @abstractmethod
    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        """The optimizer of ``parameters``.

        Args:
            parameters: what is trained.
            fused: use the fused kernel where there is one. Lightning cannot clip gradients of a
                fused optimizer under mixed precision: ask for ``False`` there.
        """


class Adam(Optimizer):
    """Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015).

    Args:
        learning_rate: step size.
        betas: memory of the mean and of the square of the gradient, each in [0, 1).
        weight_decay: added to the gradient.
        eps: added to the root of the mean square.

    Raises:
        ConfigError: a number is out of its range.

    Example:
        >>> Adam(0.001, (0.9, 0.999), 0.0).build(nn.Linear(1, 1).parameters()).defaults["lr"]
        0.001
    """

    def __init__(
        self,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate, weight_decay, eps)
        for beta in betas:
            finite_number("betas", beta, at_least=0, below=1)
        self.betas = betas

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        held = list(parameters)
        return torch.optim.Adam(
            held,
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=fused and _can_fuse(held),
        )


class AdamW(Adam):
    """Adam with decay apart from the gradient (Loshchilov and Hutter, ICLR 2019).

    Args:
        learning_rate: step size.
        betas: memory of the mean and of the square of the gradient, each in [0, 1).
        weight_decay: part of each weight taken off per step, times ``learning_rate``.
        eps: added to the root of the mean square.

    Raises:
        ConfigError: a number is out of its range.
    """

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        held = list(parameters)
        return torch.optim.AdamW(
            held,
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=fused and _can_fuse(held),
        )


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, lecture notes, 2012): decay 0.9.

    Args:
        learning_rate: step size.
        decay: memory of the square of the gradient, in [0, 1).
        momentum: memory of the step, in [0, 1).
        weight_decay: added to the gradient.
        eps: added to the mean square of the gradient.
        eps_in_root: add it before the root is taken, as Lasagne and TensorFlow do; else after,
            as torch does. With 1e-6, a gradient far below 1e-3 moves by less in the first case.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        learning_rate: float,
        decay: float,
        momentum: float,
        weight_decay: float,
        eps: float = 1e-6,
        eps_in_root: bool = True,
    ) -> None:
        super().__init__(learning_rate, weight_decay, eps)
        finite_number("decay", decay, at_least=0, below=1)
        finite_number("momentum", momentum, at_least=0, below=1)
        self.decay = decay
        self.momentum = momentum
        self.eps_in_root = eps_in_root

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        kind: Any = RootRMSprop if self.eps_in_root else torch.optim.RMSprop
        made: torch.optim.Optimizer = kind(
            list(parameters),
            lr=self.learning_rate,
            alpha=self.decay,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return made


class RootRMSprop(torch.optim.Optimizer):
    """``step = rate * gradient / sqrt(mean square + eps)``; all else as in torch, not centred.

    Args:
        parameters: what is trained.
        lr: step size.
        alpha: memory of the square of the gradient.
        eps: added to the mean square of the gradient.
        momentum: memory of the step.
        weight_decay: added to the gradient.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients at hand, of all parameters of a group in one go.

        Args:
            closure: computes the gradients anew and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [one for one in group["params"] if one.grad is not None]
            if not weights:
                continue
            gradients: Any = [one.grad for one in weights]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
            for one in weights:
                if not self.state[one]:
                    self.state[one]["square_avg"] = torch.zeros_like(one)
                    self.state[one]["momentum_buffer"] = torch.zeros_like(one)
            squares = [self.state[one]["square_avg"] for one in weights]
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            steps: Any = torch._foreach_div(gradients, roots)
            if group["momentum"]:
                buffers = [self.state[one]["momentum_buffer"] for one in weights]
                torch._foreach_mul_(buffers, group["momentum"])
                torch._foreach_add_(buffers, steps)
                steps = buffers
            torch._foreach_add_(weights, steps, alpha=-group["lr"])
        return loss


class Adadelta(Optimizer):
    """Adadelta (Zeiler, arXiv:1212.5701): decay 0.95, eps 1e-6, added before the roots.

    Args:
        learning_rate: factor on the steps that the method finds by itself.
        decay: memory of the squares of gradient and step, in [0, 1).
        weight_decay: added to the gradient.
        eps: added to both mean squares; how large the first steps are.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self, learning_rate: float, decay: float, weight_decay: float, eps: float = 1e-6
    ) -> None:
        super().__init__(learning_rate, weight_decay, eps)
        finite_number("decay", decay, at_least=0, below=1)
        self.decay = decay

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(
            list(parameters),
            lr=self.learning_rate,
            rho=self.decay,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(one.device.type in _FUSED_DEVICES and one.is_floating_point() for one in parameters)
