import math

import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.reweighting.class_bias import ClassBias
from lightning_sep.reweighting.curriculum import Curriculum
from lightning_sep.reweighting.loss_softmax import LossSoftmax
from lightning_sep.reweighting.uniform import Uniform

LOSSES = torch.tensor([-20.0, -10.0, 0.0, 5.0], dtype=torch.float64)
GROUPS = torch.zeros(4, 1, dtype=torch.int64)
EVERY = torch.ones(4, dtype=torch.bool)

TABLE = [  # alpha, weights, weighted loss, effective batch
    (0.0, (0.25, 0.25, 0.25, 0.25), -6.25, 4.0),
    (1 / 15, (0.083085, 0.161827, 0.315196, 0.439892), -1.080509, 3.0680),
    (1 / 10, (0.042937, 0.116715, 0.317265, 0.523082), 0.589513, 2.5658),
    (1 / 5, (0.004730, 0.034953, 0.258269, 0.702048), 3.066103, 1.7831),
    (-1 / 10, (0.630796, 0.232057, 0.085369, 0.051779), -14.677584, 2.1658),
]


def weights(alpha, losses=LOSSES):
    return LossSoftmax(alpha).weights(losses, GROUPS, EVERY, 0)


@pytest.mark.parametrize(("alpha", "expected", "loss", "effective"), TABLE)
def test_weights_of_known_losses(alpha, expected, loss, effective):
    p = weights(alpha)
    assert p.tolist() == pytest.approx(expected, abs=1e-6)
    assert (p * LOSSES).sum().item() == pytest.approx(loss, abs=1e-6)
    assert (1 / p.square().sum()).item() == pytest.approx(effective, abs=1e-4)


@pytest.mark.parametrize(("alpha", "ratio"), [(1 / 15, 1.948), (1 / 10, 2.718), (1 / 5, 7.389)])
def test_weight_ratio_of_a_gap_of_ten_decibels(alpha, ratio):
    p = weights(alpha)
    assert (p[1] / p[0]).item() == pytest.approx(ratio, abs=1e-3)


def test_weighted_loss_rises_with_alpha():
    values = [(weights(alpha) * LOSSES).sum().item() for alpha in (-1, -0.1, 0, 0.1, 1)]
    assert values == sorted(values)


