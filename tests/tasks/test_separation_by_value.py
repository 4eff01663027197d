"""Separation: losses, weights, gradients and scores against loops over the same batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.parts import build_task
from lightning_sep.reweighting.class_bias import ClassBias
from lightning_sep.reweighting.loss_softmax import LossSoftmax
from lightning_sep.settings import compose
from lightning_sep.tasks.separation import Separation
from tests.tasks import facts, oracles

FACTS = replace(facts.MIXTURES, class_names=tuple("abcde"), class_groups=tuple("uvuvu"))
EXAMPLES, TIME = 4, 240


def task_of(*overrides: str, sources: int = 2) -> Separation:
    settings = compose(
        ["task=separation", f"task.sources={sources}", "head=tanh", "net.levels=2", *overrides]
    )
    task = build_task(settings.tree, FACTS)
    assert isinstance(task, Separation)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(2)  # estimates that differ from each other by much
    return task.double().train()


def batch_of(sources: int = 2, *, silent: tuple[tuple[int, int], ...] = ()) -> Batch:
    draw = torch.Generator().manual_seed(11)
    waves = 0.4 * torch.randn(EXAMPLES, sources, TIME, generator=draw, dtype=torch.float64)
    waves *= torch.rand(EXAMPLES, sources, 1, generator=draw, dtype=torch.float64) + 0.2
    active = torch.ones(EXAMPLES, sources, dtype=torch.bool)
    for example, source in silent:
        waves[example, source] = 0
        active[example, source] = False
    labels = torch.arange(EXAMPLES * sources).reshape(EXAMPLES, sources) % 5
    index = torch.tensor([7, 3, 9, 1])
    return Batch(waves.sum(1)[:, None], labels, active, index, sources=waves[:, :, None])


def estimates_of(task: Separation, batch: Batch) -> Tensor:
    """``[example, source, time]`` of the net alone, activated by hand."""
    return task.net(batch.waveform).tanh()


def ordered(
    name: str, estimates: Tensor, batch: Batch
) -> tuple[list[list[float]], list[tuple[int, ...]], np.ndarray]:
    """Loss of each target under the best order, the orders, and which targets have a loss."""
    assert batch.sources is not None
    made, true = estimates.detach().numpy(), batch.sources[:, :, 0].numpy()
    counted = batch.active.numpy() if name == "si_sdr" else np.ones(batch.active.shape, dtype=bool)
    losses, orders = [], []
    for example in range(EXAMPLES):
        sources = true.shape[1]
        pairwise = np.zeros((sources, sources))
        for e in range(sources):
            for s in range(sources):
                pair = made[example, e], true[example, s]
                if name == "thresholded_snr":
                    pairwise[e, s] = oracles.thresholded_snr(
                        *pair, batch.waveform[example, 0].numpy()
                    )
                elif name == "mse":
                    pairwise[e, s] = oracles.mse(*pair)
                elif counted[example, s]:
                    pairwise[e, s] = -oracles.si_sdr(*pair)
        orders.append(oracles.best_order(pairwise, counted[example]))
        losses.append([pairwise[orders[-1][s], s] for s in range(sources)])
    return losses, orders, counted


def gradient_of(loss: Tensor, task: Separation) -> list[Tensor]:
    return [one.detach() for one in torch.autograd.grad(loss, list(task.net.parameters()))]


@pytest.mark.parametrize("silent", [(), ((1, 0), (2, 0), (2, 1))], ids=["sound", "silence"])
@pytest.mark.parametrize("level", ["mixture", "source"])
@pytest.mark.parametrize("loss", ["si_sdr", "mse", "thresholded_snr"])
@pytest.mark.parametrize("sources", [2, 3])
def test_training_step_is_the_weighted_sum_of_the_losses_of_the_best_order(
    loss: str, level: str, sources: int, silent: tuple[tuple[int, int], ...]
) -> None:
    task = task_of(f"loss={loss}", f"task.level={level}", sources=sources)
    batch = batch_of(sources, silent=silent)
    task.reweighting = LossSoftmax(alpha=0.3)
    value = task.training_step(batch, 0)
    by_target, _, counted = ordered(loss, estimates_of(task, batch), batch)
    if level == "source":
        costs = [c for row in by_target for c in row]
        kept = counted.flatten().tolist()
    else:
        kept = counted.any(1).tolist()
        costs = [
            sum(c for c, use in zip(row, uses, strict=True) if use) / max(uses.sum(), 1)
            for row, uses in zip(by_target, counted, strict=True)
        ]
    shares = iter(oracles.softmax([0.3 * c for c, k in zip(costs, kept, strict=True) if k]))
    weights = [next(shares) if k else float("nan") for k in kept]
    expected = sum(w * c for w, c, k in zip(weights, costs, kept, strict=True) if k)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(task.step_weights.numpy(), weights, rtol=1e-6)


@pytest.mark.parametrize("rule", ["plain mean", "loss softmax", "class bias"])
def test_gradient_is_that_of_the_weighted_squared_errors(rule: str) -> None:
    """The order and the weights are constants: no gradient goes through them."""
    task, batch = task_of("loss=mse"), batch_of()
    assert batch.sources is not None
    by_target, orders, _ = ordered("mse", estimates_of(task, batch), batch)
    costs = [sum(row) / 2 for row in by_target]
    if rule == "plain mean":
        weights = np.full(EXAMPLES, 1 / EXAMPLES)
    elif rule == "loss softmax":
        task.reweighting = LossSoftmax(alpha=5.0)
        weights = oracles.softmax([5.0 * cost for cost in costs])
    else:
        gamma = [0.0, 2.0, -1.0, 0.5, 1.0]
        task.reweighting = ClassBias(gamma)
        weights = oracles.softmax([sum(gamma[c] for c in row) / 2 for row in batch.labels.tolist()])
    assert len({tuple(order) for order in orders}) == 2  # else the order would not matter
    estimates = estimates_of(task, batch)
    total = torch.zeros((), dtype=torch.float64)
    for example in range(EXAMPLES):
        for source in range(2):
            wrong = estimates[example, orders[example][source]] - batch.sources[example, source, 0]
            total = total + weights[example] * (wrong**2).mean() / 2
    expected = gradient_of(total, task)
    found = gradient_of(task.training_step(batch, 0), task)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_silent_mixture_takes_no_gradient_from_the_others() -> None:
    task, batch = task_of("loss=si_sdr", "task.level=source"), batch_of(silent=((2, 0), (2, 1)))
    assert batch.sources is not None
    _, orders, counted = ordered("si_sdr", estimates_of(task, batch), batch)
    estimates = estimates_of(task, batch)
    total = torch.zeros((), dtype=torch.float64)
    for example, source in np.argwhere(counted):
        estimate = estimates[example, orders[example][source]]
        target = batch.sources[example, source, 0]
        share = (estimate @ target) ** 2 / (target @ target)
        total = total - 10 * (share / (estimate @ estimate - share)).log10() / counted.sum()
    found = gradient_of(task.training_step(batch, 0), task)
    for one, other in zip(found, gradient_of(total, task), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_distribution_is_scored_by_its_cross_entropy_with_each_target() -> None:
    task = task_of("head=mu_law_softmax", "head.levels=16", "head.start_scale=null")
    batch = batch_of()
    assert batch.sources is not None
    # As in a net's output: source by source, within a source level by level.
    raw = task.net(batch.waveform).detach().numpy().reshape(EXAMPLES, 2, 16, TIME)
    costs = []
    for example in range(EXAMPLES):
        pairwise = np.zeros((2, 2))
        for e in range(2):
            for s in range(2):
                total = 0.0
                for t in range(TIME):
                    logits = raw[example, e, :, t]
                    target = batch.sources[example, s, 0, t].clamp(-1, 1).item()
                    level = oracles.mu_law_level(target, 16)
                    total -= logits[level] - np.log(np.exp(logits).sum())
                pairwise[e, s] = total / TIME
        order = oracles.best_order(pairwise, np.array([True, True]))
        costs.append(sum(pairwise[order[s], s] for s in range(2)) / 2)
    scored = task.scores(batch, task.raw(batch, None))
    np.testing.assert_allclose(scored.losses.detach().numpy(), costs, rtol=1e-9)


@pytest.mark.parametrize("sources", [2, 3])
def test_evaluation_is_the_improvement_of_the_best_order_over_the_mixture(sources: int) -> None:
    task = task_of("loss=mse", sources=sources)
    # One target silent beside one sound (two sources: nothing to improve on), and all silent.
    batch = batch_of(sources, silent=((1, 0), *((2, s) for s in range(sources))))
    assert batch.sources is not None
    made = estimates_of(task, batch).detach().numpy()
    # What is silent may hold a little, here of what fits another source: it has no say.
    fits = [oracles.si_sdr(one, batch.sources[1, 1, 0].numpy()) for one in made[1]]
    batch.sources[1, 0, 0] = 1e-6 * torch.from_numpy(made[1, np.argmax(fits)])
    gains, before = {}, {}
    for example, index in enumerate(batch.index.tolist()):
        true = batch.sources[example, :, 0].numpy()
        mixture = batch.waveform[example, 0].numpy()
        heard = [s for s in range(sources) if batch.active[example, s]]
        if len(heard) < 2:
            continue
        pairwise = np.zeros((sources, sources))
        for e in range(sources):
            for s in heard:
                pairwise[e, s] = -oracles.si_sdr(made[example, e], true[s])
        order = oracles.best_order(pairwise, batch.active[example].numpy())
        before[index] = [oracles.si_sdr(mixture, true[s]) for s in heard]
        gains[index] = [-pairwise[order[s], s] - oracles.si_sdr(mixture, true[s]) for s in heard]
    expected = [gain for index in sorted(gains) for gain in gains[index]]
    task.eval()
    with torch.no_grad():
        task.on_test_epoch_start()
        task.test_step(batch.rows(slice(0, 2)), 0)
        task.test_step(batch.rows(slice(2, None)), 1)
        task.on_test_epoch_end()
    found = task.epoch_metrics
    of_mixtures = [np.mean(gains[index]) for index in sorted(gains)]
    assert found["test/si_sdr_improvement_db"] == pytest.approx(np.mean(of_mixtures), rel=1e-9)
    assert found["test/si_sdr_improvement_db_q25"] == pytest.approx(
        np.percentile(expected, 25), rel=1e-9
    )
    assert found["test/silent_targets"] == 1 + sources
    assert found["test/lone_targets"] == (1 if sources == 2 else 0)
    values = task.example_values
    assert values["test/index"] == [1, 3, 7, 9]
    scored = [n for n, index in enumerate(values["test/index"]) if index in gains]
    one_each = np.array(values["test/si_sdr_improvement_db"])
    np.testing.assert_allclose(one_each[scored], of_mixtures, rtol=1e-9)
    assert np.isnan(np.delete(one_each, scored)).all()
    of_sources = np.array(values["test/si_sdr_improvement_db_of_sources"])
    assert of_sources.shape == (EXAMPLES, sources)
    np.testing.assert_allclose(of_sources[~np.isnan(of_sources)], expected, rtol=1e-9)
    levels = np.array(values["test/input_si_sdr_db"])[~np.isnan(of_sources)]
    np.testing.assert_allclose(
        levels, [one for i in sorted(before) for one in before[i]], rtol=1e-9
    )
    ordered = [batch.labels[batch.index.tolist().index(i)].tolist() for i in (1, 3, 7, 9)]
    assert values["test/classes"] == [["abcde"[label] for label in row] for row in ordered]
    assert values["test/groups"] == [["uvuvu"[label] for label in row] for row in ordered]


def test_examples_are_mixtures_or_their_sources_with_classes_and_rows_of_their_own() -> None:
    batch = batch_of(silent=((1, 0), (2, 0), (2, 1)))
    classes, rows = batch.labels.tolist(), range(EXAMPLES)
    for level, groups, made_of, kept in (
        ("mixture", classes, [[row] for row in rows], [True, True, False, True]),
        (
            "source",
            [[label] for row in classes for label in row],
            [[row] for row in rows for _ in range(2)],
            [True, True, False, True, False, False, True, True],
        ),
    ):
        task = task_of("loss=si_sdr", f"task.level={level}")
        scored = task.scores(batch, task.raw(batch, None))
        assert scored.groups.tolist() == groups
        assert scored.rows.tolist() == made_of
        assert scored.mask.tolist() == kept
        # A loss that can score silence leaves none out, and what is left out costs nothing.
        assert scored.losses[~scored.mask].tolist() == [0.0] * kept.count(False)
        task = task_of("loss=mse", f"task.level={level}")
        assert task.scores(batch, task.raw(batch, None)).mask.all()


def test_swapped_estimates_score_the_same_and_wrong_ones_do_not() -> None:
    task, batch = task_of("loss=mse"), batch_of()
    raw = task.raw(batch, None).detach()
    one, other = task.scores(batch, raw).losses, task.scores(batch, raw.flip(1)).losses
    torch.testing.assert_close(one, other)
    assert batch.sources is not None
    shifted = replace(batch, sources=batch.sources.roll(1, dims=-1))
    assert float((task.scores(shifted, raw).losses - one).abs().min()) > 1e-4


def test_validation_loss_is_the_mean_over_all_mixtures_of_all_batches() -> None:
    task = task_of("loss=si_sdr")
    sound, partly = batch_of(), batch_of(silent=((0, 1), (2, 0), (2, 1)))
    costs = []
    for batch in (sound, partly):
        by_target, _, counted = ordered("si_sdr", estimates_of(task, batch), batch)
        for row, uses in zip(by_target, counted, strict=True):
            if uses.any():
                costs.append(sum(c for c, use in zip(row, uses, strict=True) if use) / uses.sum())
    task.eval()
    with torch.no_grad():
        task.on_validation_epoch_start()
        task.validation_step(sound, 0)
        task.validation_step(partly, 1)
        task.on_validation_epoch_end()
    assert len(costs) == 7
    assert task.epoch_metrics["val/loss"] == pytest.approx(np.mean(costs), rel=1e-6)


def test_a_batch_without_sources_is_refused_with_what_has_them() -> None:
    task, batch = task_of(), replace(batch_of(), sources=None)
    with pytest.raises(ConfigError, match="needs examples with separate sources: use examples=mix"):
        task.training_step(batch, 0)
