import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from lightning_sep.errors import ConfigError
from lightning_sep.heads.base import WaveformHead
from tests import contracts

NAMES = contracts.entries_of("head", WaveformHead)
EXTREMES = [0.0, 1.0, -1.0, 3.0, -3.0, 50.0, -50.0, 1e4, -1e4, 1e30, -1e30]


@pytest.fixture(params=NAMES)
def head(request):
    return contracts.build("head", request.param)


@pytest.fixture(params=[name for name in NAMES if contracts.target("head", name).brings_loss])
def cross_entropy_head(request):
    return contracts.build("head", request.param)


def raw_like(head, *shape, dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(*shape, head.raw_per_sample, generator=generator, dtype=torch.float64)
    return (scale * raw).to(dtype)


def extremes(head, values, dtype=torch.float32):
    """Every value in every place of a row, the rest random."""
    rows = []
    for value in values:
        for place in range(min(head.raw_per_sample, 12)):
            row = raw_like(head, dtype=dtype, seed=place)
            row[place] = value
            rows.append(row)
        rows.append(torch.full((head.raw_per_sample,), value, dtype=dtype))
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_decodes_within_its_bounds_for_extreme_values(head, dtype):
    largest = torch.finfo(dtype).max
    values = [v for v in EXTREMES if abs(v) < largest] + [largest, -largest]
    decoded = head.decode(extremes(head, values, dtype))
    assert ((decoded >= head.bounds[0]) & (decoded <= head.bounds[1])).all()


def test_decodes_infinities_within_its_bounds(head):
    decoded = head.decode(extremes(head, [torch.inf, -torch.inf]))
    assert ((decoded >= head.bounds[0]) & (decoded <= head.bounds[1])).all()


def test_decoding_does_not_hide_a_nan(head):
    raw = raw_like(head, 3)
    raw[1] = torch.nan
    assert head.decode(raw).isnan().tolist() == [False, True, False]


def test_what_clipping_took_off_is_seen_without_it(head):
    """Heads that clip show the raw value, a mixture its mean; the others have nothing to clip."""
    raw = raw_like(head, 40, dtype=torch.float64, scale=2.0)
    found = head.unclipped(raw)
    if head.raw_per_sample == 1 and ((found < -1) | (found > 1)).any():
        assert torch.equal(found, raw.squeeze(-1))
        torch.testing.assert_close(head.decode(raw), raw.squeeze(-1).clamp(*head.bounds))
    elif type(head).__name__ == "LogisticMixture":
        logits, means, _ = raw.chunk(3, dim=-1)
        shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
        torch.testing.assert_close(found, (shares * means).sum(-1))
    else:
        torch.testing.assert_close(found, head.decode(raw))
    clips = type(head).__name__ in ("ClipAtEval", "HardClip", "StraightThroughClip", "Linear")
    assert clips == (head.raw_per_sample == 1 and float(found.abs().max()) > 1)


def test_whatever_a_head_makes_is_decoded_and_drawn_within_its_bounds():
    class Loud(WaveformHead):
        bounds = (-0.5, 2.0)

        def training_view(self, raw):
            return 3 * raw.squeeze(-1)

        def decoded(self, raw):
            return 3 * raw.squeeze(-1)

    raw = torch.tensor([[-1.0], [-0.1], [0.5], [1.0]])
    expected = torch.tensor([-0.5, -0.3, 1.5, 2.0])
    torch.testing.assert_close(Loud().decode(raw), expected)
    torch.testing.assert_close(Loud().sample(raw, torch.Generator()), expected)
    torch.testing.assert_close(Loud().unclipped(raw), 3 * raw.squeeze(-1))


def test_draws_within_its_bounds(head):
    generator = torch.Generator().manual_seed(0)
    drawn = head.sample(extremes(head, [*EXTREMES, torch.inf, -torch.inf]), generator)
    assert ((drawn >= head.bounds[0]) & (drawn <= head.bounds[1])).all()


def test_draws_repeat_with_the_generator(head):
    raw = raw_like(head, 4, 5)
    one, two = (head.sample(raw, torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_draws_leave_the_global_generator_alone(head):
    before = torch.get_rng_state()
    head.sample(raw_like(head, 4), torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_decodes_one_value_per_sample(head):
    assert head.decode(raw_like(head, 2, 3, 5)).shape == (2, 3, 5)


def test_shows_the_loss_estimates_or_distributions(head):
    raw = raw_like(head, 2, 3, 5)
    shape = (2, 3, 5) if head.raw_per_sample == 1 else (2, 3, 5, head.raw_per_sample)
    assert head(raw).shape == shape
    assert head.decode(raw).shape == (2, 3, 5)


def test_stays_in_float32_under_autocast(head):
    raw = raw_like(head, 4, scale=3).bfloat16()
    target = torch.linspace(-1, 1, 4)
    plain = [head(raw.float()), head.decode(raw.float())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [head(raw), head.decode(raw)]
        loss = head.own_loss(raw, target) if head.brings_loss else mixed[0]
    assert [one.dtype for one in [*mixed, loss]] == [torch.float32] * 3
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_keeps_float64(head):
    assert head(raw_like(head, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "name", [name for name in NAMES if contracts.target("head", name).exact_gradient]
)
def test_gradient_is_the_derivative(name):
    head = contracts.build("head", name)
    raw = raw_like(head, 2, 3, dtype=torch.float64, scale=0.6).requires_grad_()
    assert torch.autograd.gradcheck(head, raw)


def test_gradient_of_its_own_loss_is_the_derivative(cross_entropy_head):
    head = cross_entropy_head
    raw = raw_like(head, 5, dtype=torch.float64, scale=0.6).requires_grad_()
    target = torch.tensor([-1.0, -0.3, 0.0, 0.9, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda one: head.own_loss(one, target), raw)


def test_its_loss_of_all_pairs_is_the_mean_over_time_of_each(cross_entropy_head):
    head = cross_entropy_head.double()
    raw = raw_like(head, 2, 3, 7, dtype=torch.float64)  # 3 estimates of 7 samples
    target = torch.linspace(-1.1, 1.1, 2 * 4 * 7, dtype=torch.float64).reshape(2, 4, 7)
    found = head.pairwise_loss(raw, target)
    assert found.shape == (2, 3, 4)
    for example in range(2):
        for estimate in range(3):
            for source in range(4):
                one = head.own_loss(raw[example, estimate], target[example, source]).mean()
                torch.testing.assert_close(found[example, estimate, source], one)


def test_pairs_that_do_not_fit_are_refused(cross_entropy_head):
    raw = raw_like(cross_entropy_head, 2, 3, 7)
    for shape in [(2, 3, 6), (1, 3, 7), (2, 7)]:
        with pytest.raises(ValueError, match="raw and target need the shapes"):
            cross_entropy_head.pairwise_loss(raw, torch.zeros(shape))


def test_own_loss_stays_finite_with_its_gradient_for_extreme_values(cross_entropy_head):
    head = cross_entropy_head
    for target in (-1.0, -0.2, 1.0, 1.7):
        raw = extremes(head, [0.0, 30.0, -30.0, 1e4, -1e4]).requires_grad_()
        loss = head.own_loss(raw, torch.full(raw.shape[:-1], target))
        (gradient,) = torch.autograd.grad(loss.sum(), raw)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def test_own_loss_of_a_target_beyond_full_scale_is_that_of_full_scale(cross_entropy_head):
    head = cross_entropy_head
    raw = raw_like(head, 2)
    beyond = head.own_loss(raw, torch.tensor([1.3, -7.0]))
    torch.testing.assert_close(beyond, head.own_loss(raw, torch.tensor([1.0, -1.0])))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not contracts.target("head", name).brings_loss]
)
def test_says_that_it_brings_no_loss(name):
    head = contracts.build("head", name)
    with pytest.raises(TypeError, match="brings no loss"):
        head.own_loss(raw_like(head, 2), torch.zeros(2))


def test_the_loss_that_it_brings_is_one_like_any_other(cross_entropy_head):
    head, given = cross_entropy_head, contracts.build("loss", "mse")
    loss = head.criterion(given)
    assert (loss.handles_silence, loss.on_waveforms) == (True, False)
    raw, target = raw_like(head, 3, 2, 7), raw_like(head, 3, 2, 7)[..., 0].tanh().flip(1)
    assert head.seen(raw) is raw
    costs = loss(estimate=raw, target=target)
    torch.testing.assert_close(costs, head.own_loss(raw, target).sum(-1) / 7)
    pairs = loss.pairwise(estimate=raw, target=target, mixture=target.sum(1))
    assert pairs.shape == (3, 2, 2)
    for estimate in range(2):
        for source in range(2):
            one = loss(estimate=raw[:, estimate], target=target[:, source])
            torch.testing.assert_close(pairs[:, estimate, source], one, rtol=1e-4, atol=1e-6)
    assert not head.shows_two


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not contracts.target("head", name).brings_loss]
)
def test_without_a_loss_of_its_own_it_leaves_the_given_one(name):
    head, given = contracts.build("head", name), contracts.build("loss", "mse")
    assert head.criterion(given) is given
    assert given.on_waveforms
    raw = raw_like(head, 3, 7, scale=2.0)
    assert torch.equal(head.seen(raw), head(raw))
    assert head.shows_two


def test_its_own_loss_refuses_targets_of_another_shape(cross_entropy_head):
    raw = raw_like(cross_entropy_head, 2, 3)
    with pytest.raises(ValueError, match=r"the same shape up to the parameters, got \[2, 3, \d+\]"):
        cross_entropy_head.own_loss(raw, torch.zeros(2, 4))


def test_refuses_raw_values_of_another_size(head):
    with pytest.raises(ValueError, match=r"needs raw values"):
        head(torch.zeros(2, head.raw_per_sample + 1))


def test_a_row_does_not_depend_on_its_neighbours(head):
    raw = raw_like(head, 6)
    torch.testing.assert_close(head(raw)[2:3], head(raw[2:3]))


def test_can_be_stacked(head):
    raw = raw_like(head, 3, 4)
    torch.testing.assert_close(vmap(head)(raw), head(raw))
    torch.testing.assert_close(vmap(head.decode)(raw), head.decode(raw))


def test_own_loss_can_be_stacked(cross_entropy_head):
    head = cross_entropy_head
    raw, target = raw_like(head, 3, 4), torch.linspace(-1, 1, 12).reshape(3, 4)
    torch.testing.assert_close(vmap(head.own_loss)(raw, target), head.own_loss(raw, target))


def test_the_entry_says_what_the_class_does_when_nothing_is_said():
    for name in contracts.entries("head"):
        assert contracts.unlike_the_class("head", name) == {}, name


def test_the_entry_names_every_setting():
    for name in contracts.entries("head"):
        named = set(contracts.arguments("head", name)) - {"_target_"}
        assert named == contracts.settings_of(contracts.target("head", name)), name


@pytest.mark.parametrize("setting", ["temperature", "log_scale_floor"])
def test_runs_that_differ_in_a_setting_can_be_stacked(setting):
    name = {"temperature": "mu_law_softmax", "log_scale_floor": "logistic_mixture"}[setting]
    values = {"temperature": [0.5, 2.0], "log_scale_floor": [-7.0, -1.0]}[setting]
    singles = [contracts.build("head", name, **{setting: value}) for value in values]
    heads = [contracts.build("head", name, **{setting: torch.tensor(value)}) for value in values]
    raw = raw_like(heads[0], 2, 3)
    parameters, buffers = stack_module_state(heads)
    stacked = vmap(lambda p, b, x: functional_call(heads[0], (p, b), (x,)))(
        parameters, buffers, raw
    )
    torch.testing.assert_close(
        stacked, torch.stack([h(x) for h, x in zip(singles, raw, strict=True)])
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mu_law_softmax", {"temperature": 0.0}, "temperature = 0.0: a finite number above 0"),
        ("mu_law_softmax", {"temperature": "hot"}, "temperature = 'hot': a finite number above 0"),
        ("mu_law_softmax", {"levels": 1}, "levels = 1: a whole number of at least 2"),
        ("mu_law_softmax", {"levels": 2.5}, "levels = 2.5: a whole number"),
        ("logistic_mixture", {"components": 0}, "components = 0: a whole number of at least 1"),
        (
            "logistic_mixture",
            {"log_scale_floor": 2.0},
            "log_scale_floor = 2.0: a finite .* most 0",
        ),
        ("softmax", {"temperature": -1.0}, "temperature = -1.0: a finite number above 0"),
        ("softplus", {"temperature": float("nan")}, "temperature = nan: a finite number above 0"),
        ("prelu", {"lowest": 0.0}, "lowest = 0.0: a finite number above 0"),
        ("prelu", {"lowest": 2.0}, "lowest = 2.0: a number below highest"),
        ("prelu", {"slope": True}, "slope = True: a finite number is needed"),
    ],
)
def test_refuses_settings_that_cannot_work(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        contracts.build("head", name, **changes)
