import pytest
import torch
from torch import nn

from lightning_sep.functional.processes import world_size
from lightning_sep.reweighting.class_bias import ClassBias
from lightning_sep.reweighting.gather import global_weights
from lightning_sep.reweighting.loss_softmax import LossSoftmax
from tests import gloo
from tests.reweighting import two_processes as case


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return gloo.run(case.reweigh, 2, tmp_path_factory.mktemp("gloo"))


def test_weights_come_from_one_softmax_over_all_processes(ranks):
    together = torch.cat([rank["known"] for rank in ranks]) / 2
    assert together.tolist() == pytest.approx([0.042937, 0.116715, 0.317265, 0.523082], abs=1e-6)


def single(rule, groups):
    return rule.weights(torch.cat(case.UNEQUAL), groups, torch.cat(case.MASKS), 0)


def test_processes_may_hold_unequal_numbers_of_examples(ranks):
    expected = single(LossSoftmax(0.1), torch.zeros(5, 1, dtype=torch.int64))
    together = torch.cat([rank["uneven"] for rank in ranks]) / 2
    torch.testing.assert_close(together, expected)


def test_classes_travel_with_their_examples(ranks):
    expected = single(ClassBias([0.0, 3.0]), torch.cat(case.CLASSES))
    torch.testing.assert_close(torch.cat([rank["biased"] for rank in ranks]) / 2, expected)


def test_averaged_gradient_is_that_of_the_global_batch(ranks):
    torch.manual_seed(0)
    net = nn.Linear(3, 1).double()
    losses = 10 * net(torch.cat(case.INPUTS)).squeeze(-1).square()
    mask = torch.cat(case.MASKS)
    weights = LossSoftmax(0.1).weights(losses, torch.zeros(5, 1, dtype=torch.int64), mask, 0)
    (weights * losses).sum().backward()
    for rank in ranks:
        torch.testing.assert_close(rank["gradient"], net.weight.grad)


def test_effective_batch_is_that_of_the_global_batch(ranks):
    for rank in ranks:
        assert rank["effective_batch"] == pytest.approx(2.5658, abs=1e-4)
        assert rank["counted"] == 4


def test_one_process_takes_its_own_softmax():
    losses = torch.tensor([-20.0, -10.0])
    every, groups = torch.ones(2, dtype=torch.bool), torch.zeros(2, 1, dtype=torch.int64)
    assert world_size() == 1
    rule = LossSoftmax(0.1)
    assert torch.equal(
        global_weights(rule, losses, groups, every, 0), rule.weights(losses, groups, every, 0)
    )
