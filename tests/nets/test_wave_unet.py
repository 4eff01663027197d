import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.errors import ConfigError
from lightning_sep.nets.wave_unet import LearnedUpsampling, LinearUpsampling, WaveUnet
from tests.nets import oracles


def small(**changed: object) -> WaveUnet:
    settings = {"inputs": 1, "outputs": 2, "levels": 2, "filters": 3, "context": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WaveUnet(**(settings | changed)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# A difference output, as in M2 and M4 to M6, is the task's: its net gives one source less.
@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("M1", {"inputs": 1, "outputs": 2}, 10_263_028),
        ("M2", {"inputs": 1, "outputs": 1}, 10_263_002),
        ("M4", {"inputs": 2, "outputs": 2}, 10_263_390),
        ("M5 and M5-HighSR", {"inputs": 2, "outputs": 2, "upsampling": "learned"}, 10_265_550),
        ("M5, direct", {"inputs": 2, "outputs": 4, "upsampling": "learned"}, 10_265_604),
        ("M6", {"inputs": 2, "outputs": 6}, 10_263_498),
    ],
)
def test_has_as_many_parameters_as_published(name: str, settings: dict, count: int) -> None:
    with torch.device("meta"):
        net = WaveUnet(**settings)
    assert sum(parameter.numel() for parameter in net.parameters()) == count, name


@pytest.mark.parametrize(
    ("levels", "wished", "sizes"),
    [
        (12, 16384, (147443, 16389)),
        (4, 1000, (1507, 1013)),
        (6, 4096, (6131, 4101)),
        (8, 8192, (16371, 8197)),
    ],
)
class TestSizes:
    def test_are_those_of_the_published_rule(
        self, levels: int, wished: int, sizes: tuple[int, int]
    ) -> None:
        assert small(levels=levels).sizes(wished) == sizes

    def test_are_what_the_network_computes(
        self, levels: int, wished: int, sizes: tuple[int, int]
    ) -> None:
        with torch.device("meta"):
            net = WaveUnet(inputs=2, outputs=4, levels=levels)
            assert net.forward_valid(torch.empty(1, 2, sizes[0])).shape == (1, 4, sizes[1])


def test_the_published_network_leaves_the_published_margin() -> None:
    input_samples, output_samples = small(levels=12).sizes(16384)
    assert (input_samples - output_samples) / 2 == 65527


def test_without_context_input_and_output_are_equally_long() -> None:
    assert small(context=False).sizes(1234) == (1234, 1234)


@pytest.mark.parametrize("time", [1, 7, 100])
def test_output_is_the_valid_output_of_the_zero_padded_input(time: int) -> None:
    net, x = small(), noise(1, 1, time)
    input_samples, output_samples = net.sizes(time)
    side = (input_samples - output_samples) // 2
    padded = torch.zeros(1, 1, input_samples, dtype=x.dtype)
    padded[..., side : side + time] = x
    torch.testing.assert_close(net(x), net.forward_valid(padded)[..., :time])


