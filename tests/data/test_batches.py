"""A batch on its way to a device: nothing of it stays behind."""

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.data.stems import StemBatch


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


def of_stems() -> Batch:
    """A batch that is summed when it is asked for its sources."""
    stems = torch.arange(2 * 3 * 2 * 5, dtype=torch.int16).reshape(2, 3, 2, 5)
    gain = torch.tensor([[1.0, 0.5, 2.0], [0.25, 1.0, 4.0]])
    active = torch.tensor([[True, False], [True, True]])
    return StemBatch(stems, gain, [[0, 2], [1]], active, torch.tensor([7, 4]))


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


@pytest.mark.parametrize("make", [full, of_stems])
def test_some_of_the_examples_keep_all_that_is_theirs(make: Callable[[], Batch]) -> None:
    batch = make()
    for name, value in values(batch.rows(slice(1, 2))).items():
        before = getattr(batch, name)
        assert torch.equal(value, before[1:]) if isinstance(before, torch.Tensor) else value is None
    assert len(batch.rows(slice(1, 2))) == 1


@pytest.mark.parametrize("make", [full, of_stems])
def test_a_batch_of_nobody_has_its_shapes_and_counts_nowhere(make: Callable[[], Batch]) -> None:
    batch = make()
    nobody = batch.of_nobody()
    assert nobody.index.tolist() == [-1, -1]
    assert nobody.active.shape == batch.active.shape
    assert not nobody.active.any()
    for name in ("waveform", "sources", "labels"):
        assert torch.equal(getattr(nobody, name), getattr(batch, name))
