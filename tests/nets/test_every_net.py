"""What every net owes, for each entry of conf/net; a new entry is tested without a change here."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.func import functional_call

from lightning_sep.errors import ConfigError
from lightning_sep.nets.abilities import BatchNet
from tests import contracts

CONF = Path(__file__).parents[2] / "conf" / "net"
ENTRIES = sorted(path.stem for path in CONF.glob("*.yaml"))
SMALL = [name for name in ENTRIES if name.endswith("_small")]
SOURCES = 2
INPUTS = {"waveform": 1, "sequence": 12, "pooled": 10}
OUTPUTS = {"waveform": SOURCES, "sequence": 9, "pooled": 7}


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONF / f"{name}.yaml").read_text()))


def net_class(name: str) -> type[nn.Module]:
    module, _, cls = read(name)["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), cls)  # type: ignore[no-any-return]


def build(name: str, seed: int = 0, **changed: Any) -> nn.Module:
    settings = {key: value for key, value in read(name).items() if key != "_target_"}
    for key, value in settings.items():
        if isinstance(value, str) and value.startswith("${"):  # what the task fills in
            settings[key] = SOURCES
    cls = net_class(name)
    sizes = {"inputs": INPUTS[cls.material], "outputs": OUTPUTS[cls.material]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(**(sizes | settings | changed))


def example(net: nn.Module, batch: int = 3, length: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    if net.material == "waveform":
        return torch.randn(batch, net.inputs, length or 701, generator=draw)
    return torch.randn(batch, length or 11, net.inputs, generator=draw)


def shape_out(net: nn.Module, x: Tensor) -> tuple[int, ...]:
    if net.material == "waveform":
        return (x.shape[0], net.outputs, x.shape[2])
    return (*x.shape[:2], net.outputs) if net.material == "sequence" else (x.shape[0], net.outputs)


def says_that_it_norms_over_its_batch(net: nn.Module) -> bool:
    return isinstance(net, BatchNet) and net.batch_statistics


def apart_from_its_batch(net: nn.Module) -> None:
    """What holds in evaluation only, for nets that say so."""
    if says_that_it_norms_over_its_batch(net):
        net.eval()


@pytest.fixture(params=SMALL)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param)


@pytest.fixture(params=[name for name in SMALL if "lstm" in name])
def noisy_net(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param, dropout=0.5)


@pytest.mark.parametrize("name", ENTRIES)
class TestEveryEntry:
    def test_names_every_argument_but_those_that_the_task_fills_in(self, name: str) -> None:
        arguments = list(inspect.signature(net_class(name)).parameters)
        assert ["_target_", *arguments] == ["_target_", "inputs", "outputs", *list(read(name))[1:]]

    def test_builds(self, name: str) -> None:
        with torch.device("meta"):
            assert sum(1 for _ in build(name).parameters()) > 0

    def test_says_what_the_class_does_when_nothing_is_said(self, name: str) -> None:
        with torch.device("meta"):
            unlike = contracts.unlike_the_class("net", name, inputs=2, outputs=2)
        unlike.pop("sources", None)  # what the task fills in
        if name in SMALL:
            assert unlike
        else:  # of Wave-U-Nets, the one with learned upsampling is the one for full bandwidth
            learned = {"upsampling": ("learned", "linear")} if name == "wave_unet" else {}
            assert unlike == learned

    def test_explains_every_setting(self, name: str) -> None:
        lines = (CONF / f"{name}.yaml").read_text().splitlines()
        assert all("#" in line for line in lines if line and not line.startswith("_target_"))


@pytest.mark.parametrize("name", [name for name in ENTRIES if "sources" in read(name)])
@pytest.mark.parametrize(("task", "sources"), [({"sources": 3}, 3), ({"frame_samples": 64}, None)])
def test_number_of_sources_is_that_of_the_task_if_it_has_any(
    name: str, task: dict[str, int], sources: int | None
) -> None:
    settings = OmegaConf.create({"task": task, "net": read(name)})
    assert settings.net.sources == sources


class TestEveryNet:
    @pytest.mark.parametrize("length", [1, 2, 37, 160, 1001])
    def test_takes_any_length(self, net: nn.Module, length: int) -> None:
        x = example(net, batch=2, length=length)
        assert net(x).shape == shape_out(net, x)

    def test_gives_raw_values_that_no_activation_bounds(self, net: nn.Module) -> None:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(3.0)
            raw = net(100 * example(net))
        assert (raw.max() > 1) & (raw.min() < -1)

    def test_gradients_reach_every_parameter(self, net: nn.Module) -> None:
        net(example(net)).square().sum().backward()
        without = [
            name
            for name, parameter in net.named_parameters()
            if parameter.requires_grad
            if parameter.grad is None or not parameter.grad.abs().sum() > 0
        ]
        assert without == []

    def test_repeats_itself_given_the_generator(self, net: nn.Module) -> None:
        x = example(net)
        once = net(x, generator=torch.Generator().manual_seed(3))
        assert torch.equal(net(x, generator=torch.Generator().manual_seed(3)), once)

    def test_leaves_the_global_generator_alone(self, net: nn.Module) -> None:
        before = torch.get_rng_state()
        net(example(net), generator=torch.Generator().manual_seed(3))
        assert torch.equal(torch.get_rng_state(), before)

    def test_changes_no_state(self, net: nn.Module) -> None:
        apart_from_its_batch(net)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        x = example(net)
        given = x.clone()
        net(x, generator=torch.Generator().manual_seed(3)).sum().backward()
        torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
        assert torch.equal(x, given)

    def test_has_no_buffers_that_training_would_change(self, net: nn.Module) -> None:
        if not says_that_it_norms_over_its_batch(net):
            assert [name for name, _ in net.named_buffers()] == []

    def test_is_a_pure_function_of_its_parameters(
        self, net: nn.Module, request: pytest.FixtureRequest
    ) -> None:
        other = build(request.node.callspec.params["net"], seed=1)
        x = example(net)
        called = functional_call(net, dict(other.named_parameters()), (x,))
        torch.testing.assert_close(called, other(x), rtol=0, atol=0)

    def test_state_dict_carries_everything(
        self, net: nn.Module, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        torch.save(net.state_dict(), tmp_path / "net.pt")
        other = build(request.node.callspec.params["net"], seed=1)
        other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
        assert torch.equal(other(example(net)), net(example(net)))

    def test_computes_in_float64(self, net: nn.Module) -> None:
        single = net(example(net))
        double = net.double()(example(net).double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)

    def test_mixed_precision_stays_close(self, net: nn.Module) -> None:
        x = example(net)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = net(x).float()
        full = net(x)
        # bfloat16 keeps 8 bits, about 0.4 % per operation, and a net is some tens of operations
        assert (mixed - full).norm() < 0.1 * full.norm()

    def test_an_example_is_not_changed_by_its_batch(self, net: nn.Module) -> None:
        apart_from_its_batch(net)
        net.double()
        x = example(net, batch=4).double()
        alone = torch.cat([net(x[number : number + 1]) for number in range(4)])
        # the order of additions may depend on the batch size, hence not equal bit by bit
        torch.testing.assert_close(alone, net(x), rtol=1e-10, atol=1e-12)

    def test_stays_finite_on_silence(self, net: nn.Module) -> None:
        net(torch.zeros_like(example(net))).square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


class TestEveryNetWithDropout:
    def test_another_seed_gives_other_noise(self, noisy_net: nn.Module) -> None:
        x = example(noisy_net)
        once, twice = (noisy_net(x, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
        assert not torch.allclose(once, twice)

    def test_a_generator_that_goes_on_gives_other_noise_in_the_next_step(
        self, noisy_net: nn.Module
    ) -> None:
        x, generator = example(noisy_net), torch.Generator().manual_seed(1)
        assert not torch.allclose(
            noisy_net(x, generator=generator), noisy_net(x, generator=generator)
        )

    def test_without_a_generator_there_is_no_noise(self, noisy_net: nn.Module) -> None:
        x = example(noisy_net)
        trained, used = noisy_net.train()(x), noisy_net.eval()(x)
        assert torch.equal(trained, used)

    def test_evaluation_has_no_noise(self, noisy_net: nn.Module) -> None:
        x = example(noisy_net)
        noisy_net.eval()
        assert torch.equal(noisy_net(x, generator=torch.Generator().manual_seed(1)), noisy_net(x))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("setting", "value"),
    [("inputs", 0), ("outputs", -1), ("inputs", "many"), ("outputs", 2.5), ("inputs", True)],
)
def test_a_size_that_cannot_be_is_refused_with_its_value(
    name: str, setting: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} = {value!r}: a whole number"):
        build(name, **{setting: value})


WRONG = {bool: "perhaps", int: 0, float: float("nan"), str: "odd", list: "wide"}
EDGES = [  # the first values that do not do
    ("wave_unet_small", "down_kernel", 14),
    ("wave_unet_small", "up_kernel", 4),
    ("wave_unet_small", "leak", 1.0),
    ("wave_unet_small", "leak", -0.01),
    ("sudo_rm_rf_small", "kernel", 20),
    ("sudo_rm_rf_small", "kernel", 1),
    ("sudo_rm_rf_small", "mask_norm", True),  # of the original alone
    ("blstm_small", "dense[1]", 0),
    *((name, "dropout", value) for name in ("lstm_small", "blstm_small") for value in (1.0, -0.01)),
    *(("lstm_small", "input_dropout", value) for value in (1.0, -0.01)),
    *(("blstm_small", "dense_dropout", value) for value in (1.0, -0.01)),
]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *EDGES,
        *(
            (name, setting, WRONG[int if setting == "sources" else type(value)])
            for name in SMALL
            for setting, value in read(name).items()
            if setting != "_target_"
        ),
    ],
)
def test_every_setting_is_checked_by_its_name(name: str, setting: str, value: object) -> None:
    changed = {"dense": [8, value]} if setting == "dense[1]" else {setting: value}
    with pytest.raises(ConfigError, match=re.escape(f" {setting} = {value!r}: ")):
        build(name, **changed)
