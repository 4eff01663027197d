"""Optimizers and trainer settings refuse what cannot work and build what was asked for."""

import copy

import pytest
import torch
from torch import nn

from lightning_sep.errors import ConfigError
from lightning_sep.optimizers import Adadelta, Adam, AdamW, RMSprop, RootRMSprop
from lightning_sep.settings import build, compose, entries
from lightning_sep.trainer_settings import TrainerSettings

GOOD = {
    "epochs": 1,
    "precision": "32",
    "device": "auto",
    "gradient_clip": None,
    "threads": 1,
    "checkpoint_every_epochs": 1,
    "checkpoint_every_steps": None,
    "checkpoint_every_min": None,
    "hang_s": None,
    "workers": 0,
    "patience": None,
    "progress": False,
    "deterministic": True,
}


@pytest.fixture(params=entries("optimizer"))
def optimizer(request):
    return build(compose([f"optimizer={request.param}"]).tree["optimizer"])


class TestEveryOptimizer:
    def test_lowers_a_parabola(self, optimizer):
        weight = nn.Parameter(torch.tensor([2.0]))
        made = optimizer.build([weight])
        for _ in range(5):
            made.zero_grad()
            weight.square().sum().backward()
            made.step()
        assert 0 <= weight.item() < 2

    def test_takes_parameters_that_come_one_by_one(self, optimizer):
        layer = nn.Linear(2, 1)
        groups = optimizer.build(parameter for parameter in layer.parameters()).param_groups
        assert len(groups[0]["params"]) == 2

    def test_uses_its_learning_rate(self, optimizer):
        made = optimizer.build(nn.Linear(1, 1).parameters())
        assert made.param_groups[0]["lr"] == optimizer.learning_rate

    def test_knows_no_negative_decay(self, optimizer):
        name = type(optimizer).__name__.lower()
        with pytest.raises(ConfigError, match=r"weight_decay = -1\.0: a finite number"):
            compose([f"optimizer={name}", "optimizer.weight_decay=-1"])


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_adam_is_fused_on_a_cpu(kind):
    assert kind(0.001, (0.9, 0.999), 0.0).build(nn.Linear(1, 1).parameters()).defaults["fused"]


GRADIENTS = [1e-4, -0.5, 1e-4, 0.02]


