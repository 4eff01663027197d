"""Verification: losses, weights, gradients and error rates against loops over all pairs."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_sep.data.batch import Batch
from lightning_sep.errors import ConfigError
from lightning_sep.functional.log_mel import log_mel
from lightning_sep.functional.verification import equal_error_rate
from lightning_sep.parts import build_task
from lightning_sep.reweighting.class_bias import ClassBias
from lightning_sep.reweighting.loss_softmax import LossSoftmax
from lightning_sep.settings import compose
from lightning_sep.tasks.verification import Verification
from tests.tasks import facts, oracles

RATE, MARGIN = 8000, 0.05


def task_of(*overrides: str, names: tuple[str, ...] = ()) -> Verification:
    still = ["net.dropout=0", "net.dense_dropout=0", "task.embed=5", f"loss.margin={MARGIN}"]
    settings = compose(["task=verification", *still, *overrides])
    task = build_task(settings.tree, replace(facts.SNIPPETS, speaker_names=names))
    assert isinstance(task, Verification)
    with torch.no_grad():
        for value in task.net.parameters():
            value.mul_(2)  # embeddings that differ from each other
    return task.double().train()


def batch_of(size: int = 6, *, seed: int = 3, silent: tuple[int, ...] = ()) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    waveform = 0.3 * torch.randn(size, 1200, generator=draw, dtype=torch.float64)
    waveform *= 10 ** torch.linspace(-2, 0, size, dtype=torch.float64)[:, None]
    active = torch.ones(size, dtype=torch.bool)
    for example in silent:
        waveform[example] = 0
        active[example] = False
    return Batch(waveform.unsqueeze(1), torch.arange(size) // 2, active, torch.arange(size))


def logits_of(task: Verification, batch: Batch) -> Tensor:
    features = log_mel(batch.waveform[:, 0], sample_rate=RATE, n_fft=256, hop_samples=128, bands=40)
    if task.remove_mean:
        features = features - features.sum(1, keepdim=True) / features.shape[1]
    return task.net(features)


def rows_of(logits: Tensor) -> np.ndarray:
    return np.stack([oracles.softmax(row) for row in logits.detach().tolist()])


def pairs_of(batch: Batch) -> list[tuple[int, int]]:
    return list(combinations(range(len(batch)), 2))  # (0, 1), (0, 2), ..., (1, 2), ...


@pytest.mark.parametrize("silent", [(), (2,)], ids=["sound", "silence"])
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize("rule", ["plain mean", "loss softmax", "class bias"])
def test_training_step_and_gradient_are_those_of_the_weighted_pairs(
    rule: str, remove_mean: bool, silent: tuple[int, ...]
) -> None:
    task, batch = task_of(f"task.remove_mean={remove_mean}"), batch_of(silent=silent)
    logits = logits_of(task, batch)
    p = rows_of(logits)
    speakers = batch.labels.tolist()
    pairs = pairs_of(batch)
    same = [speakers[i] == speakers[j] for i, j in pairs]
    costs = [
        oracles.hinge_pair(p[i], p[j], flag, MARGIN)
        for (i, j), flag in zip(pairs, same, strict=True)
    ]
    if rule == "loss softmax":
        task.reweighting = LossSoftmax(alpha=3.0)
        scores = [3.0 * cost for cost in costs]
    elif rule == "class bias":
        task.reweighting = ClassBias([0.5, 2.0])
        scores = [2.0 if flag else 0.5 for flag in same]
    else:
        scores = [0.0] * len(pairs)
    kept = [n for n, (i, j) in enumerate(pairs) if i not in silent and j not in silent]
    shares = oracles.softmax([scores[n] for n in kept])
    value = task.training_step(batch, 0)
    expected = sum(share * costs[n] for share, n in zip(shares, kept, strict=True))
    assert value.item() == pytest.approx(expected, rel=1e-9)
    weights = np.full(len(pairs), np.nan)
    weights[kept] = shares
    np.testing.assert_allclose(task.step_weights.numpy(), weights, rtol=1e-9)
    log_p = logits.log_softmax(-1)
    total = torch.zeros((), dtype=torch.float64)
    for share, n in zip(shares, kept, strict=True):
        i, j = pairs[n]
        for a, b in ((i, j), (j, i)):
            divergence = (log_p[a].exp() * (log_p[a] - log_p[b])).sum()
            cost = divergence if same[n] else (MARGIN - divergence).clamp(min=0)
            total = total + share * cost
    parameters = list(task.net.parameters())
    for one, other in zip(
        torch.autograd.grad(value, parameters),
        torch.autograd.grad(total, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def trials_of(task: Verification, batch: Batch) -> tuple[list[float], list[bool]]:
    """Scores of all pairs of sounding snippets, and whether they are of one speaker."""
    with torch.no_grad():
        p = rows_of(logits_of(task, batch))
    speakers = batch.labels.tolist()
    pairs = [(i, j) for i, j in pairs_of(batch) if batch.active[i] and batch.active[j]]
    scores = [-(oracles.kl(p[i], p[j]) + oracles.kl(p[j], p[i])) / 2 for i, j in pairs]
    return scores, [speakers[i] == speakers[j] for i, j in pairs]


def evaluated(task: Verification, stage: str, *batches: Batch) -> dict[str, float]:
    task.eval()
    with torch.no_grad():
        getattr(task, f"on_{'validation' if stage == 'val' else stage}_epoch_start")()
        for number, batch in enumerate(batches):
            getattr(task, f"{'validation' if stage == 'val' else stage}_step")(batch, number)
        getattr(task, f"on_{'validation' if stage == 'val' else stage}_epoch_end")()
    return dict(task.epoch_metrics)


def test_the_threshold_is_chosen_on_validation_and_only_used_on_test() -> None:
    task = task_of()
    val, test = batch_of(8, seed=4, silent=(3,)), batch_of(10, seed=5)
    scores, same = trials_of(task, val)
    threshold = oracles.closest_threshold(scores, same)
    found = evaluated(task, "val", val)
    assert found["val/threshold"] == pytest.approx(threshold, rel=1e-6)
    assert float(task.threshold) == found["val/threshold"]
    found = evaluated(task, "test", test)
    assert float(task.threshold) == pytest.approx(threshold, rel=1e-6)
    scores, same = trials_of(task, test)
    assert found["test/threshold"] != pytest.approx(threshold, rel=1e-3)
    expected = sum(oracles.errors_at(scores, same, float(task.threshold))) / 2
    assert found["test/error_rate_at_val_threshold"] == pytest.approx(expected, rel=1e-9)
    at_best = sum(oracles.errors_at(scores, same, oracles.closest_threshold(scores, same))) / 2
    assert expected != pytest.approx(at_best, rel=1e-3)  # else the test would not tell


def test_a_score_at_the_threshold_is_refused_and_the_cost_is_that_of_one_in_a_hundred() -> None:
    task, batch = task_of(), batch_of(8, seed=4)
    found = evaluated(task, "val", batch)
    scores, same = trials_of(task, batch)
    costs = []
    for threshold in [-np.inf, *scores]:
        miss, alarm = oracles.errors_at(scores, same, threshold)
        costs.append((0.01 * miss + 0.99 * alarm) / 0.01)
    assert found["val/min_dcf"] == pytest.approx(min(costs), rel=1e-9)
    found = evaluated(task, "test", batch)  # the threshold is now one of the scores
    threshold = min(scores, key=lambda score: abs(score - float(task.threshold)))
    refused, accepted = oracles.errors_at(scores, same, threshold)
    expected = (refused + accepted) / 2
    assert found["test/error_rate_at_val_threshold"] == pytest.approx(expected, rel=1e-9)
    values = task.example_values
    rates = np.array(values["test/error_rate_at_val_threshold_of_pair"])
    wrong = sum(rates * np.array(values["test/trials"]))
    assert wrong == pytest.approx(refused * sum(same) + accepted * (len(same) - sum(same)))


def test_the_least_cost_is_found_among_scores_that_nearly_agree() -> None:
    """They share their leading bits: which of them is looked for decides what is found."""
    task, batch = task_of("task.embed=24"), batch_of(24)
    noise = torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw = 3 * torch.eye(24, dtype=torch.float64) + 0.03 * noise
    row = torch.arange(24)  # the more a speaker's two snippets have in common, the later they come
    raw[row, row ^ 1] += 0.3 * row / 23
    p, speakers = rows_of(raw), batch.labels.tolist()
    scores = [-(oracles.kl(p[i], p[j]) + oracles.kl(p[j], p[i])) / 2 for i, j in pairs_of(batch)]
    same = [speakers[i] == speakers[j] for i, j in pairs_of(batch)]
    errors = [oracles.errors_at(scores, same, threshold) for threshold in scores]
    evaluation = task.evaluation("val")
    evaluation.add(batch, raw)
    metrics, _ = evaluation.finish()
    expected = min((0.01 * miss + 0.99 * alarm) / 0.01 for miss, alarm in errors)
    assert metrics["min_dcf"] == pytest.approx(expected, rel=1e-9)
    assert metrics["threshold"] == pytest.approx(oracles.closest_threshold(scores, same), rel=1e-9)


def test_all_pairs_of_all_batches_are_trials_and_cost_what_pairs_cost() -> None:
    task = task_of()
    whole = batch_of(8, seed=6)
    halves = [
        Batch(*(value[part] for value in (whole.waveform, whole.labels, whole.active, whole.index)))
        for part in (slice(0, 3), slice(3, 8))
    ]
    scores, same = trials_of(task, whole)
    found = evaluated(task, "val", *halves)
    thresholds = sorted([*scores, -np.inf])
    miss, alarm = zip(*(oracles.errors_at(scores, same, t) for t in thresholds), strict=True)
    after = next(n for n in range(len(miss)) if alarm[n] <= miss[n])
    before = after - 1
    share = (alarm[before] - miss[before]) / (
        alarm[before] - miss[before] - alarm[after] + miss[after]
    )
    expected = miss[before] + share * (miss[after] - miss[before])
    assert 0 < expected < 1
    assert found["val/equal_error_rate"] == pytest.approx(expected, rel=1e-9)
    costs: dict[bool, list[float]] = {True: [], False: []}
    with torch.no_grad():
        p = rows_of(logits_of(task, whole))
    speakers = whole.labels.tolist()
    for i, j in pairs_of(whole):
        flag = speakers[i] == speakers[j]
        costs[flag].append(oracles.hinge_pair(p[i], p[j], flag, MARGIN))
    assert found["val/loss_same"] == pytest.approx(np.mean(costs[True]), rel=1e-6)
    assert found["val/loss_different"] == pytest.approx(np.mean(costs[False]), rel=1e-6)
    # A training batch of 8 speakers with 4 snippets each: 48 of its 496 pairs are of one speaker.
    share = 48 / 496
    assert found["val/loss"] == pytest.approx(
        share * np.mean(costs[True]) + (1 - share) * np.mean(costs[False]), rel=1e-6
    )


def test_the_order_in_which_snippets_come_changes_no_digit() -> None:
    task, whole = task_of(), batch_of(60, seed=6)
    turned = torch.arange(60).flip(0)
    found = [evaluated(task, "val", whole.rows(rows)) for rows in (torch.arange(60), turned)]
    assert found[0] == found[1]


def test_each_pair_of_speakers_tells_its_trials() -> None:
    called = ("ann", "bob", "cy", "dee", "eve", "fay")
    task = task_of(names=called)
    val, test = batch_of(8, seed=4), batch_of(10, seed=5, silent=(2,))
    evaluated(task, "val", val)
    evaluated(task, "test", test)
    scores, _ = trials_of(task, test)
    speakers = test.labels.tolist()
    sounding = [(i, j) for i, j in pairs_of(test) if test.active[i] and test.active[j]]
    expected: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for (i, j), score in zip(sounding, scores, strict=True):
        pair = sorted((speakers[i], speakers[j]))
        accepted = score > float(task.threshold)
        wrong = accepted != (pair[0] == pair[1])
        names = tuple(called[n] for n in pair)
        expected.setdefault(names, []).append((score, wrong))
    values = task.example_values
    assert [tuple(pair) for pair in values["test/speakers"]] == sorted(expected)
    listed = [expected[pair] for pair in sorted(expected)]
    assert values["test/trials"] == [len(one) for one in listed]
    means = [np.mean([score for score, _ in one]) for one in listed]
    np.testing.assert_allclose(values["test/score"], means, rtol=1e-9)
    rates = [np.mean([wrong for _, wrong in one]) for one in listed]
    np.testing.assert_allclose(values["test/error_rate_at_val_threshold_of_pair"], rates, rtol=1e-9)
    assert 0 < np.mean(rates) < 1
    heard = sorted({speakers[i] for pair in sounding for i in pair})
    assert values["test/speaker"] == [called[n] for n in heard]
    for number, rate in zip(heard, values["test/equal_error_rate_without_speaker"], strict=True):
        kept = [n for n, (i, j) in enumerate(sounding) if number not in (speakers[i], speakers[j])]
        flags = [speakers[sounding[n][0]] == speakers[sounding[n][1]] for n in kept]
        if any(flags) and not all(flags):
            left = equal_error_rate(scores=[scores[n] for n in kept], same=flags).rate
            assert rate == pytest.approx(left)
        else:
            assert np.isnan(rate)
    assert np.isfinite(values["test/equal_error_rate_without_speaker"]).any()


def test_two_snippets_of_one_recording_are_no_trial() -> None:
    task, batch = task_of(), batch_of(8, seed=6)  # two snippets of each of four speakers
    batch.sessions = torch.tensor([5, 5, 6, 7, 8, 8, 9, 9])
    scores, same = trials_of(task, batch)
    kept = [n for n, (i, j) in enumerate(pairs_of(batch)) if batch.sessions[i] != batch.sessions[j]]
    assert sum(same[n] for n in kept) == 1
    found = evaluated(task, "val", batch)
    expected = oracles.closest_threshold([scores[n] for n in kept], [same[n] for n in kept])
    assert found["val/threshold"] == pytest.approx(expected, rel=1e-6)
    assert found["val/trials_same"] == 1
    assert found["val/trials_different"] == 24
    assert found["val/pairs_in_one_session"] == 3
    assert found["val/trial_speakers"] == 4
    with torch.no_grad():
        p = rows_of(logits_of(task, batch))
    assert found["val/loss_same"] == pytest.approx(
        oracles.hinge_pair(p[2], p[3], True, MARGIN), rel=1e-6
    )


@pytest.mark.parametrize("remove_mean", [False, True])
def test_the_embedding_is_the_heads_row_or_the_nets_inner_layer(remove_mean: bool) -> None:
    about = f"task.remove_mean={remove_mean}"
    task, inner, batch = task_of(about), task_of(about, "task.embedding=net"), batch_of()
    inner.load_state_dict(task.state_dict())
    features = log_mel(batch.waveform[:, 0], sample_rate=RATE, n_fft=256, hop_samples=128, bands=40)
    if remove_mean:
        features = features - features.mean(1, keepdim=True)
    with torch.no_grad():
        rows, layer = (one.embed(batch.waveform[:, 0]) for one in (task, inner))
        states = features  # the forward direction after its last frame, the other after its last
        for one in task.net.layers:
            states = one(states)[0]
    half = task.net.hidden
    expected = torch.cat([states[:, -1, :half], states[:, 0, half:]], dim=1)
    torch.testing.assert_close(layer, expected)
    np.testing.assert_allclose(rows.numpy(), rows_of(logits_of(task, batch)), rtol=1e-9)
    torch.testing.assert_close(inner.raw(batch, None), task.raw(batch, None))


class Silent(torch.nn.Module):
    """A net that has no inner layer to give, and does not say what material it takes."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.layer(x.mean(1))


