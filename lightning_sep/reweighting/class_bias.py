"""Some classes count more than others."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.errors import ConfigError
from lightning_sep.functional.numbers import row
from lightning_sep.reweighting.base import Reweighting


class ClassBias(Reweighting):
    """Softmax of a constant per class (Tzinis, Bralios, Smaragdis, arXiv:2010.13228).

    An example of several members (the sources of a mixture) gets the mean of their constants.

    Args:
        gamma: a number for each class that shall not have 0, by the name of the class or of its
            group (``{speech: 3}``); a class's own name goes before that of its group. A difference
            of 1 is a factor of e in weight. A row of numbers counts classes by number; those
            beyond it, and negative class numbers, get 0.

    Raises:
        ConfigError: not numbers, or not finite.
    """

    needs_length: ClassVar[bool] = False
    gamma: Tensor

    def __init__(self, gamma: Mapping[str, float] | Sequence[float] | Tensor) -> None:
        super().__init__()
        named = isinstance(gamma, Mapping)
        self.named: dict[str, float] = {}
        if isinstance(gamma, Mapping):
            numbers = row("gamma", list(gamma.values()), meaning="by name; larger weighs more")
            self.named = dict(zip(map(str, gamma), numbers.tolist(), strict=True))
            values = numbers.new_zeros(0)
        else:
            values = row("gamma", gamma, meaning="one number per class; larger weighs more")
        self.known = not (named and self.named)  # whether the names are numbers by now
        self.register_buffer("gamma", values, persistent=False)

    def prepare(self, *, steps: int, classes: Sequence[tuple[str, ...]]) -> None:
        names = {name for one in classes for name in one}
        for name in self.named:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ConfigError(
                    f"reweighting.gamma: no class or group is called '{name}'.{hint} "
                    f"Known are {', '.join(sorted(names))}"
                )
        if self.named:
            values = [
                next((self.named[name] for name in one if name in self.named), 0.0)
                for one in classes
            ]
            self.gamma = torch.tensor(values, device=self.gamma.device)
            self.known = True

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        if not self.known:
            raise ConfigError(
                "a bias by name has to know the classes: call prepare(steps=..., classes=[...])"
            )
        known = self.gamma.shape[-1]
        values = torch.cat([self.gamma, self.gamma.new_zeros(1)], dim=-1).to(losses)
        listed = (groups >= 0) & (groups < known)
        return values[torch.where(listed, groups, known)].mean(-1)
