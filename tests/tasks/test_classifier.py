"""Verification trained by a classifier over the training speakers, against loops and torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.experiment import run
from lightning_sep.parts import build_task
from lightning_sep.record import read_records
from lightning_sep.reweighting.class_bias import ClassBias
from lightning_sep.settings import compose
from lightning_sep.tasks.verification import Verification
from lightning_sep.use import load_run
from tests.tasks import facts, oracles

NUMBERS = (0, 3, 7)  # of the training speakers, among those of the whole set
CLASSES = {0: 0, 3: 1, 7: 2}
SPEAKERS = [7, 0, 3, 7, 0, 0]


def task_of(*overrides: str) -> Verification:
    still = ["net.dropout=0", "net.dense_dropout=0", "task.embed=5"]
    settings = compose(["task=verification", *still, *overrides])
    names = tuple(f"voice{number}" for number in range(9))
    known = replace(facts.SNIPPETS, train_numbers=NUMBERS, speaker_names=names)
    task = build_task(settings.tree, known)
    assert isinstance(task, Verification)
    return task.double().train()


def batch_of(speakers: list[int] = SPEAKERS, silent: tuple[int, ...] = ()) -> Batch:
    draw = torch.Generator().manual_seed(3)
    waveform = 0.3 * torch.randn(len(speakers), 1200, generator=draw, dtype=torch.float64)
    active = torch.ones(len(speakers), dtype=torch.bool)
    for row in silent:
        active[row] = False
    waves = waveform.unsqueeze(1)
    return Batch(waves, torch.tensor(speakers), active, torch.arange(len(speakers)))


@pytest.mark.parametrize("silent", [(), (1,)], ids=["sound", "silence"])
@pytest.mark.parametrize("rule", ["plain mean", "class bias"])
def test_training_step_and_gradient_are_those_of_the_weighted_cross_entropies(
    rule: str, silent: tuple[int, ...]
) -> None:
    task, batch = task_of("loss=cross_entropy", "head=unit_sphere"), batch_of(silent=silent)
    gamma = [0.0, 0.0, 0.0]
    if rule == "class bias":
        gamma = [0.5, -1.0, 2.0]
        task.reweighting = ClassBias(gamma)
    rows = F.normalize(task.raw(batch, None), dim=-1)
    classes = [CLASSES[speaker] for speaker in SPEAKERS]
    logits = rows @ task.loss.classifier.weight.T + task.loss.classifier.bias
    costs = F.cross_entropy(logits, torch.tensor(classes), reduction="none")
    kept = [row for row in range(6) if row not in silent]
    shares = oracles.softmax([gamma[classes[row]] for row in kept])
    expected = sum(share * costs[row] for share, row in zip(shares, kept, strict=True))
    found = task.training_step(batch, 0)
    torch.testing.assert_close(found, expected)
    weights = np.full(6, np.nan)
    weights[kept] = shares
    np.testing.assert_allclose(task.step_weights.numpy(), weights, rtol=1e-9)
    parameters = list(task.parameters())
    assert {id(one) for one in task.loss.parameters()} <= {id(one) for one in parameters}
    for one, other in zip(
        torch.autograd.grad(found, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_speakers_become_the_numbers_of_the_training_part() -> None:
    task = task_of("loss=am_softmax")
    assert task.loss.classes == 3
    speakers = torch.tensor([0, 7, 3, 2, 8, 100, -1, 6])
    assert task.classes(speakers).tolist() == [0, 2, 1, -1, -1, -1, -1, -1]
    assert task.class_names() == [("voice0",), ("voice3",), ("voice7",)]
    assert task_of().class_names() == [("different",), ("same",)]


def test_a_training_speaker_that_the_classifier_does_not_know_is_told() -> None:
    task, batch = task_of("loss=am_softmax"), batch_of([7, 0, 5, 7, 0, 0])
    task.on_train_epoch_start()
    task.training_step(batch, 0).backward()
    assert all(one.grad.isfinite().all() for one in task.net.parameters())
    task.on_train_epoch_end()
    assert task.epoch_metrics["train/non_finite"] == 1


def test_evaluation_has_error_rates_and_no_loss() -> None:
    """Even where the number of a speaker of validation is that of a class."""
    task, pairs = task_of("loss=am_softmax", "head=unit_sphere"), task_of("head=unit_sphere")
    pairs.net.load_state_dict(task.net.state_dict())
    found = []
    for one in (task, pairs):
        one.eval()
        with torch.no_grad():
            evaluation = one.evaluation("val")
            evaluation.add(batch_of(), one.raw(batch_of(), None))
            found.append(evaluation.finish()[0])
    mine, theirs = found
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert np.isnan(value) if "loss" in name else value == theirs[name], name
    assert mine["equal_error_rate"] > 0


def test_the_net_starts_with_the_same_weights_whatever_the_loss() -> None:
    first, other = task_of("loss=cross_entropy"), task_of("loss=kl_hinge")
    for name, value in other.net.state_dict().items():
        assert torch.equal(value, first.net.state_dict()[name])


def test_the_optimizer_trains_the_losses_parameters_and_checkpoints_keep_them() -> None:
    task, batch = task_of("loss=cross_entropy", "optimizer.learning_rate=0.01"), batch_of()
    optimizer = task.configure_optimizers()
    before = task.loss.classifier.weight.detach().clone()
    values = []
    for _ in range(30):
        loss = task.training_step(batch, 0)
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < 0.9 * values[0]
    assert not torch.equal(task.loss.classifier.weight, before)
    assert torch.equal(task.state_dict()["loss.classifier.weight"], task.loss.classifier.weight)


@pytest.mark.parametrize("task", ["separation", "autoregression"])
def test_tasks_without_speakers_refuse_a_classifier(task: str) -> None:
    with pytest.raises(ConfigError, match=r"loss=AmSoftmax does not serve .* of type WaveformLoss"):
        build_task(compose([f"task={task}", "loss=am_softmax"]).tree, facts.of(task))


def test_facts_without_training_speakers_are_refused() -> None:
    tree = compose(["task=verification", "loss=am_softmax"]).tree
    with pytest.raises(ConfigError, match="classes = 0: a whole number of at least 2"):
        build_task(tree, replace(facts.SNIPPETS, train_numbers=()))


def test_a_run_trains_a_classifier_and_reports_an_error_rate(home: Path, data_home: Path) -> None:
    settings = ["task=verification", "head=unit_sphere", "loss=am_softmax", "examples.train=6"]
    smaller = ["examples.val=4", "examples.test=4", "trainer.epochs=2", "tracking=none"]
    run(compose([*settings, *smaller, "trainer.progress=false"]), home=home)
    [record] = read_records(home)
    assert record["state"] == "finished"
    assert 0 <= record["metrics"]["test/equal_error_rate"] <= 1
    assert record["metrics"]["val/loss"] is None
    assert record["metrics"]["train/loss"] > 0
    task = load_run(record["run_id"], home)
    numbers = record["facts"]["train_numbers"]
    assert list(task.facts.train_numbers) == numbers == sorted(numbers)
    assert task.loss.directions.shape == (len(numbers), 32)
