"""A batch on its way to a device: nothing of it stays behind."""

from dataclasses import fields

import pytest
import torch

from lightning_sep.data.batch import Batch


def full() -> Batch:
    """A batch with all that any example has."""
    waveform = torch.randn(2, 1, 30, generator=torch.Generator().manual_seed(0))
    return Batch(
        waveform=waveform,
        labels=torch.tensor([[3, 1], [0, 2]]),
        active=torch.tensor([[True, False], [True, True]]),
        index=torch.tensor([7, 4]),
        sources=torch.stack([waveform / 4, 3 * waveform / 4], dim=1),
        sessions=torch.tensor([5, 9]),
    )


def values(batch: Batch) -> dict[str, object]:
    return {one.name: getattr(batch, one.name) for one in fields(batch)}


@pytest.mark.parametrize("missing", [(), ("sources", "sessions")])
def test_all_of_a_batch_goes_to_the_device(missing: tuple[str, ...]) -> None:
    batch = full()
    for name in missing:
        setattr(batch, name, None)
    moved, kept = values(batch.to("meta")), values(batch)
    assert moved.keys() == kept.keys()
    for name, value in kept.items():
        found = moved[name]
        if not isinstance(value, torch.Tensor):
            assert found == value
            continue
        assert isinstance(found, torch.Tensor)
        assert found.device.type == "meta"
        assert (found.shape, found.dtype) == (value.shape, value.dtype)


def test_a_batch_holds_the_same_after_the_move() -> None:
    batch = full()
    for name, value in values(batch.to("cpu")).items():
        before = getattr(batch, name)
        assert torch.equal(value, before) if isinstance(before, torch.Tensor) else value == before
