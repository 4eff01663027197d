import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from lightning_sep.errors import ConfigError
from lightning_sep.nets.sudo_rm_rf import OriginalMask, ResamplingBlock, SudoRmRf
from tests.nets import oracles

VARIANTS = ["original", "improved"]


def small(**changed: object) -> SudoRmRf:
    settings = {
        "inputs": 1,
        "outputs": 2,
        "blocks": 2,
        "width": 6,
        "inner_width": 8,
        "depth": 3,
        "basis": 16,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SudoRmRf(**(settings | changed)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2_662_022),
        ({"blocks": 8}, 1_414_790),
        ({"blocks": 4}, 791_174),
        ({"depth": 4}, 2_596_486),
        ({"variant": "improved", "width": 256}, 5_016_353),
        ({"variant": "improved", "width": 256, "basis": 2048}, 6_363_425),
    ],
)
def test_has_as_many_parameters_as_published(settings: dict, count: int) -> None:
    with torch.device("meta"):
        net = SudoRmRf(inputs=1, outputs=2, **settings)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize(
    ("variant", "mask_norm", "sources", "outputs"),
    [("original", False, 2, 4), ("original", True, 1, 1), ("improved", False, 2, 4)],
)
def test_is_the_published_graph_of_its_weights(
    variant: str, mask_norm: bool, sources: int, outputs: int
) -> None:
    counts = {"sources": sources, "outputs": outputs}
    net = small(variant=variant, mask_norm=mask_norm, kernel=9, **counts)
    with torch.no_grad():
        for value in net.parameters():  # norms start at 1 and 0, slopes all alike
            value.add_(0.3 * noise(*value.shape))
    x = noise(1, 1, 101)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    how = {"original": variant == "original", "mask_norm": mask_norm, "blocks": 2, "depth": 3}
    expected = oracles.sudo_rm_rf(x[0].numpy(), weights, **how, **counts)
    np.testing.assert_allclose(net(x)[0].detach().numpy(), expected, rtol=1e-8, atol=1e-10)


def test_encoder_and_decoder_of_the_improved_start_within_their_limits() -> None:
    """Uniform within the limit of Glorot and Bengio (2010)."""
    net = small(variant="improved")
    for module in (net.encoder, net.decoder):
        limit = (6 / (21 * (module.weight.shape[0] + module.weight.shape[1]))) ** 0.5
        assert 0.9 * limit < float(module.weight.detach().abs().max()) <= limit


@pytest.mark.parametrize("variant", VARIANTS)
def test_four_seconds_at_8_khz_are_3200_frames(variant: str) -> None:
    with torch.device("meta"):
        net = SudoRmRf(inputs=1, outputs=2, variant=variant)
        assert net.encode(torch.empty(1, 1, 32000)).shape == (1, 512, 3200)


@pytest.mark.parametrize(("depth", "multiple"), [(5, 160), (4, 80), (1, 10)])
def test_pads_to_what_halves_without_a_remainder(depth: int, multiple: int) -> None:
    assert small(depth=depth).multiple_samples == multiple


@pytest.mark.parametrize("kernel", [3, 9, 21, 41])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kernel_gives_back_the_length(variant: str, kernel: int) -> None:
    net = small(variant=variant, kernel=kernel)
    assert net(noise(1, 1, 333)).shape == (1, 2, 333)


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_is_the_padded_output_cut_back(variant: str) -> None:
    net, x = small(variant=variant), noise(2, 1, 401)
    padded = F.pad(x, (0, 40 * 11 - 401))
    assert net.multiple_samples == 40
    assert torch.equal(net(x), net(padded)[..., :401])