class Mean(Silent):
    """One that says what material it takes."""

    material = "pooled"


def test_an_inner_layer_of_a_net_that_has_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "tests")
    tree = compose(["task=verification"]).tree
    tree["net"] = {"_target_": f"{__name__}.Mean"}
    assert build_task(tree, facts.SNIPPETS).embed(torch.randn(2, 1200)).shape == (2, 32)
    tree["task"]["embedding"] = "net"
    with pytest.raises(ConfigError, match=r"task.embedding=net: net=Mean has no method embed"):
        build_task(tree, facts.SNIPPETS)


def test_without_two_kinds_of_trials_there_are_no_error_rates() -> None:
    task, batch = task_of(), batch_of(6)
    batch.labels = torch.arange(6)
    evaluated(task, "val", batch)
    found = evaluated(task, "test", batch)
    assert (found["test/trials_same"], found["test/trials_different"]) == (0, 15)
    for name in ("equal_error_rate", "min_dcf", "threshold", "error_rate_at_val_threshold"):
        assert np.isnan(found[f"test/{name}"])
    assert np.isnan(float(task.threshold))
    assert np.isfinite(found["test/loss_different"])


def test_a_net_for_other_material_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = compose(["task=verification"]).tree
    tree["net"] = compose(["task=autoregression"]).tree["net"]
    with pytest.raises(ConfigError, match="net=Lstm takes sequence material, Verification has poo"):
        build_task(tree, facts.SNIPPETS)
    # One that says the right material, and cannot do what the task asks of it.
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "tests")
    monkeypatch.setattr(Mean, "material", "sequence")
    tree = compose(["task=autoregression"]).tree
    tree["net"] = {"_target_": f"{__name__}.Mean"}
    with pytest.raises(ConfigError, match="net=Mean cannot go frame by frame: autoregression need"):
        build_task(tree, facts.SEQUENCES)


def test_a_net_that_does_not_say_its_material_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_SEP_PLUGINS", "tests")
    tree = compose(["task=verification"]).tree
    tree["net"] = {"_target_": f"{__name__}.Silent"}
    with pytest.raises(ConfigError, match="net=Silent does not say what material it takes"):
        build_task(tree, facts.SNIPPETS)