def test_output_sample_sits_where_its_input_sample_is() -> None:
    """A click excites the net around itself, so a shift by a crop too much would show."""
    net = small(levels=1, down_kernel=1, up_kernel=1, filters=2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    x = torch.zeros(1, 1, 41, dtype=torch.float64)
    base = net(x)
    x[..., 20] = 1.0
    changed = (net(x) - base).abs().sum(dim=1)[0].nonzero().flatten()
    assert (changed.min() + changed.max()) / 2 == 20


@pytest.mark.parametrize("upsampling", ["linear", "learned"])
@pytest.mark.parametrize("context", [True, False])
def test_is_the_published_graph_of_its_weights(context: bool, upsampling: str) -> None:
    settings = {"context": context, "upsampling": upsampling, "levels": 3, "leak": 0.3}
    net = small(inputs=2, outputs=3, down_kernel=5, up_kernel=3, **settings)
    with torch.no_grad():
        for value in net.parameters():  # biases start at 0
            value.add_(0.3 * noise(*value.shape))
    x = noise(1, 2, net.sizes(21)[0] if context else 37)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    expected = oracles.wave_unet(x[0].numpy(), weights, levels=3, leak=0.3, context=context)
    np.testing.assert_allclose(net.forward_valid(x)[0].detach().numpy(), expected, 1e-9, 1e-12)


def test_convolutions_start_as_in_the_papers_framework() -> None:
    """Uniform within the limit of Glorot and Bengio (2010), biases at 0."""
    for module in small(inputs=2, levels=3, filters=8).modules():
        if isinstance(module, torch.nn.Conv1d):
            outputs, inputs, taps = module.weight.shape
            limit = (6 / (taps * (inputs + outputs))) ** 0.5
            assert 0.9 * limit < float(module.weight.detach().abs().max()) <= limit
            assert not module.bias.any()


@pytest.mark.parametrize("context", [True, False])
class TestChunks:
    @pytest.mark.parametrize(
        "settings",
        [
            {"levels": 1},
            {"levels": 2, "upsampling": "learned"},
            {"levels": 4},
            {"levels": 3, "down_kernel": 3, "up_kernel": 9},
        ],
    )
    @pytest.mark.parametrize("time", [1, 100, 1600, 1601, 3111])
    def test_equal_one_pass(self, context: bool, settings: dict, time: int) -> None:
        net, x = small(context=context, **settings), noise(2, 1, time)
        whole = net(x)
        pieces = net.forward_chunked(x, wished_samples=100)
        assert pieces.shape == whole.shape
        assert (pieces - whole).norm() <= 1e-12 * whole.norm()

    def test_are_no_longer_than_asked_for_and_their_surroundings(self, context: bool) -> None:
        net = small(context=context)
        seen = []
        net.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-1]))
        inner, net.forward = net.forward, lambda x: (seen.append(x.shape[-1]), inner(x))[1]
        net.forward_chunked(noise(1, 1, 2000), wished_samples=100)
        assert len(seen) == 20
        assert max(seen) <= 100 + 2 * net.reach_samples

    def test_no_output_depends_on_anything_beyond_the_reach(self, context: bool) -> None:
        net = small(context=context)
        x = noise(1, 1, 3 * net.reach_samples).requires_grad_()
        y = net(x)
        middle = x.shape[-1] // 2
        for where in range(middle, middle + net.step_samples):
            (slopes,) = torch.autograd.grad(y[0, :, where].sum(), x, retain_graph=True)
            far = (slopes[0, 0].nonzero().flatten() - where).abs().max()
            assert far <= net.reach_samples


class TestUpsampling:
    def test_linear_agrees_with_torch_between_the_samples(self) -> None:
        x = noise(2, 3, 9)
        expected = torch.nn.functional.interpolate(x, size=17, mode="linear", align_corners=True)
        torch.testing.assert_close(LinearUpsampling()(x)[..., :-1], expected)

    def test_learned_starts_as_linear(self) -> None:
        x = noise(2, 3, 9)
        torch.testing.assert_close(LearnedUpsampling(3).double()(x), LinearUpsampling()(x))

    def test_learned_weighs_the_left_neighbour_by_the_sigmoid_of_its_channel(self) -> None:
        layer = LearnedUpsampling(2)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([3.0, -1.0]))
        w = torch.sigmoid(layer.weight)
        x = torch.tensor([[[1.0, 5.0], [1.0, 5.0]]])
        expected = w * 1.0 + (1 - w) * 5.0
        torch.testing.assert_close(layer(x)[0, :, 1], expected)


def test_levels_drop_every_second_sample_without_a_filter() -> None:
    net = small(levels=1, context=False)
    seen = []
    net.bottom.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = noise(1, 1, 20)
    net(x)
    first = torch.nn.functional.leaky_relu(net.down[0](x), 0.2)
    assert torch.equal(seen[0], first[..., ::2])


def test_several_nets_run_in_one_pass() -> None:
    nets = [small(context=False, upsampling="learned").requires_grad_(False) for _ in range(3)]
    for number, net in enumerate(nets):
        for parameter in net.parameters():
            parameter.mul_(1.0 + 0.1 * number)
    x = noise(2, 1, 37)
    stacked, _ = stack_module_state(nets)
    together = vmap(lambda parameters: functional_call(nets[0], parameters, (x,)))(stacked)
    torch.testing.assert_close(together, torch.stack([net(x) for net in nets]))


class TestRefusals:
    def test_name_all_problems_at_once(self) -> None:
        with pytest.raises(ConfigError) as refused:
            WaveUnet(inputs=1, outputs=2, levels=0, down_kernel=4, upsampling="cubic")
        message = str(refused.value)
        assert all(name in message for name in ("levels = 0", "down_kernel = 4", "'cubic'"))
