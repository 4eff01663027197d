"""A step on a device that gives nothing back: ``meta`` tensors have shapes, and no values to wait
for. What asks for one fails there: an ``item``, a boolean index, a copy to the host."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_sep import callbacks
from lightning_sep.callbacks.reweight import Reweight
from lightning_sep.data.batch import Batch
from lightning_sep.functional import step_sums
from lightning_sep.parts import build_task
from lightning_sep.settings import build, compose
from tests.tasks.processes import FACTS

SIZE = 6


class Sent(TorchFunctionMode):
    """Names what brings host memory to the device and makes the host wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._copies = _Copies(self.found)

    def __enter__(self) -> "Sent":
        self._copies.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._copies.__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # Numbers become a tensor out of sight of the other mode.
        if func in (torch.tensor, torch.as_tensor) and made.is_meta and not _tensors(args):
            self.found.append(str(func))
        return made


class _Copies(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        from_host = any(one.device.type == "cpu" for one in _tensors(args))
        waits = not kwargs.get("non_blocking", False)
        if isinstance(made, Tensor) and made.is_meta and from_host and waits:
            self.found.append(str(func))
        return made


def _tensors(args: Any) -> list[Tensor]:
    return [one for one in torch.utils._pytree.tree_leaves(args) if isinstance(one, Tensor)]


def batch_of(task: str) -> Batch:
    labels = torch.arange(SIZE) // 2
    if task != "separation":
        return Batch(torch.randn(SIZE, 1, 640), labels, labels >= 0, torch.arange(SIZE))
    sources = torch.randn(SIZE, 2, 1, 512)
    two = torch.stack([labels, labels + 1], dim=1)
    return Batch(sources.sum(1), two, two >= 0, torch.arange(SIZE), sources)


CASES = {
    "separation": ["net=sudo_rm_rf_small", "reweighting=loss_softmax", "reweighting.alpha=1"],
    "separation, wave_unet": ["net=wave_unet_small"],
    "separation, own loss": ["head=mu_law_softmax"],
    "separation, class bias": ["loss=si_sdr", "reweighting=class_bias", "reweighting.gamma={a: 1}"],
    "autoregression, mixture": ["head=logistic_mixture"],
    "autoregression, curriculum": ["reweighting=curriculum", "reweighting.beta_start=-1"],
    "autoregression, scheduled": ["task.teacher_forcing_k=5"],
    "verification, softmax": [],
    "verification, prelu": ["head=prelu"],
    "verification, sphere": ["head=unit_sphere", "loss=contrastive"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_training_and_of_evaluation_waits_for_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (step_sums, callbacks.reweight):  # sums are made as well
        monkeypatch.setattr(module, "AT_ONCE", 2)
    name = case.split(",")[0]
    settings = compose([f"task={name}", *CASES[case]])
    task: Any = build_task(settings.tree, FACTS[name]).train()
    reweight = Reweight(build(settings.tree["reweighting"]), steps=100)
    reweight.setup(None, task, "fit")
    task.to("meta")
    # The generators of GPUs are made there; of this device there are none.
    task.generator = lambda batch: torch.Generator()
    reweight.on_train_start(None, task)
    task.on_train_epoch_start()
    reweight.on_train_epoch_start(None, task)
    given, sent = batch_of(name), Sent()
    for step in range(3):
        with sent:
            batch = task.transfer_batch_to_device(given, torch.device("meta"), 0)
            task.training_step(batch, step).backward()
            reweight.on_train_batch_end(None, task)
        if step == 0:
            sent.found.clear()  # constants are sent once
    assert sent.found == []
    task.eval()
    task.on_validation_epoch_start()
    for step in range(2):
        with sent, torch.no_grad():
            batch = task.transfer_batch_to_device(given, torch.device("meta"), 0)
            task.validation_step(batch, step)
        if step == 0:
            sent.found.clear()
    assert sent.found == []


@pytest.mark.parametrize(
    "asks",
    [
        lambda task, raw: float(raw.sum()),
        lambda task, raw: raw[raw > 0],
        lambda task, raw: raw.cpu(),
        lambda task, raw: raw.tolist(),
    ],
)
def test_asking_for_a_value_fails_there(asks: Any) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        asks(None, torch.ones(3, device="meta"))


def test_sending_a_number_is_seen() -> None:
    with Sent() as sent:
        torch.ones(2).to("meta")
        torch.as_tensor(3.0, device="meta")
        torch.ones(2).to("meta", non_blocking=True)
        torch.full((), 3.0, device="meta")
        torch.as_tensor(torch.ones(2, device="meta"))
    assert len(sent.found) == 2


def test_all_of_a_batch_is_sent_without_a_wait() -> None:
    batch = batch_of("separation")
    with Sent() as sent:
        moved = batch.to("meta", non_blocking=True)
    assert sent.found == []
    assert all(value is None or value.is_meta for value in vars(moved).values())
    with Sent() as sent:
        batch.to("meta")
    assert len(sent.found) == 5