def test_alpha_zero_is_the_plain_mean_gradient():
    x = torch.linspace(-1, 1, 4, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((3 * x.square()).mean(), x)
    losses = 3 * x.square()
    (ours,) = torch.autograd.grad((weights(0.0, losses) * losses).sum(), x)
    torch.testing.assert_close(ours, expected)


def test_uniform_is_the_plain_mean():
    assert Uniform().weights(LOSSES, GROUPS, EVERY, 9).tolist() == [0.25] * 4


@pytest.mark.parametrize("alpha", [0.1, 0.2, -0.3, 2.0])
def test_gradient_is_that_of_the_log_sum_exp_objective(alpha):
    losses = LOSSES.clone().requires_grad_()
    (ours,) = torch.autograd.grad((weights(alpha, losses) * losses).sum(), losses)
    (expected,) = torch.autograd.grad((alpha * losses).logsumexp(0) / alpha, losses)
    assert (ours - expected).abs().max() < 1e-12


def test_gradient_through_the_weights_is_not_used():
    losses = LOSSES.clone().requires_grad_()
    (ours,) = torch.autograd.grad((weights(1 / 5, losses) * losses).sum(), losses)
    undetached = ((losses / 5).softmax(0) * losses).sum()
    (wrong,) = torch.autograd.grad(undetached, losses)
    # it would make the easy examples worse
    assert wrong.tolist() == pytest.approx([-0.017092, -0.056387, 0.099893, 0.973585], abs=1e-6)
    assert ours.min() > 0


def curriculum(steps=200, **settings):
    rule = Curriculum(**{"beta_start": -0.1, "end": 0.5, **settings})
    rule.prepare(steps=steps, classes=[])
    return rule


@pytest.mark.parametrize(
    ("step", "beta"), [(0, -0.1), (25, -0.075), (50, -0.05), (100, 0.0), (1000, 0.0)]
)
def test_curriculum_rises_to_the_plain_mean(step, beta):
    for one in (step, torch.tensor(step)):
        found = curriculum().weights(LOSSES, GROUPS, EVERY, one)
        torch.testing.assert_close(found, weights(beta), atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps", [10, 320, 20_000])
def test_a_curriculum_ends_within_the_run_however_short(steps):
    rule = curriculum(steps, end=1.0)
    last = rule.weights(LOSSES, GROUPS, EVERY, steps).tolist()
    assert last == [0.25] * 4
    half = rule.weights(LOSSES, GROUPS, EVERY, steps // 2)
    torch.testing.assert_close(half, weights(-0.05), atol=1e-12, rtol=0)


def test_curriculum_prefers_easy_examples_at_the_start():
    p = curriculum().weights(LOSSES, GROUPS, EVERY, 0)
    assert p.tolist() == pytest.approx([0.630796, 0.232057, 0.085369, 0.051779], abs=1e-6)


def test_a_curriculum_that_does_not_know_the_run_says_so():
    with pytest.raises(ConfigError, match="how long the run is"):
        Curriculum(-0.1, 0.5).weights(LOSSES, GROUPS, EVERY, 0)


NAMES = [("bells", "environment"), ("anna", "speech"), ("ben", "speech"), ("rain", "environment")]


def named(gamma):
    rule = ClassBias(gamma)
    rule.prepare(steps=1, classes=NAMES)
    return rule


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        ({"speech": 3.0}, [0.0, 3.0, 3.0, 0.0]),
        ({"rain": 1.0, "anna": -2.0}, [0.0, -2.0, 0.0, 1.0]),
        ({"speech": 3.0, "ben": 1.0, "environment": 0.5}, [0.5, 3.0, 1.0, 0.5]),
        ({}, [0.0, 0.0, 0.0, 0.0]),
        ([1.0, 2.0], [1.0, 2.0, 0.0, 0.0]),
    ],
)
def test_classes_are_named_by_themselves_or_by_their_group(gamma, expected):
    groups = torch.arange(4).unsqueeze(1)
    assert named(gamma).scores(LOSSES, groups, 0).tolist() == expected


def test_a_name_that_no_class_has_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"called 'speach'. Did you mean speech\? Known are anna"):
        named({"speach": 3.0})


def test_names_without_classes_are_not_taken_for_nothing():
    with pytest.raises(ConfigError, match="has to know the classes"):
        ClassBias({"speech": 3.0}).weights(LOSSES, GROUPS, EVERY, 0)


def test_a_class_with_gamma_three_weighs_twenty_times():
    p = ClassBias([0.0, 3.0]).weights(
        LOSSES[:2], torch.tensor([[1], [0]]), torch.ones(2, dtype=torch.bool), 0
    )
    assert p.tolist() == pytest.approx([0.952574, 0.047426], abs=1e-6)


def test_an_example_gets_the_mean_of_its_members():
    scores = ClassBias([1.0, 3.0]).scores(LOSSES[:3], torch.tensor([[0, 1], [1, 1], [0, 0]]), 0)
    assert scores.tolist() == [2.0, 3.0, 1.0]


def test_classes_beyond_the_list_get_nothing_extra():
    groups = torch.tensor([[2], [-1], [900], [-2]])
    assert ClassBias([1.0, 3.0]).scores(LOSSES, groups, 0).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_class_bias_needs_no_losses():
    groups = torch.tensor([[0], [1], [1], [0]])
    rule = ClassBias([0.0, math.log(3.0)])
    torch.testing.assert_close(
        rule.weights(LOSSES, groups, EVERY, 0), rule.weights(LOSSES.flip(0), groups, EVERY, 0)
    )
