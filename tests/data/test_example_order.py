"""Order and content of examples: the same for any workers, processes and resumption."""

import itertools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.data.examples import EpochBatches
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets
from lightning_sep.errors import ConfigError

KINDS = {
    "mixtures": Mixtures(train=40, val=20, test=20, batch_size=8),
    "sequences": Sequences(train=40, val=20, test=20, batch_size=8),
    "snippets": Snippets(speakers=2, snippets=4, train=5),
}


@pytest.fixture(params=sorted(KINDS))
def examples(request):
    return KINDS[request.param]


def same(one, other):
    return all(
        a is None if b is None else torch.equal(a, b)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def all_same(ones, others):
    return all(same(one, other) for one, other in itertools.zip_longest(ones, others))


def test_two_workers_give_what_none_gives(synthetic, examples):
    alone = examples.loader(synthetic, "train", seed=3)
    shared = examples.loader(synthetic, "train", seed=3, workers=2)
    assert all_same(alone, shared)


def test_batches_are_pinned_where_that_is_asked_for(synthetic, examples):
    assert not examples.loader(synthetic, "train", seed=3).pin_memory
    assert examples.loader(synthetic, "train", seed=3, pin=True).pin_memory


def test_a_loader_started_in_mid_epoch_goes_on_where_the_other_stopped(synthetic, examples):
    whole = examples.loader(synthetic, "train", seed=3)
    whole.sampler.set_epoch(4)
    resumed = examples.loader(synthetic, "train", seed=3, start_epoch=4, start_batch=2)
    assert all_same(list(whole)[2:], resumed)


def test_only_the_resumed_epoch_starts_late(synthetic, examples):
    resumed = examples.loader(synthetic, "train", seed=3, start_epoch=4, start_batch=2)
    resumed.sampler.set_epoch(5)
    assert len(list(resumed)) == 5


def test_the_length_is_always_that_of_a_full_epoch(synthetic, examples):
    assert len(examples.loader(synthetic, "train", seed=3, start_epoch=4, start_batch=2)) == 5


def test_examples_do_not_depend_on_how_they_are_batched(synthetic, examples):
    draw = examples.draw(synthetic, "train")
    loader = examples.loader(synthetic, "train", seed=3)
    for batch in loader:
        for row, index in enumerate(batch.index):
            alone = draw.batch(seed=3, epoch=0, index=index.numpy().reshape(1))
            assert torch.equal(alone.waveform[0], batch.waveform[row])


def test_processes_together_see_what_one_sees(synthetic, examples):
    alone = list(examples.loader(synthetic, "train", seed=3))
    ranks = [list(examples.loader(synthetic, "train", seed=3, rank=r, world=3)) for r in range(3)]
    for number, batch in enumerate(alone):
        for rank in range(3):
            assert torch.equal(ranks[rank][number].waveform, batch.waveform[rank::3])
            assert torch.equal(ranks[rank][number].index, batch.index[rank::3])


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 8))
def test_processes_share_the_batches_of_one_and_see_every_example_once(count, batch_size, world):
    if min(count, batch_size) < world:
        with pytest.raises(ConfigError, match=f"{world} processes"):
            EpochBatches(count=count, batch_size=batch_size, world=world)
        return
    ranks = [
        list(EpochBatches(count=count, batch_size=batch_size, rank=rank, world=world))
        for rank in range(world)
    ]
    alone = list(EpochBatches(count=count, batch_size=batch_size))
    assert {len(batches) for batches in ranks} == {len(alone)}
    for number, (_, batch) in enumerate(alone):
        shares = [batches[number][1] for batches in ranks]
        assert sorted(np.concatenate(shares).tolist()) == batch.tolist()
        assert all(len(share) for share in shares) or number == len(alone) - 1


def test_who_has_no_example_of_a_last_batch_gets_one_that_counts_nowhere(synthetic, examples):
    loader = examples.loader(synthetic, "train", seed=3)
    nobodys, first = (loader.dataset[0, np.arange(number, dtype=np.int64)] for number in (0, 1))
    assert nobodys.index.tolist() == [-1]
    assert not nobodys.active.any()
    assert nobodys.waveform.shape == first.waveform.shape


def test_another_epoch_brings_fresh_examples(synthetic, examples):
    loader = examples.loader(synthetic, "train", seed=3)
    first = next(iter(loader))
    loader.sampler.set_epoch(1)
    assert not torch.equal(first.waveform, next(iter(loader)).waveform)


def test_another_seed_brings_other_training_examples(synthetic, examples):
    one, other = (next(iter(examples.loader(synthetic, "train", seed=s))) for s in (1, 2))
    assert not torch.equal(one.waveform, other.waveform)


@pytest.mark.parametrize("split", ["val", "test"])
def test_all_runs_are_measured_on_the_same_examples(synthetic, examples, split):
    one, other = (examples.loader(synthetic, split, seed=s, start_epoch=s) for s in (1, 2))
    other.sampler.set_epoch(7)
    assert all_same(one, other)


def test_sets_beyond_the_caches_bound_give_the_same_examples(synthetic, streamed, examples):
    cached = examples.loader(synthetic, "val", seed=0)
    assert all_same(cached, examples.loader(streamed, "val", seed=0))


def test_a_pass_leaves_the_global_generator_alone(synthetic, examples):
    before = torch.get_rng_state()
    list(examples.loader(synthetic, "train", seed=3))
    assert torch.equal(before, torch.get_rng_state())


def test_a_loader_saves_nothing(synthetic, examples):
    loader = examples.loader(synthetic, "train", seed=3)
    assert loader.state_dict() == {}
    loader.load_state_dict({})


def test_an_unknown_split_is_refused(synthetic, examples):
    with pytest.raises(ConfigError, match="train, val, test"):
        examples.loader(synthetic, "dev", seed=0)


class _Watcher(pl.LightningModule):
    """Notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.waveform.sum().item())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_moves_the_sampler_to_the_next_epoch(synthetic, tmp_path):
    examples = KINDS["sequences"]
    watcher = _Watcher()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(watcher, examples.loader(synthetic, "train", seed=3))
    expected = []
    for epoch in range(2):
        loader = examples.loader(synthetic, "train", seed=3, start_epoch=epoch)
        expected += [batch.waveform.sum().item() for batch in loader]
    assert watcher.seen == expected
