import pytest
import torch

from lightning_sep.errors import ConfigError
from lightning_sep.nets.lstm import Lstm


def small(**changed: object) -> Lstm:
    settings = {"inputs": 5, "outputs": 4, "hidden": 8, "layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lstm(**(settings | changed)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("frame_samples", "count"), [(16000, 55_230_400), (200, 7_814_600)])
def test_has_as_many_parameters_as_the_formula_says(frame_samples: int, count: int) -> None:
    with torch.device("meta"):
        net = Lstm(inputs=frame_samples, outputs=frame_samples)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("changed", [0, 3, 9])
def test_a_frame_changes_nothing_before_it(changed: int) -> None:
    net, x = small(), noise(2, 10, 5)
    other = x.clone()
    other[:, changed] += 1.0
    before, after = net(x), net(other)
    assert torch.equal(after[:, :changed], before[:, :changed])
    assert not torch.allclose(after[:, changed], before[:, changed])


def test_every_frame_reaches_the_last_output() -> None:
    x = noise(1, 10, 5).requires_grad_()
    small()(x)[:, -1].sum().backward()
    assert (x.grad.abs().sum(dim=-1) > 0).all()


def test_steps_give_what_the_whole_sequence_gives() -> None:
    net, x = small(), noise(3, 10, 5)
    state, outputs = None, []
    for frame in x.unbind(dim=1):
        output, state = net.step(frame, state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, dim=1), net(x))


def test_state_holds_hidden_and_cell_values_of_every_layer() -> None:
    _, (hidden, cell) = small().step(noise(3, 5))
    assert hidden.shape == cell.shape == (2, 3, 8)


def test_a_step_leaves_the_given_state_alone() -> None:
    net = small()
    _, state = net.step(noise(3, 5))
    kept = [values.clone() for values in state]
    net.step(noise(3, 5), state)
    assert all(torch.equal(now, before) for now, before in zip(state, kept, strict=True))


def test_a_run_goes_on_from_the_state_before_it() -> None:
    net, x = small(), noise(3, 10, 5)
    first, state = net.run(x[:, :4])
    rest, state = net.run(x[:, 4:9], state)
    last, _ = net.step(x[:, 9], state)
    torch.testing.assert_close(torch.cat([first, rest, last[:, None]], dim=1), net(x))


def test_a_step_has_the_dropout_of_a_sequence_of_one() -> None:
    net, x = small(dropout=0.5, input_dropout=0.5).train(), noise(3, 1, 5)
    state = noise(2, 3, 8), noise(2, 3, 8)
    whole, _ = net.run(x, state, generator=torch.Generator().manual_seed(3))
    step, _ = net.step(x[:, 0], state, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(step, whole[:, 0])
    assert not torch.allclose(step, net.step(x[:, 0], state)[0])


def test_without_a_generator_and_in_evaluation_a_step_has_no_dropout() -> None:
    net, x = small(dropout=0.5, input_dropout=0.5).train(), noise(3, 5)
    still = net.step(x)[0]
    assert torch.equal(net.step(x)[0], still)
    assert torch.equal(net.eval().step(x, generator=torch.Generator().manual_seed(3))[0], still)


def test_gradients_of_steps_are_those_of_the_sequence() -> None:
    net, x = small(), noise(3, 6, 5)
    whole = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    state, outputs = None, []
    for frame in x.unbind(dim=1):
        output, state = net.step(frame, state)
        outputs.append(output)
    steps = torch.autograd.grad(torch.stack(outputs, 1).square().sum(), list(net.parameters()))
    for one, other in zip(steps, whole, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("setting", ["dropout", "input_dropout"])
def test_each_dropout_setting_brings_noise(setting: str) -> None:
    net, x = small(**{setting: 0.5}), noise(2, 6, 5)
    noisy = net(x, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(noisy, net(x))


def test_dropout_falls_on_the_input_and_behind_each_layer() -> None:
    net, shares = small(dropout=0.5, input_dropout=0.25), []
    for module in (*net.layers, net.output):
        module.register_forward_pre_hook(
            lambda _, given: shares.append(float((given[0] == 0).double().mean()))
        )
    net(noise(10, 50, 5), generator=torch.Generator().manual_seed(1))
    # of 2500 and 4000 values: four standard deviations
    assert shares == pytest.approx([0.25, 0.5, 0.5], abs=0.035)


def test_is_the_stacked_lstm_of_torch() -> None:
    net, x = small(layers=3), noise(2, 7, 5)
    reference = torch.nn.LSTM(5, 8, num_layers=3, batch_first=True).double()
    for number, layer in enumerate(net.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(reference, f"{name}_l{number}").data = getattr(layer, f"{name}_l0").data
    torch.testing.assert_close(net(x), net.output(reference(x)[0]))


@pytest.mark.parametrize("share", [-0.1, 1.0, "half", float("nan"), True])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(ConfigError, match=r"dropout = .*: a finite .* below 1"):
        small(dropout=share)
