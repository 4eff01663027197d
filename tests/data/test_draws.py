"""Draws depend on what they are for, not on when or in which company they are made."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.data.draws import below, shuffled_order, uniform

SEEDS = st.integers(-(2**63), 2**64)


@given(SEEDS, st.integers(0, 10**6), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_draw_does_not_depend_on_its_batch(seed, epoch, index):
    together = uniform(seed=seed, epoch=epoch, index=np.array(index), purpose="x", columns=3)
    for row, number in enumerate(index):
        alone = uniform(seed=seed, epoch=epoch, index=np.array([number]), purpose="x", columns=3)
        assert np.array_equal(together[row], alone[0])


@given(SEEDS, st.integers(0, 10**6))
def test_draws_lie_between_zero_and_one(seed, epoch):
    drawn = uniform(seed=seed, epoch=epoch, index=np.arange(100), purpose="x", columns=4)
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_draws_are_spread_evenly():
    drawn = uniform(seed=3, epoch=1, index=np.arange(20_000), purpose="x", columns=5)
    # the mean of 20 000 uniform numbers is 0.5 with a standard deviation of 0.002
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.04


def test_seed_epoch_index_and_purpose_each_change_the_draw():
    def draw(seed=1, epoch=1, index=1, purpose="x"):
        return uniform(seed=seed, epoch=epoch, index=np.array([index]), purpose=purpose)[0, 0]

    draws = {draw(), draw(seed=2), draw(epoch=2), draw(index=2), draw(purpose="y")}
    assert len(draws) == 5


@given(st.floats(0, 1), st.integers(1, 2**40))
def test_whole_numbers_stay_below_their_bound(number, bound):
    assert 0 <= below(np.array([number]), bound)[0] < bound


@given(st.sets(st.text(max_size=5), min_size=2), SEEDS)
def test_a_name_that_is_added_leaves_the_others_in_order(names, seed):
    names = sorted(names)
    order = shuffled_order(names, seed=seed)
    assert shuffled_order(names[1:], seed=seed) == [name for name in order if name != names[0]]
