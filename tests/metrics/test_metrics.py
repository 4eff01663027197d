import numpy as np
import pytest
import torch

from lightning_sep.functional.si_sdr import si_sdr
from lightning_sep.metrics.next_frame import NextFrameR2
from lightning_sep.metrics.si_sdr_improvement import PERCENTILES, SiSdrImprovement
from tests import gloo
from tests.reweighting import two_processes as case

NAME = "si_sdr_improvement_db"


def filled(metric, batches):
    for batch in batches:
        metric.update(**batch)
    return metric


def separation():
    return filled(SiSdrImprovement(), case.separation_batches(None))


def test_improvement_of_the_mixture_itself_is_zero():
    batch = case.separation_batches(None)[0]
    target = batch["target"] + 0.1
    mixture = target.sum(1)
    metric = SiSdrImprovement()
    metric.update(
        mixture.unsqueeze(1).expand_as(target), target, mixture, torch.ones(5, 2, dtype=torch.bool)
    )
    assert metric.compute()[NAME].item() == 0.0


def test_values_are_the_improvements_of_active_sources_in_order():
    (batch,) = case.separation_batches(None)
    target, mixture = batch["target"].double(), batch["mixture"].double()
    after = si_sdr(estimate=batch["estimate"].double(), target=target)
    before = si_sdr(estimate=mixture.unsqueeze(1).expand_as(target), target=target)
    expected = (after - before)[batch["mask"]]
    torch.testing.assert_close(separation().values(), expected)


def test_summary_agrees_with_numpy():
    metric = separation()
    found, values = metric.compute(), metric.values().numpy()
    gains = metric.mixtures()["gains"].numpy()
    assert np.isnan(gains).sum() == 1  # so that a mean over sources would be another
    assert found[NAME].item() == pytest.approx(np.nanmean(gains, axis=1).mean(), rel=1e-12)
    assert found[NAME].item() != pytest.approx(values.mean(), rel=1e-6)
    assert found[f"{NAME}_std"].item() == pytest.approx(values.std())
    for percent in PERCENTILES:
        expected = np.percentile(values, percent)
        assert found[f"{NAME}_q{percent}"].item() == pytest.approx(expected)


def test_names_of_the_summary():
    ends = ["", "_std", *(f"_q{p}" for p in (1, 5, 10, 25, 50, 75, 90, 95, 99))]
    assert list(separation().compute()) == [f"{NAME}{end}" for end in ends] + ["silent_targets"]


def test_silent_targets_are_counted_and_left_out():
    metric = separation()
    assert metric.compute()["silent_targets"].item() == 1
    assert len(metric.values()) == 9


def test_only_silence_gives_no_mean():
    quiet = torch.zeros(2, 2, 50)
    metric = SiSdrImprovement()
    metric.update(quiet, quiet, quiet[:, 0], torch.zeros(2, 2, dtype=torch.bool))
    found = metric.compute()
    assert found[NAME].isnan()
    assert found["silent_targets"].item() == 4


def test_a_broken_estimate_does_not_pass_for_silence():
    batch = case.separation_batches(None)[0]
    batch["estimate"] = batch["estimate"].clone()
    batch["estimate"][0, 0, 3] = torch.nan
    metric = filled(SiSdrImprovement(), [batch])
    assert metric.compute()["silent_targets"].item() == 1
    assert metric.compute()[NAME].item() == -torch.inf


def test_a_good_estimate_is_measured_beyond_what_float32_resolves():
    target = torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(1)).double()
    estimate = target.double() + 1e-4 * noise
    metric = SiSdrImprovement()
    mixture = target[:, 0] + noise[:, 0].float()
    metric.update(estimate, target, mixture, torch.ones(1, 1, dtype=torch.bool))
    before = si_sdr(estimate=mixture.double(), target=target[:, 0].double())
    assert (metric.values() + before).item() == pytest.approx(80.0, abs=0.3)


def test_values_do_not_depend_on_the_order_of_arrival():
    one = separation()
    other = filled(SiSdrImprovement(), [*case.separation_batches(1), *case.separation_batches(0)])
    torch.testing.assert_close(other.values(), one.values())


def test_without_numbers_rows_stay_in_the_order_of_arrival():
    metric = SiSdrImprovement()
    for batch in case.separation_batches(1):
        batch.pop("index")
        metric.update(**batch)
        metric.update(**batch)
    assert len(metric.values()) == 2 * 5


def next_frame(**changes):
    return filled(NextFrameR2(), [case.frame_batches(None)[0] | changes])


def test_r2_is_one_minus_error_over_energy():
    (batch,) = case.frame_batches(None)
    e, t, p = (batch[name].double().numpy() for name in ("estimate", "target", "previous"))
    found = next_frame().compute()
    assert found["r2"].item() == pytest.approx(1 - ((e - t) ** 2).sum() / (t**2).sum())
    assert found["mse"].item() == pytest.approx(((e - t) ** 2).mean())
    assert found["r2_repeat_last"].item() == pytest.approx(1 - ((p - t) ** 2).sum() / (t**2).sum())


def test_zero_predictor_explains_nothing_and_costs_the_variance():
    target = case.frame_batches(None)[0]["target"]
    target = target - target.mean()
    found = next_frame(estimate=torch.zeros_like(target), target=target).compute()
    assert found["r2"].item() == found["r2_zero"].item() == 0.0
    assert found["mse"].item() == pytest.approx(target.double().var(correction=0).item(), rel=1e-6)


