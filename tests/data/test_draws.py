"""Draws depend on what they are for, not on when or in which company they are made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.data.draws import below, distinct, shuffled_order, uniform

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


@given(SEEDS, st.sampled_from([3, 256, 257, 5000, 100_000]), st.integers(1, 3))
def test_distinct_numbers_are_distinct_and_among_those_allowed(seed, bound, columns):
    among = np.arange(0, 2 * bound, 2)
    drawn = distinct(
        seed=seed, epoch=1, index=np.arange(50), purpose="x", among=among, columns=columns
    )
    assert drawn.shape == (50, columns)
    assert np.isin(drawn, among).all()
    assert all(len(set(row)) == columns for row in drawn.tolist())


def test_a_few_numbers_are_ranked_by_their_hashes():
    index, among = np.arange(9), np.array([1, 4, 5, 8])
    drawn = distinct(seed=2, epoch=3, index=index, purpose="x", among=among, columns=3)
    hashes = uniform(seed=2, epoch=3, index=index, purpose="x", columns=9)
    for row, own in zip(drawn.tolist(), hashes, strict=True):
        assert row == sorted(among.tolist(), key=lambda number: own[number])[:3]


@pytest.mark.parametrize("first", [0, 1000])  # ranked by hashes, drawn one after the other
def test_every_ordered_choice_is_equally_likely(first):
    among = np.arange(first, first + 5)
    drawn = distinct(seed=4, epoch=2, index=np.arange(20_000), purpose="x", among=among, columns=3)
    order, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(order) == 60
    # 20 000 draws of 60 orders: chi square with 59 degrees, 99.99 % below 109
    assert ((counts - 20_000 / 60) ** 2 / (20_000 / 60)).sum() < 109


def test_numbers_drawn_after_others_of_the_same_purpose_do_not_depend_on_them():
    about = dict(seed=4, epoch=2, index=np.arange(20_000), purpose="x")
    one = distinct(**about, among=np.arange(400), columns=1)[:, 0]
    two = distinct(**about, among=np.arange(400, 800), columns=1, skip=1)[:, 0]
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


@given(st.floats(0, 1), st.integers(1, 2**40))
def test_whole_numbers_stay_below_their_bound(number, bound):
    assert 0 <= below(np.array([number]), bound)[0] < bound


@given(st.sets(st.text(max_size=5), min_size=2), SEEDS)
def test_a_name_that_is_added_leaves_the_others_in_order(names, seed):
    names = sorted(names)
    order = shuffled_order(names, seed=seed)
    assert shuffled_order(names[1:], seed=seed) == [name for name in order if name != names[0]]


@pytest.mark.parametrize("skip", [0, 2])
def test_of_many_one_after_the_other_is_drawn_from_those_that_are_left(skip):
    index, among = np.arange(40), np.arange(1000, 1006)
    about = {"seed": 5, "epoch": 1, "index": index, "purpose": "x"}
    found = distinct(**about, among=among, columns=4, skip=skip)
    hashes = uniform(**about, columns=skip + 4)
    for row, numbers in zip(found.tolist(), hashes.tolist(), strict=True):
        left = among.tolist()
        assert row == [left.pop(int(number * len(left))) for number in numbers[skip:]]


def test_the_number_below_which_all_are_ranked_is_256():
    about = {"seed": 5, "epoch": 1, "index": np.arange(40), "purpose": "x", "columns": 2}
    ranked, drawn = (distinct(**about, among=np.arange(count)) for count in (256, 257))
    hashes = uniform(**{**about, "columns": 256})
    assert np.array_equal(ranked, np.argsort(hashes, axis=1)[:, :2])
    assert np.array_equal(drawn[:, 0], np.floor(257 * hashes[:, 0]))