@pytest.mark.parametrize("sources", [1, 2, 3])
@pytest.mark.parametrize("settings", [{"mask_norm": True}, {"variant": "improved"}])
def test_gradients_reach_every_parameter_with_any_number_of_sources(
    settings: dict, sources: int
) -> None:
    net = small(**settings, outputs=2 * sources, sources=sources)
    net(noise(2, 1, 200)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_original_masks_share_the_frames_among_the_sources() -> None:
    net, x = small(outputs=3), noise(1, 1, 80)
    seen = []
    net.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(x)
    total = seen[0].unflatten(1, (3, net.basis)).sum(dim=1)
    torch.testing.assert_close(total, net.encode(x))


def test_improved_masks_are_never_negative() -> None:
    net, x = small(variant="improved"), noise(1, 1, 80)
    seen = []
    net.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(x)
    frames = net.encode(x)
    assert (seen[0].unflatten(1, (2, net.basis)) * frames.unsqueeze(1) >= 0).all()


def test_original_decodes_each_source_from_its_own_frames() -> None:
    net, x = small(outputs=4, sources=2), noise(1, 1, 80)
    before = net(x)
    with torch.no_grad():
        net.decoder.weight[net.basis :] *= 2  # the second source's decoder
    changed = (net(x) - before).abs().sum(dim=-1)[0] > 0
    assert changed.tolist() == [False, False, True, True]


def test_a_head_with_many_numbers_per_sample_needs_no_more_masks() -> None:
    net = small(outputs=2 * 256, sources=2)
    assert net.mask(noise(1, 6, 4)).shape == (1, 2, 16, 4)


def test_the_norm_that_the_authors_never_call_is_there_and_not_trained() -> None:
    net, x = small(), noise(1, 1, 200)
    before = net(x)
    before.square().sum().backward()
    frozen = {name for name, one in net.named_parameters() if not one.requires_grad}
    assert frozen == {"mask.norm.weight", "mask.norm.bias"}
    assert all(one.grad.abs().sum() > 0 for one in net.parameters() if one.requires_grad)
    with torch.no_grad():
        net.mask.norm.weight.mul_(7)
    assert torch.equal(net(x), before)
    applied = small(mask_norm=True)
    applied.load_state_dict(net.state_dict())
    assert float((applied(x) - before).norm() / before.norm()) > 0.01


def test_fewer_outputs_than_sources_get_a_mask_each() -> None:
    """As when a task takes the last source as the mixture minus the others."""
    assert small(outputs=1, sources=2).sources == 1
    assert small(outputs=2, sources=3).sources == 2


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("width", [6, 16])
def test_original_mask_is_a_filter_that_slides_over_the_basis(width: int, norm: bool) -> None:
    mask = OriginalMask(width=width, basis=16, sources=3, norm=norm).double()
    x = noise(2, width, 5)
    y = mask.norm(mask.reshape(x)) if norm else mask.reshape(x)
    frames = y.transpose(1, 2).reshape(-1, 1, 16)
    slid = F.conv1d(frames, mask.slide.weight, mask.slide.bias, padding=8)
    expected = slid.reshape(2, 5, 3, 16).permute(0, 2, 3, 1)
    torch.testing.assert_close(mask(x), expected)


def test_block_repeats_slower_scales_and_adds_them() -> None:
    block = ResamplingBlock(width=2, inner_width=3, depth=3, original=False).double()
    x = noise(1, 2, 8)
    fast = block.scales[0](block.expand(x))
    middle = block.scales[1](fast)
    slow = block.scales[2](middle)
    merged = fast + (middle + slow.repeat_interleave(2, dim=-1)).repeat_interleave(2, dim=-1)
    torch.testing.assert_close(block(x), x + block.project(block.merged(merged)))


def test_normalisation_spans_channels_and_time_of_one_example() -> None:
    net = small(variant="improved")
    y = net.norm(noise(3, 16, 20) * 7 + 2)
    torch.testing.assert_close(y.mean(dim=(1, 2)), torch.zeros(3, dtype=y.dtype))
    torch.testing.assert_close(y.var(dim=(1, 2), unbiased=False), torch.ones(3, dtype=y.dtype))


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_nets_run_in_one_pass(variant: str) -> None:
    nets = [small(variant=variant).requires_grad_(False) for _ in range(2)]
    for parameter in nets[1].parameters():
        parameter.mul_(1.1)
    x = noise(2, 1, 100)
    stacked, _ = stack_module_state(nets)
    together = vmap(lambda parameters: functional_call(nets[0], parameters, (x,)))(stacked)
    torch.testing.assert_close(together, torch.stack([net(x) for net in nets]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "best"}, r"variant = 'best': known are original, improved"),
        ({"kernel": 20}, r"kernel = 20: an odd whole number of at least 3"),
        ({"basis": 15}, r"basis = 15: an even number"),
        ({"variant": "improved", "mask_norm": True}, r"mask_norm = True: only variant=original"),
        ({"outputs": 3, "sources": 2}, r"sources = 2: it has to divide the 3 raw outputs"),
    ],
)
def test_refusal_says_what_would_work(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)