def walk(optimizer, start=2.0, fused=True):
    """Where a weight is after each of the given gradients."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    made, places = optimizer.build([weight], fused=fused), []
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        made.step()
        places.append(weight.item())
    return places


@pytest.mark.parametrize("eps_in_root", [True, False])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.8, 0.1)])
def test_rmsprop_moves_as_published(eps_in_root, momentum, weight_decay):
    w, square, moved, expected = 2.0, 0.0, 0.0, []
    for gradient in GRADIENTS:
        g = gradient + weight_decay * w
        square = 0.9 * square + 0.1 * g * g
        root = (square + 1e-6) ** 0.5 if eps_in_root else square**0.5 + 1e-6
        moved = momentum * moved + g / root
        w -= 0.01 * moved
        expected.append(w)
    found = walk(RMSprop(0.01, 0.9, momentum, weight_decay, 1e-6, eps_in_root))
    assert found == pytest.approx(expected, rel=1e-12)


def test_adadelta_moves_as_published():
    w, square, moved, expected = 2.0, 0.0, 0.0, []
    for gradient in GRADIENTS:
        square = 0.95 * square + 0.05 * gradient**2
        step = ((moved + 1e-6) / (square + 1e-6)) ** 0.5 * gradient
        moved = 0.95 * moved + 0.05 * step**2
        w -= step
        expected.append(w)
    assert walk(Adadelta(1.0, 0.95, 0.0, 1e-6)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_adam_moves_as_published(eps):
    w, mean, square, expected = 2.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        w -= 0.01 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + eps)
        expected.append(w)
    assert walk(Adam(0.01, (0.9, 0.999), 0.0, eps)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.6, 0.8)])
def test_decay_is_added_to_the_gradient_of_adam_and_taken_off_the_weight_by_adamw(betas, decoupled):
    w, mean, square, expected = 2.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, start=1):
        g = gradient + (0.0 if decoupled else 0.3 * w)
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g**2
        move = (mean / (1 - betas[0] ** step)) / ((square / (1 - betas[1] ** step)) ** 0.5 + 1e-3)
        w = w * (1 - 0.01 * 0.3) - 0.01 * move if decoupled else w - 0.01 * move
        expected.append(w)
    kind = AdamW if decoupled else Adam
    for fused in (False, True):
        made = kind(0.01, betas, 0.3, 1e-3)
        assert walk(made, fused=fused) == pytest.approx(expected, rel=1e-9)


def test_decay_is_added_to_the_gradient_of_adadelta():
    w, square, moved, expected = 2.0, 0.0, 0.0, []
    for gradient in GRADIENTS:
        g = gradient + 0.2 * w
        square = 0.9 * square + 0.1 * g**2
        step = ((moved + 1e-4) / (square + 1e-4)) ** 0.5 * g
        moved = 0.9 * moved + 0.1 * step**2
        w -= 0.5 * step
        expected.append(w)
    assert walk(Adadelta(0.5, 0.9, 0.2, 1e-4)) == pytest.approx(expected, rel=1e-12)


def test_what_is_not_said_is_as_published():
    weight = [nn.Parameter(torch.zeros(1))]
    for made in (Adam(0.1, (0.9, 0.999), 0.0), AdamW(0.1, (0.9, 0.999), 0.0)):
        assert made.build(weight).defaults["eps"] == 1e-8
    rmsprop = RMSprop(0.1, 0.9, 0.0, 0.0).build(weight)
    assert isinstance(rmsprop, RootRMSprop)
    assert rmsprop.defaults["eps"] == 1e-6
    assert Adadelta(0.1, 0.95, 0.0).build(weight).defaults["eps"] == 1e-6


def test_rmsprop_moves_every_weight_by_its_own_gradients_and_leaves_those_without():
    start = [torch.tensor(one) for one in ([2.0, -1.0], [[0.5]], [7.0], [3.0])]
    weights = [nn.Parameter(one.double().clone()) for one in start]
    groups = [
        *({"params": weights[:1]}, {"params": weights[3:]}),
        {"params": weights[1:3], "lr": 0.1, "weight_decay": 0.5},
    ]
    made = RootRMSprop(groups, lr=0.01, alpha=0.9, eps=1e-6, momentum=0.5, weight_decay=0.0)
    expected = [one.double().clone() for one in start]
    squares = [torch.zeros_like(one) for one in expected]
    moves = [torch.zeros_like(one) for one in expected]
    for step in range(4):
        for place in (0, 1):
            gradient = torch.full_like(weights[place], 0.3 * (place + 1) * (-1) ** step)
            weights[place].grad = gradient
            decay, rate = (0.0, 0.01) if place == 0 else (0.5, 0.1)
            g = gradient + decay * expected[place]
            squares[place] = 0.9 * squares[place] + 0.1 * g * g
            moves[place] = 0.5 * moves[place] + g / (squares[place] + 1e-6).sqrt()
            expected[place] = expected[place] - rate * moves[place]
        assert made.step() is None
    for weight, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), other)
    assert (weights[2].item(), weights[3].item()) == (7.0, 3.0)


def test_a_step_of_rmsprop_computes_the_loss_anew_where_it_is_told_how():
    weight = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    made = RMSprop(0.1, 0.9, 0.0, 0.0).build([weight])

    def again():
        made.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert made.step(again).item() == 9.0
    assert weight.item() == pytest.approx(3 - 0.1 * 6 / (0.1 * 36 + 1e-6) ** 0.5)


@pytest.mark.parametrize(
    ("entry", "numbers"),
    [
        ("rmsprop", {"decay": 0.9, "momentum": 0.0, "eps": 1e-6, "eps_in_root": True}),
        ("adadelta", {"decay": 0.95, "eps": 1e-6}),
        ("adam", {"betas": [0.9, 0.999], "eps": 1e-8}),
        ("adamw", {"betas": [0.9, 0.999], "eps": 1e-8}),
    ],
)
def test_entries_hold_the_published_numbers(entry, numbers):
    tree = compose([f"optimizer={entry}"]).tree["optimizer"]
    assert {name: tree[name] for name in numbers} == numbers


def test_a_saved_rmsprop_goes_on_as_it_would_have():
    one, other = (nn.Parameter(torch.tensor([2.0])) for _ in range(2))
    first = RMSprop(0.1, 0.9, 0.5, 0.0).build([one])
    for gradient in GRADIENTS:
        one.grad = torch.tensor([gradient])
        first.step()
    second = RMSprop(0.1, 0.9, 0.5, 0.0).build([other])
    other.data.copy_(one.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # else they share tensors
    for optimizer, weight in ((first, one), (second, other)):
        weight.grad = torch.tensor([0.3])
        optimizer.step()
    assert torch.equal(one, other)


def test_fusing_can_be_declined():
    made = Adam(0.001, (0.9, 0.999), 0.0).build(nn.Linear(1, 1).parameters(), fused=False)
    assert not made.defaults["fused"]


def test_whole_numbers_are_not_fused():
    weight = nn.Parameter(torch.zeros(1, device="meta"))
    assert not Adam(0.001, (0.9, 0.999), 0.0).build([weight]).defaults["fused"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Adam(0.0, (0.9, 0.999), 0.0), "learning_rate = 0.0: a finite number above 0"),
        (lambda: Adam(float("nan"), (0.9, 0.999), 0.0), "learning_rate = nan"),
        (lambda: Adam(0.1, (0.9, 1.0), 0.0), "betas = 1.0: a finite .* below 1"),
        (lambda: AdamW(0.1, (-0.01, 0.9), 0.0), "betas = -0.01: a finite .* at least 0"),
        (lambda: Adam(0.1, (0.0, 0.0), -0.01), "weight_decay = -0.01: a finite .* at least 0"),
        (lambda: RMSprop(0.1, 1.0, 0.0, 0.0), "decay = 1.0: a finite .* below 1"),
        (lambda: RMSprop(0.1, 0.0, 1.0, 0.0), "momentum = 1.0: a finite .* below 1"),
        (lambda: Adadelta(1.0, -0.01, 0.0), "decay = -0.01: a finite .* at least 0"),
        (lambda: RMSprop(0.1, 1.5, 0.0, 0.0), "decay = 1.5"),
        (lambda: RMSprop(0.1, 0.5, -0.1, 0.0), "momentum = -0.1"),
        (lambda: Adadelta(1.0, 1.0, 0.0), "decay = 1.0"),
        (lambda: Adadelta(1.0, 0.9, 0.0, 0.0), "eps = 0.0: a finite number above 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("workers", -1),
        ("patience", 0),
        ("checkpoint_every_steps", 0),
        ("checkpoint_every_epochs", 0),
        ("checkpoint_every_min", 0.0),
        ("hang_s", -1.0),
        ("threads", 0),
        ("gradient_clip", 0.0),
        ("gradient_clip", -1.0),
    ],
)
def test_a_trainer_setting_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} = "):
        TrainerSettings(**{**GOOD, name: value})


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="needs a GPU"):
        TrainerSettings(**{**GOOD, "precision": "16-mixed", "device": "cpu"})


def test_the_precision_may_be_written_as_a_number():
    assert compose(["trainer.precision=32"]).tree["trainer"]["precision"] == "32"
