"""A net that gives another shape than its task goes on with is refused by what it gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.base import Task
from tests.tasks import facts

TIME = 8000
GIVEN: list[tuple[str, Callable[[Tensor], Any], str]] = [
    ("separation", lambda raw: raw[..., :-1], r"[2, 2, 7999], separation needs [batch 2, outputs "),
    ("separation", lambda raw: raw[:, :1], r"[2, 1, 8000], separation needs [batch 2, outputs 2, "),
    ("autoregression", lambda raw: raw[:, 1:], r"[2, 123, 64], autoregression needs [batch 2, fra"),
    ("verification", lambda raw: raw[None], r"[1, 2, 32], verification needs [batch 2, outputs 32"),
    ("verification", lambda raw: (raw, None), "a tuple, verification needs [batch 2, outputs 32]"),
]


class Cut(nn.Module):
    """Another net, of whose outputs some are gone."""

    def __init__(self, net: Any, cut: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.cut = net, cut

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Any:
        return self.cut(self.net(x, generator=generator))


def raw_of(task: Task) -> Tensor:
    waveform = torch.randn(2, 1, TIME, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(2, dtype=torch.int64)
    return task.raw(Batch(waveform, labels, labels > -1, labels), None)


@pytest.mark.parametrize(("name", "cut", "told"), GIVEN)
@torch.no_grad()
def test_what_it_gives_and_what_is_needed_is_said(
    name: str, cut: Callable[[Tensor], Any], told: str
) -> None:
    settings = compose([f"task={name}"])
    task = build_task(settings.tree, facts.of(name), to_train=False).eval()
    assert len(raw_of(task)) == 2
    task.net = Cut(task.net, cut)  # type: ignore[assignment]
    with pytest.raises(ConfigError) as raised:
        raw_of(task)
    assert f"net=Cut gives {told}" in str(raised.value)
