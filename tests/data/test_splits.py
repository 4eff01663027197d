"""Nothing that must stay together is torn between splits."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sep.data.splits import (
    IN_TIME,
    SPLITS,
    split_by_fold,
    split_by_key,
    split_held_out,
)

KEYS = st.lists(st.sampled_from([f"k{n}" for n in range(12)]), min_size=1, max_size=60)


def splits_of(keys, splits):
    found = defaultdict(set)
    for key, split in zip(keys, splits, strict=True):
        found[key].add(split)
    return found


@given(KEYS, st.integers(0, 99))
def test_a_key_is_in_one_split(keys, seed):
    assert all(len(s) == 1 for s in splits_of(keys, split_by_key(keys, seed=seed)).values())


@given(KEYS.filter(lambda keys: len(set(keys)) >= 3), st.data())
def test_three_keys_fill_three_splits_whatever_their_classes(keys, data):
    strata = data.draw(st.lists(st.sampled_from("abcd"), min_size=len(keys), max_size=len(keys)))
    assert set(split_by_key(keys, strata=strata)) == set(SPLITS)


def test_six_speakers_leave_two_each_for_validation_and_test():
    keys = [f"s{n}" for n in range(6)]
    splits = split_by_key(keys)
    assert (splits.count("val"), splits.count("test")) == (2, 2)


def test_every_class_reaches_every_split_where_it_has_three_sources():
    keys = [f"{c}{n}" for c in "ab" for n in range(8)]
    classes = [key[0] for key in keys]
    splits = split_by_key(keys, strata=classes)
    assert {(c, s) for c, s in zip(classes, splits, strict=True)} == {
        (c, s) for c in "ab" for s in SPLITS
    }


def test_the_last_fold_tests_and_the_one_before_validates():
    folds = ["1", "2", "9", "10"]  # by number, not by letter
    splits, rule = split_by_fold(folds, list("abcd"), list("xxxx"))
    assert splits == ["train", "train", "val", "test"]
    assert rule == "fold 10 tests, fold 9 validates, the others train"


@pytest.mark.parametrize("folds", [["5"], ["4", "5"]])
def test_one_or_two_folds_are_usable_and_share_no_source(folds):
    sources = [f"{fold}{n // 2}" for fold in folds for n in range(20)]
    of_each = [fold for fold in folds for _ in range(20)]
    splits, rule = split_by_fold(of_each, sources, ["c"] * len(sources))
    assert "by source" in rule
    assert set(splits) == set(SPLITS)
    assert all(len(s) == 1 for s in splits_of(sources, splits).values())


def test_speakers_that_do_not_train_are_halved():
    keys = ["a", "b", "c", "d", "e", "f"]
    splits, kept = split_held_out(keys, {key: key < "c" for key in keys}, groups=2)
    assert kept
    assert [splits.count(split) for split in SPLITS] == [2, 2, 2]


@pytest.mark.parametrize("trains", [True, False])
def test_a_part_of_one_side_only_is_split_afresh(trains):
    keys = [f"s{n}" for n in range(9)]
    splits, kept = split_held_out(keys, dict.fromkeys(keys, trains), groups=2)
    assert not kept
    assert set(splits) == set(SPLITS)


def test_stretches_in_time_follow_one_another_without_overlap():
    assert [piece[2] for piece in IN_TIME[:-1]] == [piece[1] for piece in IN_TIME[1:]]
