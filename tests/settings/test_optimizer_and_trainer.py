"""Optimizers and trainer settings refuse what cannot work and build what was asked for."""

import pytest
import torch
from torch import nn

from lightning_sep.errors import ConfigError
from lightning_sep.optimizers import Adadelta, Adam, AdamW, RMSprop
from lightning_sep.settings import build, compose, entries
from lightning_sep.trainer_settings import TrainerSettings

GOOD = {
    "epochs": 1,
    "precision": "32",
    "device": "auto",
    "gradient_clip": None,
    "checkpoint_every_steps": None,
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
        (
            lambda: Adam(0.1, (0.9, 1.0), 0.0),
            "betas = 1.0: a finite .* below 1",
        ),
        (lambda: RMSprop(0.1, 1.5, 0.0, 0.0), "decay = 1.5"),
        (lambda: RMSprop(0.1, 0.5, -0.1, 0.0), "momentum = -0.1"),
        (lambda: Adadelta(1.0, 1.0, 0.0), "decay = 1.0"),
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
        ("gradient_clip", 0.0),
        ("gradient_clip", -1.0),
    ],
)
def test_a_trainer_setting_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        TrainerSettings(**{**GOOD, name: value})


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="needs a GPU"):
        TrainerSettings(**{**GOOD, "precision": "16-mixed", "device": "cpu"})


def test_the_precision_may_be_written_as_a_number():
    assert compose(["trainer.precision=32"]).tree["trainer"]["precision"] == "32"
