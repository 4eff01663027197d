"""Arithmetic that keeps its precision."""

import pytest
import torch

from lightning_sep.functional.precision import without_autocast


@pytest.mark.parametrize("device", ["cpu", "meta"])  # torch.autocast refuses the second
def test_a_product_keeps_its_dtype_where_autocast_is_off(device):
    factor = torch.ones(2, 2, device=device)
    with torch.autocast("cpu", dtype=torch.bfloat16), without_autocast(factor):
        assert (factor @ factor).dtype == torch.float32
