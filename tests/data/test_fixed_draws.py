"""Validation and test: always the same examples, as many as asked for, each from its own part."""

import numpy as np
import pytest
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.data.examples import Examples
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets

PUBLISHED_SEEDS = {"val": 9, "test": 8}  # arXiv:2010.13228
KINDS = {
    "mixtures": Mixtures(train=40, val=21, test=13, batch_size=8),
    "sequences": Sequences(train=40, val=17, test=11, batch_size=8),
    "snippets": Snippets(speakers=2, snippets=4, train=5, val=3, test=5),
}
COUNTS = {  # of examples; the synthetic set has four speakers each to validate and test
    "mixtures": {"val": 21, "test": 13},
    "sequences": {"val": 17, "test": 11},
    "snippets": {"val": 12, "test": 20},
}


def joined(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.waveform for batch in batches])


@pytest.mark.parametrize("split", PUBLISHED_SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_draws_of_the_published_seeds_from_their_own_part(synthetic, kind, split):
    examples: Examples = KINDS[kind]
    # A run that is resumed in the middle of its third epoch validates on all of them, too.
    loader = examples.loader(synthetic, split, seed=77, start_epoch=2, start_batch=1)
    found = list(loader)
    count = COUNTS[kind][split]
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(count))
    draw = examples.draw(synthetic, split)
    expected = draw.batch(seed=PUBLISHED_SEEDS[split], epoch=0, index=np.arange(count))
    assert torch.equal(joined(found), expected.waveform)
    assert torch.equal(torch.cat([batch.labels for batch in found]), expected.labels)
    other = "test" if split == "val" else "val"
    assert set(draw.table.recording).isdisjoint(examples.draw(synthetic, other).table.recording)
    assert set(draw.table.recording).isdisjoint(examples.draw(synthetic, "train").table.recording)
