"""Difference output: the last source is the mixture minus what the head makes of the others."""

import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.heads.base import WaveformHead
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.separation import Separation
from tests import contracts
from tests.tasks import facts
from tests.tasks.test_separation_by_value import batch_of
from tests.tasks.test_separation_by_value import task_of as wild_task_of

HEADS = contracts.entries_of("head", WaveformHead)
REGRESSION = [name for name in HEADS if not contracts.target("head", name).brings_loss]
OTHERS = [name for name in HEADS if name not in REGRESSION]


def task_of(*overrides: str, sources: int = 3) -> Separation:
    settings = compose(
        ["task=separation", "task.difference=true", f"task.sources={sources}", *overrides]
    )
    task = build_task(settings.tree, facts.MIXTURES)
    assert isinstance(task, Separation)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(4)  # raw values beyond every bound
    return task


@pytest.mark.parametrize("net", ["wave_unet_small", "sudo_rm_rf_small"])
@pytest.mark.parametrize("head", REGRESSION)
def test_sources_add_up_to_the_mixture_in_training(head: str, net: str) -> None:
    task, batch = task_of(f"head={head}", f"net={net}").train(), batch_of(3)
    mixture = batch.waveform.float()
    raw = task.separate_raw(mixture)
    assert raw.shape[1] == 2
    raw = 3 * raw / raw.abs().max()  # beyond every bound
    sources = task.seen(raw, mixture).detach()
    assert sources.shape == (4, 3, 1, 240)
    assert float((sources.sum(1) - mixture).abs().max()) < 1e-6


@pytest.mark.parametrize("head", REGRESSION)
def test_the_head_is_on_the_predicted_sources_and_not_on_the_difference(head: str) -> None:
    task, batch = task_of(f"head={head}", sources=2).double().train(), batch_of()
    raw = task.separate_raw(batch.waveform)
    one = {
        "tanh": raw.tanh(),
        "sine": raw.sin(),
        "cosine": raw.cos(),
        "hard_clip": raw.clamp(-1, 1),
        "straight_through_clip": raw.clamp(-1, 1),
        "clip_at_eval": raw,
        "linear": raw,
    }[head][:, 0, ..., 0]
    expected = torch.stack([one, batch.waveform - one], dim=1)
    torch.testing.assert_close(task.seen(raw, batch.waveform), expected)


@pytest.mark.parametrize("head", [head for head in REGRESSION if head != "linear"])
def test_the_last_source_is_clipped_at_evaluation_only(head: str) -> None:
    task, batch = task_of(f"head={head}", sources=2).double().eval(), batch_of()
    raw, mixture = task.separate_raw(batch.waveform), 3 * batch.waveform
    first = task.head.decode(raw)[:, 0]
    expected = torch.stack([first, (mixture - first).clamp(-1, 1)], dim=1)
    assert float((mixture - first).abs().max()) > 1
    torch.testing.assert_close(task.heard(raw, mixture), expected)
    torch.testing.assert_close(task.seen(raw, mixture), expected)  # what validation scores
    torch.testing.assert_close(task.separate(batch.waveform), task.heard(raw, batch.waveform))
    task.train()
    assert float(task.seen(raw, mixture)[:, 1].abs().max()) > 1


def test_an_error_of_the_last_source_reaches_the_net() -> None:
    """The published rule: the difference is scored like every other source."""
    task, batch = task_of("head=tanh", "loss=mse", sources=2).double().train(), batch_of()
    assert batch.sources is not None
    made = task.net(batch.waveform)[:, :1].tanh()
    costs = []
    for example in range(4):
        estimates = [made[example], batch.waveform[example] - made[example]]
        targets = batch.sources[example]
        both = [
            ((estimates[a] - targets[0]) ** 2).mean() + ((estimates[b] - targets[1]) ** 2).mean()
            for a, b in ((0, 1), (1, 0))
        ]
        costs.append(torch.stack(both).min() / 2)
    expected = torch.stack(costs).mean()
    parameters = list(task.net.parameters())
    found = task.training_step(batch, 0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("head", OTHERS)
def test_a_head_that_brings_its_loss_is_refused_by_name(head: str) -> None:
    name = contracts.target("head", head).__name__
    with pytest.raises(ConfigError, match=rf"difference=true does not go with head={name}"):
        task_of(f"head={head}")


@pytest.mark.parametrize("difference", ["true", "false"])
def test_in_blocks_the_sources_are_those_of_one_pass(difference: str) -> None:
    task = wild_task_of(f"task.difference={difference}").eval()
    waveform = torch.cat([batch_of().waveform.flatten(), batch_of(3).waveform.flatten()])
    blocks = waveform[None].split([700, 1, 219, 1000], dim=1)
    with torch.no_grad():
        whole = task.separate(waveform[None, None])[0]
        pieces = list(task.separate_blocks(blocks, piece=330))
    assert len(pieces) > 3
    made = torch.cat(pieces, dim=-1)
    assert float((made - whole).norm() / whole.norm()) < 1e-12
