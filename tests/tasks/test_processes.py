"""Several processes give the loss, the gradient and the metrics of one."""

from functools import partial

import numpy as np
import pytest
import torch

from tests import gloo
from tests.tasks import processes

CASES = [f"{task}, {rule}" for task in processes.TASKS for rule in processes.RULES]


@pytest.fixture(scope="module")
def work():
    return partial(processes.measured, trees=processes.trees())


@pytest.fixture(scope="module")
def alone(work):
    return work(0, 1)


@pytest.fixture(scope="module", params=[2, 4])
def together(request, tmp_path_factory, work):
    return gloo.run(work, request.param, tmp_path_factory.mktemp("gloo"))


@pytest.mark.parametrize("case", CASES)
def test_several_processes_give_the_loss_gradient_and_metrics_of_one(case, alone, together):
    gradient, metrics, values = alone[case]
    assert gradient.abs().max() > 1e-4  # or equality would say nothing
    for other in together:
        found, others_metrics, others_values = other[case]
        torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-9)
        assert others_metrics.keys() == metrics.keys()
        for name, value in metrics.items():
            assert others_metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), (
                name
            )
        assert others_values.keys() == values.keys()
        for name, listed in values.items():
            if np.asarray(listed).dtype.kind not in "fiub":  # names
                assert others_values[name] == listed
            else:
                np.testing.assert_allclose(others_values[name], listed, rtol=1e-6, atol=1e-9)


def test_pairs_of_one_process_alone_would_be_others(alone):
    """Of four processes, each with one to three of nine snippets, most pairs lie between two."""
    inside = sum(n * (n - 1) // 2 for n in (3, 3, 2, 1))
    assert inside < 36 / 4
    trials = alone["verification, plain"][2]["test/trials"]
    assert sum(trials) == 8 * 7 // 2  # one snippet is silent
