"""Losses over the training speakers, against torch's own cross-entropy and by hand."""

import math
from copy import deepcopy

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from lightning_sep.errors import ConfigError
from lightning_sep.heads.unit_sphere import UnitSphere
from lightning_sep.losses.am_softmax import AmSoftmax
from lightning_sep.losses.base import ClassLoss
from tests import contracts

NAMES = contracts.entries_of("loss", ClassLoss)
EMBED, CLASSES = 5, 4


def made(name: str, **changes: object) -> ClassLoss:
    torch.manual_seed(3)
    loss: ClassLoss = contracts.build("loss", name, embed=EMBED, classes=CLASSES, **changes)
    return loss.double()


@pytest.fixture(params=NAMES)
def loss(request):
    return made(request.param)


def rows(count: int = 7, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, EMBED, generator=draw, dtype=torch.float64)


LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])


def test_is_torchs_cross_entropy_of_a_linear_layer():
    loss = made("cross_entropy")
    weight, bias = loss.classifier.weight, loss.classifier.bias
    assert weight.shape == (CLASSES, EMBED)
    expected = F.cross_entropy(rows() @ weight.T + bias, LABELS, reduction="none")
    torch.testing.assert_close(loss(embedding=rows(), classes=LABELS), expected)


def test_without_a_margin_is_torchs_cross_entropy_of_cosines():
    loss = made("am_softmax", margin=0.0, scale=7.0)
    cosines = F.cosine_similarity(rows()[:, None], loss.directions[None], dim=-1)
    expected = F.cross_entropy(7.0 * cosines, LABELS, reduction="none")
    torch.testing.assert_close(loss(embedding=rows(), classes=LABELS), expected)


def test_margin_softmax_worked_by_hand():
    """Two classes along the axes, a row 60 degrees from the first and 30 from the second."""
    loss = AmSoftmax(embed=2, classes=2, margin=0.2, scale=10.0)
    with torch.no_grad():
        loss.directions.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    row = 4 * torch.tensor([[0.5, math.sqrt(0.75)]])
    first = loss(embedding=row, classes=torch.tensor([0])).item()
    second = loss(embedding=row, classes=torch.tensor([1])).item()
    other = math.sqrt(0.75)
    assert first == pytest.approx(math.log(1 + math.exp(10 * (other - 0.3))), rel=1e-5)
    assert second == pytest.approx(math.log(1 + math.exp(10 * (0.5 - (other - 0.2)))), rel=1e-5)


def test_only_the_direction_of_a_row_counts_with_a_margin():
    loss = made("am_softmax")
    torch.testing.assert_close(
        loss(embedding=9 * rows(), classes=LABELS), loss(embedding=rows(), classes=LABELS)
    )


def test_a_row_of_no_class_costs_nothing_that_could_be_told(loss):
    labels = LABELS.clone()
    labels[2] = -1
    given = rows().requires_grad_()
    found, whole = loss(embedding=given, classes=labels), loss(embedding=rows(), classes=LABELS)
    others = [0, 1, 3, 4, 5, 6]
    assert found[2].isnan()
    torch.testing.assert_close(found[others], whole[others])
    torch.where(found.isnan(), 0.0, found).sum().backward()
    assert given.grad.isfinite().all()
    assert not given.grad[2].any()


def test_gradients_are_the_derivatives_of_rows_and_parameters(loss):
    names = [name for name, _ in loss.named_parameters()]
    assert names

    def value(row, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return functional_call(loss, given, (), {"embedding": row, "classes": LABELS})

    parameters = [one.detach().clone().requires_grad_() for one in loss.parameters()]
    assert torch.autograd.gradcheck(value, (rows().requires_grad_(), *parameters))


def test_examples_are_rows_of_their_speakers_classes(loss):
    head = UnitSphere()
    costs = loss.costs(head, rows(), LABELS)
    torch.testing.assert_close(costs.losses, loss(embedding=head(rows()), classes=LABELS))
    assert costs.groups.tolist() == [[one] for one in LABELS.tolist()]
    assert costs.rows.tolist() == [[one] for one in range(7)]
    assert loss.group_names(["ann", "bob"]) == [("ann",), ("bob",)]
    none = loss.of_pairs(forth=torch.zeros(3), back=torch.zeros(3), same=torch.ones(3).bool())
    assert none.isnan().tolist() == [True] * 3


def test_stays_in_float32_under_autocast(loss):
    loss.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embedding=rows().bfloat16(), classes=LABELS)
    assert value.dtype == torch.float32
    expected = loss(embedding=rows().bfloat16().float(), classes=LABELS)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_can_be_stacked(loss):
    runs = [loss, deepcopy(loss)]
    with torch.no_grad():
        for value in runs[1].parameters():
            value.add_(0.3 * torch.randn_like(value))
    inputs = {"embedding": rows(), "classes": LABELS}
    stacked = vmap(lambda p, b: functional_call(runs[0], (p, b), (), inputs))(
        *stack_module_state(runs)
    )
    torch.testing.assert_close(stacked, torch.stack([one(**inputs) for one in runs]))


def test_margins_of_stacked_runs():
    numbers = torch.tensor([0.0, 0.4], dtype=torch.float64)
    runs = [AmSoftmax(embed=EMBED, classes=CLASSES, margin=one).double() for one in numbers]
    for run in runs:
        run.load_state_dict(runs[0].state_dict())
    inputs = {"embedding": rows(), "classes": LABELS}
    stacked = vmap(lambda p, b: functional_call(runs[0], (p, b), (), inputs))(
        *stack_module_state(runs)
    )
    torch.testing.assert_close(stacked, torch.stack([one(**inputs) for one in runs]))
    assert (stacked[1] > stacked[0]).all()


def test_another_size_of_rows_is_refused(loss):
    with pytest.raises(
        ValueError, match=r"needs rows \[row, 5\] and classes \[row\], got \[7, 4\]"
    ):
        loss(embedding=rows()[:, :4], classes=LABELS)


@pytest.mark.parametrize("name", NAMES)
def test_less_than_two_classes_are_refused(name):
    words = r"classes = 1: a whole number of at least 2 is needed \(speakers of the training part"
    with pytest.raises(ConfigError, match=words):
        contracts.build("loss", name, embed=3, classes=1)


@pytest.mark.parametrize("changed", [{"scale": 0}, {"margin": 2.5}, {"margin": math.nan}])
def test_settings_out_of_range_are_refused(changed):
    name, value = next(iter(changed.items()))
    with pytest.raises(ConfigError, match=f"{name} = {value}: a finite number"):
        AmSoftmax(embed=3, classes=2, **changed)