def test_perfect_prediction_explains_everything():
    target = case.frame_batches(None)[0]["target"]
    found = next_frame(estimate=target).compute()
    assert (found["r2"].item(), found["mse"].item()) == (1.0, 0.0)


def test_repeating_the_last_frame_scores_what_the_metric_says_of_it():
    (batch,) = case.frame_batches(None)
    found = next_frame(estimate=batch["previous"]).compute()
    assert found["r2"].item() == found["r2_repeat_last"].item()


def test_values_are_r2_of_each_example():
    (batch,) = case.frame_batches(None)
    values = next_frame().values()
    for number in range(5):
        one = filled(NextFrameR2(), [{name: part[[number]] for name, part in batch.items()}])
        assert values[number].item() == pytest.approx(one.compute()["r2"].item())


def test_silent_examples_are_left_out():
    (batch,) = case.frame_batches(None)
    mask = torch.tensor([True, False, True, True, False])
    kept = {name: part[mask] for name, part in batch.items()}
    masked = next_frame(mask=mask)
    assert masked.compute()["r2"] == filled(NextFrameR2(), [kept]).compute()["r2"]
    assert len(masked.values()) == 3


def test_a_silent_target_that_is_not_masked_stays_readable():
    quiet = torch.zeros(2, 3, 4)
    metric = filled(NextFrameR2(), [{"estimate": quiet, "target": quiet, "previous": quiet}])
    assert metric.values().tolist() == [0.0, 0.0]
    noise = torch.full((2, 3, 4), 0.1)
    metric = filled(NextFrameR2(), [{"estimate": noise, "target": quiet, "previous": quiet}])
    assert metric.values().tolist() == [-np.inf, -np.inf]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_example_gives_no_r2():
    assert all(value.isnan() for value in NextFrameR2().compute().values())


def test_next_frame_refuses_unequal_shapes():
    with pytest.raises(ValueError, match=r"same shape, got \[5, 4, 40\]"):
        next_frame(estimate=torch.zeros(5, 4, 40))


@pytest.mark.parametrize("family", [SiSdrImprovement, NextFrameR2])
def test_reset_forgets_everything(family):
    batches = {
        SiSdrImprovement: case.separation_batches,
        NextFrameR2: case.frame_batches,
    }[family](None)
    metric = filled(family(), batches)
    metric.reset()
    assert len(metric.values()) == 0
    assert metric.higher_is_better


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return gloo.run(case.score, 2, tmp_path_factory.mktemp("gloo"))


@pytest.mark.parametrize(
    ("family", "batches"),
    [
        (SiSdrImprovement, case.separation_batches),
        (NextFrameR2, case.frame_batches),
    ],
)
def test_two_processes_give_what_one_gives(ranks, family, batches):
    one = filled(family(), batches(None))
    for rank in ranks:
        found, values = rank[family.__name__]
        torch.testing.assert_close(found, one.compute())
        torch.testing.assert_close(values.sort().values, one.values().sort().values)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_every_sequence_tells_its_number_and_its_sums_of_squares():
    estimate = torch.tensor([[[1.0, 1.0]], [[0.0, 2.0]], [[5.0, 5.0]]])
    target = torch.tensor([[[1.0, 3.0]], [[0.0, 1.0]], [[1.0, 1.0]]])
    metric = NextFrameR2()
    told = metric.sequences()
    assert {name: len(one) for name, one in told.items()} == dict.fromkeys(told, 0)
    mask = torch.tensor([True, True, False])
    metric.update(estimate, target, target, mask, torch.tensor([7, 2, 5]))
    told = metric.sequences()
    assert told["index"].tolist() == [2, 5, 7]
    nan = pytest.approx(np.nan, nan_ok=True)
    assert told["error"].tolist() == [1.0, nan, 4.0]
    assert told["energy"].tolist() == [1.0, nan, 10.0]
    assert told["r2"].tolist() == [0.0, nan, pytest.approx(0.6)]


def test_every_mixture_tells_its_number_gains_classes_and_what_it_was_before():
    metric = SiSdrImprovement()
    told = metric.mixtures()
    assert {name: len(one) for name, one in told.items()} == dict.fromkeys(told, 0)
    (batch,) = case.separation_batches(None)
    batch["mixture"] = batch["mixture"] + 0.1 * batch["estimate"][:, 0]  # no source by itself
    index, labels = torch.tensor([4, 3, 9, 0, 6]), torch.arange(10).reshape(5, 2)
    metric.update(**batch | {"index": index, "labels": labels})
    told, order = metric.mixtures(), [3, 1, 0, 4, 2]
    assert told["index"].tolist() == [0, 3, 4, 6, 9]
    assert torch.equal(told["labels"], labels[order])
    estimate, target, mixture = (
        batch[name][order].double().numpy() for name in ("estimate", "target", "mixture")
    )

    def ratio_db(made, true):
        part = (made * true).sum(-1, keepdims=True) / (true**2).sum(-1, keepdims=True) * true
        return 10 * np.log10((part**2).sum(-1) / ((made - part) ** 2).sum(-1))

    silent = ~batch["mask"][order].numpy()
    with np.errstate(invalid="ignore"):
        before = ratio_db(mixture[:, None], target)
        gains = np.where(silent, np.nan, ratio_db(estimate, target) - before)
    np.testing.assert_allclose(told["before"].numpy()[~silent], before[~silent], rtol=1e-9)
    np.testing.assert_allclose(told["gains"].numpy(), gains, rtol=1e-9)
    np.testing.assert_allclose(told["gain"].numpy(), np.nanmean(gains, axis=1), rtol=1e-9)
