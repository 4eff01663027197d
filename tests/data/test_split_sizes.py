"""How large the parts of a split are, which seed decides it, and in which order folds are taken."""

from collections import Counter

import pytest

from lightning_sep.data.draws import shuffled_order
from lightning_sep.data.splits import joined, split_by_fold, split_by_key, split_held_out


@pytest.mark.parametrize(
    ("keys", "held"), [(3, 1), (5, 1), (6, 2), (13, 2), (20, 3), (40, 6), (100, 15), (1000, 150)]
)
def test_15_percent_of_the_keys_each_validate_and_test(keys, held):
    found = Counter(split_by_key([f"k{number}" for number in range(keys)]))
    assert found == {"train": keys - 2 * held, "val": held, "test": held}


def test_each_class_gives_its_share():
    keys = [f"{kind}{number}" for kind, count in (("a", 40), ("b", 20)) for number in range(count)]
    found = Counter(
        zip(
            split_by_key(keys, strata=[key[0] for key in keys]),
            (key[0] for key in keys),
            strict=True,
        )
    )
    assert found[("val", "a")] == found[("test", "a")] == 6
    assert found[("val", "b")] == found[("test", "b")] == 3


def test_a_source_counts_for_the_class_of_most_of_its_items():
    items = [(f"a{n}", kind) for n in range(6) for kind in "baa"] + [
        (f"b{n}", "b") for n in range(6)
    ]
    keys, classes = zip(*items, strict=True)
    splits = dict(zip(keys, split_by_key(keys, strata=classes), strict=True))
    for kind in "ab":
        found = Counter(split for key, split in splits.items() if key[0] == kind)
        assert found == {"train": 2, "val": 2, "test": 2}


@pytest.mark.parametrize("strata", [None, ["a"] * 20, [*"ab"] * 10, [str(n) for n in range(20)]])
def test_the_seed_decides_which_keys_are_held_out(strata):
    keys = [f"k{number}" for number in range(20)]
    found = {seed: tuple(split_by_key(keys, seed=seed, strata=strata)) for seed in range(6)}
    assert len(set(found.values())) == 6
    assert found[3] == tuple(split_by_key(keys, seed=3, strata=strata))


def test_the_first_of_the_order_validate_and_the_next_test():
    keys = [f"k{number}" for number in range(20)]
    order = shuffled_order(keys, seed=7)
    found = dict(zip(keys, split_by_key(keys, seed=7), strict=True))
    assert [found[key] for key in order] == ["val"] * 3 + ["test"] * 3 + ["train"] * 14


def test_the_order_of_names_is_that_of_before():
    """It decides the splits of folders: another one would move files from test to train."""
    names = ["ann", "ben", "cy", "dee", "nna", "a b", "café", ""]
    assert shuffled_order(names, seed=0) == ORDERS[0]
    assert shuffled_order(names, seed=12345) == ORDERS[12345]


ORDERS = {
    0: ["café", "nna", "a b", "cy", "dee", "ann", "", "ben"],
    12345: ["dee", "", "ben", "cy", "ann", "a b", "nna", "café"],
}


def test_folds_are_taken_by_number_and_not_by_letter():
    folds = ["1", "2", "9", "10"] * 2
    splits, rule = split_by_fold(folds, [str(n) for n in range(8)], ["c"] * 8)
    assert splits == ["train", "train", "val", "test"] * 2
    assert rule == "fold 10 tests, fold 9 validates, the others train"


def test_a_single_fold_is_split_class_by_class_and_by_the_seed():
    sources = [f"s{number}" for number in range(24)]
    classes = ["ab"[number < 6] for number in range(24)]
    found = {seed: split_by_fold(["3"] * 24, sources, classes, seed=seed)[0] for seed in range(4)}
    assert len(set(map(tuple, found.values()))) == 4
    for splits in found.values():
        assert Counter(zip(splits, classes, strict=True)) == {
            **{("train", "a"): 12, ("val", "a"): 3, ("test", "a"): 3},
            **{("train", "b"): 2, ("val", "b"): 2, ("test", "b"): 2},
        }


@pytest.mark.parametrize("sources", [5, 6])
def test_the_second_of_two_folds_is_halved_by_source(sources):
    names = [f"s{number}" for number in range(sources)]
    splits, _ = split_by_fold(
        ["1", *["2"] * (2 * sources)], ["t", *names, *names], ["c"] * (2 * sources + 1)
    )
    assert splits[0] == "train"
    assert splits[1 : sources + 1] == splits[sources + 1 :]
    assert Counter(splits[1 : sources + 1]) == {"val": (sources + 1) // 2, "test": sources // 2}


@pytest.mark.parametrize("seed", [0, 5])
def test_of_the_keys_that_do_not_train_the_first_half_validates(seed):
    train = {f"t{n}": True for n in range(3)} | {f"h{n}": False for n in range(5)}
    splits, kept = split_held_out(list(train), train, seed=seed)
    assert kept
    found = dict(zip(train, splits, strict=True))
    order = shuffled_order([key for key, own in train.items() if not own], seed=seed)
    assert [found[key] for key in order] == ["val", "val", "test", "test", "test"]
    assert {found[key] for key, own in train.items() if own} == {"train"}


def test_whatever_shares_a_label_with_whatever_shares_one_stays_together():
    links = [["a", "b"], ["c"], ["d", "e"], ["b", "d"], ["f"], ["c", "f"], [], ["e", "g"], ["g"]]
    found = joined(links)
    assert found == [0, 1, 0, 0, 1, 1, 6, 0, 0]
    assert joined(links[::-1])[::-1].count(found[0]) == 5
