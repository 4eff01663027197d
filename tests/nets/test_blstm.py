import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.nets.blstm import Blstm


def small(**changed: object) -> Blstm:
    settings = {"inputs": 6, "outputs": 4, "hidden": 5, "dense": [9, 8]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Blstm(**(settings | changed)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        net = Blstm(inputs=128, outputs=100)
    assert sum(parameter.numel() for parameter in net.parameters()) == 3_431_088


def test_published_embedding_has_512_values() -> None:
    with torch.device("meta"):
        net = Blstm(inputs=128, outputs=100)
        assert net.embed(torch.empty(2, 40, 128)).shape == (2, 512)


def test_embedding_joins_the_ends_of_both_directions() -> None:
    net, x = small(), noise(3, 7, 6)
    sequence, _ = net.layers[1](net.layers[0](x)[0])
    expected = torch.cat((sequence[:, -1, :5], sequence[:, 0, 5:]), dim=-1)
    torch.testing.assert_close(net.embed(x), expected)


@pytest.mark.parametrize("frame", [0, 3, 6])
def test_every_frame_reaches_the_output(frame: int) -> None:
    net, x = small(), noise(1, 7, 6)
    other = x.clone()
    other[:, frame] += 1.0
    assert not torch.allclose(net(other), net(x))


def test_order_of_frames_matters() -> None:
    net, x = small(), noise(1, 7, 6)
    assert not torch.allclose(net(x.flip(1)), net(x))


def test_dense_layers_have_no_activation_between_them() -> None:
    net, x = small(), noise(3, 7, 6)
    weight, bias = torch.eye(10, dtype=x.dtype), torch.zeros(10, dtype=x.dtype)
    for layer in net.dense:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    torch.testing.assert_close(net(x), net.embed(x) @ weight.T + bias)


@pytest.mark.parametrize("setting", ["dropout", "dense_dropout"])
def test_each_dropout_setting_brings_noise(setting: str) -> None:
    net, x = small(**({"dropout": 0.0, "dense_dropout": 0.0} | {setting: 0.5})), noise(2, 6, 6)
    noisy = net(x, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(noisy, net(x))


@pytest.mark.parametrize(("dense", "behind"), [([9, 8], [0.25, 0]), ([9], [0.25]), ([], [])])
def test_dropout_falls_between_the_layers_and_behind_the_first_dense_one(
    dense: list[int], behind: list[float]
) -> None:
    net, shares = small(dropout=0.5, dense_dropout=0.25, layers=3, dense=dense), []
    for module in (*net.layers, *net.dense):
        module.register_forward_pre_hook(
            lambda _, given: shares.append(float((given[0] == 0).double().mean()))
        )
    net(noise(300, 4, 6), generator=torch.Generator().manual_seed(1))
    # of 12000 and 2700 values: four standard deviations
    assert shares == pytest.approx([0, 0.5, 0.5, 0, *behind], abs=0.034)


def test_without_dense_layers_only_the_output_layer_is_left() -> None:
    net = small(dense=[], dense_dropout=0.9, dropout=0.0)
    x = noise(2, 6, 6)
    assert torch.equal(net(x, generator=torch.Generator().manual_seed(1)), net(x))


@pytest.mark.parametrize("dense", ["100", 100, [10, 0]])
def test_dense_widths_that_cannot_be_are_refused(dense: object) -> None:
    with pytest.raises(ConfigError, match=r"dense.*whole number"):
        small(dense=dense)
