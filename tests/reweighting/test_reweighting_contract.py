import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.errors import ConfigError
from lightning_sep.reweighting.base import Reweighting
from tests import contracts

NAMES = contracts.entries_of("reweighting", Reweighting)
GROUPS = torch.tensor([[0, 1], [1, 1], [5, 0], [2, 2]])
LOSSES = torch.tensor([-20.0, -10.0, 0.0, 5.0], dtype=torch.float64)
EVERY = torch.ones(4, dtype=torch.bool)


CLASSES = [("bells", "noise"), ("flute", "music"), ("rain", "noise")]


def made(name, **changes):
    """A rule that knows a run of 1000 steps."""
    rule = contracts.build("reweighting", name, **changes)
    rule.prepare(steps=1000, classes=CLASSES)
    return rule


@pytest.fixture(params=NAMES)
def rule(request):
    return made(request.param)


def test_weights_sum_to_one_and_are_not_negative(rule):
    weights = rule.weights(LOSSES, GROUPS, EVERY, 0)
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights.min() >= 0


def test_order_in_the_batch_does_not_matter(rule):
    order = torch.tensor([2, 0, 3, 1])
    shuffled = rule.weights(LOSSES[order], GROUPS[order], EVERY, 5)
    torch.testing.assert_close(shuffled, rule.weights(LOSSES, GROUPS, EVERY, 5)[order])


def test_a_constant_added_to_all_losses_does_not_matter(rule):
    torch.testing.assert_close(
        rule.weights(LOSSES + 1000, GROUPS, EVERY, 5), rule.weights(LOSSES, GROUPS, EVERY, 5)
    )


def test_weights_are_constants_for_the_gradient(rule):
    losses = LOSSES.clone().requires_grad_()
    assert not rule.weights(losses, GROUPS, EVERY, 5).requires_grad


def test_masked_examples_get_nothing_and_change_nothing(rule):
    mask = torch.tensor([True, False, True, True])
    weights = rule.weights(LOSSES, GROUPS, mask, 5)
    assert weights[1] == 0
    torch.testing.assert_close(
        weights[mask], rule.weights(LOSSES[mask], GROUPS[mask], EVERY[:3], 5)
    )


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_losses_that_are_not_finite_are_masked_by_themselves(rule, broken):
    losses = LOSSES.clone()
    losses[1] = broken
    mask = torch.tensor([True, False, True, True])
    torch.testing.assert_close(
        rule.weights(losses, GROUPS, EVERY, 5), rule.weights(LOSSES, GROUPS, mask, 5)
    )


def test_nothing_left_gives_zeros(rule):
    assert rule.weights(LOSSES, GROUPS, ~EVERY, 5).tolist() == [0, 0, 0, 0]


def test_an_empty_batch_gives_no_weights(rule):
    assert rule.weights(LOSSES[:0], GROUPS[:0], EVERY[:0], 5).shape == (0,)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=6))
def test_extreme_losses_still_give_weights(values):
    for name in NAMES:
        groups = torch.zeros(len(values), 1, dtype=torch.int64)
        mask = torch.ones(len(values), dtype=torch.bool)
        weights = made(name).weights(torch.tensor(values), groups, mask, 0)
        assert weights.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_stays_in_float32_under_autocast(rule):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = rule.weights(LOSSES.bfloat16(), GROUPS, EVERY, 5)
    assert weights.dtype == torch.float32


def test_a_step_may_be_a_tensor(rule):
    torch.testing.assert_close(
        rule.weights(LOSSES, GROUPS, EVERY, torch.tensor(500)),
        rule.weights(LOSSES, GROUPS, EVERY, 500),
    )


def test_can_be_stacked(rule):
    losses = torch.stack([LOSSES, LOSSES.flip(0)])
    stacked = vmap(lambda one: rule.weights(one, GROUPS, EVERY, 5))(losses)
    single = torch.stack([rule.weights(one, GROUPS, EVERY, 5) for one in losses])
    torch.testing.assert_close(stacked, single)


@pytest.mark.parametrize(
    ("name", "setting", "values"),
    [
        ("loss_softmax", "alpha", [0.1, -0.3]),
        ("curriculum", "beta_start", [-0.1, 0.0]),
        ("curriculum", "end", [0.3, 1.0]),
        ("class_bias", "gamma", [[0.0, 3.0], [1.0, 0.5]]),
    ],
)
def test_runs_that_differ_in_a_setting_can_be_stacked(name, setting, values):
    rules = [made(name, **{setting: torch.tensor(one)}) for one in values]

    class Call(torch.nn.Module):
        def __init__(self, rule):
            super().__init__()
            self.rule = rule

        def forward(self, losses):
            return self.rule.weights(losses, GROUPS, EVERY, 7)

    calls = [Call(one) for one in rules]
    stacked = vmap(lambda p, b: functional_call(calls[0], (p, b), (LOSSES,)))(
        *stack_module_state(calls)
    )
    singles = [made(name, **{setting: one}) for one in values]
    expected = torch.stack([one.weights(LOSSES, GROUPS, EVERY, 7) for one in singles])
    torch.testing.assert_close(stacked, expected, atol=1e-7, rtol=1e-6)


def test_nothing_of_a_rule_goes_into_a_checkpoint(rule):
    assert rule.state_dict() == {}


def test_the_entry_names_every_setting():
    for name in NAMES:
        named = set(contracts.arguments("reweighting", name)) - {"_target_"}
        assert named == contracts.settings_of(contracts.target("reweighting", name)), name


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("loss_softmax", {"alpha": "big"}, "alpha = 'big': a finite number is needed .*plain mean"),
        ("loss_softmax", {"alpha": float("inf")}, "alpha = inf: a finite number is needed"),
        ("curriculum", {"beta_start": 0.1}, "beta_start = 0.1: a finite number of at most 0"),
        ("curriculum", {"end": 0}, "end = 0: a finite number above 0 and of at most 1"),
        ("curriculum", {"end": 1.5}, "end = 1.5: a finite number above 0 and of at most 1"),
        ("class_bias", {"gamma": 3.0}, "gamma = 3.0: a list of numbers is needed"),
        ("class_bias", {"gamma": ["speech"]}, "a list of numbers is needed"),
        ("class_bias", {"gamma": {"speech": "much"}}, "a list of numbers is needed"),
        ("class_bias", {"gamma": {"speech": float("inf")}}, "a list of finite numbers is needed"),
        ("class_bias", {"gamma": [float("nan")]}, "a list of finite numbers is needed"),
    ],
)
def test_refuses_settings_that_cannot_work(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        contracts.build("reweighting", name, **changes)
