"""What two processes compute of halves of the same batch."""

import types
from typing import Any

import torch


def reweigh(rank: int, world: int) -> dict[str, Any]:
    """Weights and gradients of two ranks with (-20, -10) and (0, 5), then with unequal counts."""
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from lightning_sep.callbacks.reweight import Reweight
    from lightning_sep.functional.masking import weighted_sum
    from lightning_sep.reweighting.class_bias import ClassBias
    from lightning_sep.reweighting.gather import global_weights
    from lightning_sep.reweighting.loss_softmax import LossSoftmax

    every = torch.ones(2, dtype=torch.bool)
    groups = torch.zeros(2, 1, dtype=torch.int64)
    losses = torch.tensor([[-20.0, -10.0], [0.0, 5.0]], dtype=torch.float64)[rank]
    known = global_weights(LossSoftmax(0.1), losses, groups, every, 0)

    shares = UNEQUAL[rank]
    mask = MASKS[rank]
    uneven = global_weights(
        LossSoftmax(0.1), shares, torch.zeros(len(shares), 1, dtype=torch.int64), mask, 0
    )
    biased = global_weights(ClassBias([0.0, 3.0]), shares, CLASSES[rank], mask, 0)

    torch.manual_seed(0)
    net = DistributedDataParallel(nn.Linear(3, 1).double())
    example_losses = 10 * net(INPUTS[rank]).squeeze(-1).square()
    weights = global_weights(
        LossSoftmax(0.1), example_losses, torch.zeros(len(shares), 1).long(), mask, 0
    )
    weighted_sum(example_losses, weights, mask).backward()
    task = types.SimpleNamespace(step_weights=known / 2, epoch_metrics={})
    callback = Reweight(LossSoftmax(0.1))
    callback.on_train_batch_end(None, task)
    callback.on_train_epoch_end(None, task)
    return {
        "effective_batch": task.epoch_metrics["train/effective_batch"],
        "counted": int(callback.histogram[0].sum()),
        "known": known,
        "uneven": uneven,
        "biased": biased,
        "gradient": net.module.weight.grad,
    }


UNEQUAL = [
    torch.tensor([-20.0, -10.0, 3.0, torch.nan], dtype=torch.float64),
    torch.tensor([5.0], dtype=torch.float64),
]
MASKS = [torch.tensor([True, True, False, True]), torch.tensor([True])]
CLASSES = [torch.tensor([[0], [1], [1], [0]]), torch.tensor([[0]])]
INPUTS = [
    torch.tensor([[1.0, 0, 2], [0.5, 1, -1], [3, 1, 1], [0, 1, 0]], dtype=torch.float64),
    torch.tensor([[-1.0, 2, 0.3]], dtype=torch.float64),
]


def score(rank: int, world: int) -> dict[str, Any]:
    """Metrics of two ranks that hold unequal parts of the same examples."""
    from lightning_sep.metrics.next_frame import NextFrameR2
    from lightning_sep.metrics.si_sdr_improvement import SiSdrImprovement

    found: dict[str, Any] = {}
    for metric, batches in [
        (SiSdrImprovement(), separation_batches(rank)),
        (NextFrameR2(), frame_batches(rank)),
    ]:
        for batch in batches:
            metric.update(**batch)
        found[type(metric).__name__] = (metric.compute(), metric.values())
    return found


def _parts(rank: int | None) -> list[list[int]]:
    """Examples of each batch: unequal shares, one of them twice, as a sampler would pad them."""
    parts = [[[0, 2], [4]], [[1, 3, 0]]]
    return [[0, 1, 2, 3, 4]] if rank is None else parts[rank]


def _draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def separation_batches(rank: int | None) -> list[dict[str, torch.Tensor]]:
    target = _draw(5, 2, 200, seed=0)
    active = torch.ones(5, 2, dtype=torch.bool)
    active[1, 0] = False
    target = target * active.unsqueeze(-1)
    estimate = target + _draw(5, 2, 200, seed=1) * torch.linspace(0.1, 2, 10).reshape(5, 2, 1)
    return [
        {
            "estimate": estimate[part],
            "target": target[part],
            "mixture": target[part].sum(1),
            "mask": active[part],
            "index": torch.tensor(part),
        }
        for part in _parts(rank)
    ]


def frame_batches(rank: int | None) -> list[dict[str, torch.Tensor]]:
    frames = _draw(5, 6, 40, seed=2)
    estimate = frames[:, 1:] + 0.3 * _draw(5, 5, 40, seed=3)
    return [
        {
            "estimate": estimate[part],
            "target": frames[part][:, 1:],
            "previous": frames[part][:, :-1],
            "index": torch.tensor(part),
        }
        for part in _parts(rank)
    ]
