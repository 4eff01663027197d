"""Optimizers as settings: what moves the weights, without the weights.

Each class holds checked numbers and builds the torch optimizer once there are parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from lightning_sep.errors import ConfigError

_FUSED_DEVICES = ("cpu", "cuda")  # on a CPU the fused kernel is 2 to 5 times faster than the loop


class Optimizer(ABC):
    """Settings that become a torch optimizer.

    Args:
        learning_rate: step size.
        weight_decay: pull of the weights towards zero.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        if not learning_rate > 0:
            raise ConfigError(
                f"learning_rate must be positive, got {learning_rate}: nothing would be learnt"
            )
        if not weight_decay >= 0:
            raise ConfigError(f"weight_decay must be 0 or more, got {weight_decay}")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

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

    Raises:
        ConfigError: a number is out of its range.

    Example:
        >>> Adam(0.001, (0.9, 0.999), 0.0).build(nn.Linear(1, 1).parameters()).defaults["lr"]
        0.001
    """

    def __init__(
        self, learning_rate: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        for beta in betas:
            _check_fraction("betas", beta)
        self.betas = betas

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        held = list(parameters)
        return torch.optim.Adam(
            held,
            lr=self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=fused and _can_fuse(held),
        )


class AdamW(Adam):
    """Adam with decay apart from the gradient (Loshchilov and Hutter, ICLR 2019).

    Args:
        learning_rate: step size.
        betas: memory of the mean and of the square of the gradient, each in [0, 1).
        weight_decay: part of each weight taken off per step, times ``learning_rate``.

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
            weight_decay=self.weight_decay,
            fused=fused and _can_fuse(held),
        )


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, lecture notes, 2012).

    Args:
        learning_rate: step size.
        decay: memory of the square of the gradient, in [0, 1).
        momentum: memory of the step, in [0, 1).
        weight_decay: added to the gradient.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self, learning_rate: float, decay: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        _check_fraction("decay", decay)
        _check_fraction("momentum", momentum)
        self.decay = decay
        self.momentum = momentum

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            list(parameters),
            lr=self.learning_rate,
            alpha=self.decay,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


class Adadelta(Optimizer):
    """Adadelta (Zeiler, arXiv:1212.5701).

    Args:
        learning_rate: factor on the steps that the method finds by itself.
        decay: memory of the squares of gradient and step, in [0, 1).
        weight_decay: added to the gradient.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, learning_rate: float, decay: float, weight_decay: float) -> None:
        super().__init__(learning_rate, weight_decay)
        _check_fraction("decay", decay)
        self.decay = decay

    def build(
        self, parameters: Iterable[nn.Parameter], *, fused: bool = True
    ) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(
            list(parameters),
            lr=self.learning_rate,
            rho=self.decay,
            weight_decay=self.weight_decay,
        )


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be from 0 up to, not with, 1, got {value}")


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(one.device.type in _FUSED_DEVICES and one.is_floating_point() for one in parameters)
