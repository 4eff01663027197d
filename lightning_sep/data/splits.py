"""Train, validation and test parts that share no speaker, no source and no stretch of time."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from lightning_sep.data.draws import shuffled_order

SPLITS = ("train", "val", "test")
HELD_OUT = 0.15  # share of the keys that val and test get each, where nothing upstream says better

SPLIT_NAMES = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "dev", "development", "cv"),
    "test": ("test", "testing", "eval", "evaluation", "tst", "tt", "te"),
}
"""What others call the splits, in any case."""
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}

Piece = tuple[str, float, float]  # split, and from where to where of the recording (0 to 1)


def whole(split: str) -> tuple[Piece, ...]:
    """All of a recording in one split."""
    return ((split, 0.0, 1.0),)


IN_TIME: tuple[Piece, ...] = (("train", 0.0, 0.8), ("val", 0.8, 0.9), ("test", 0.9, 1.0))
"""The first 80 % of each recording for training, the next 10 % for validation, the last for test.

The proportions of Beckham's write-up on raw-audio LSTMs (2016), applied to each piece by itself.
"""


def split_named(name: str) -> str:
    """The split that a folder or a table calls ``name``; empty where it is none.

    Example:
        >>> split_named("Valid"), split_named("tt"), split_named("rain")
        ('val', 'test', '')
    """
    return _SPLIT_OF.get(name.lower(), "")


def joined(labels: Sequence[Sequence[str]]) -> list[int]:
    """A number for each item; items that share a label, directly or through others, share it.

    Example:
        >>> joined([["a"], ["b", "c"], ["c"], [], ["a", "d"]])
        [0, 1, 1, 3, 0]
    """
    parent = list(range(len(labels)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[str, int] = {}
    for item, own in enumerate(labels):
        for label in own:
            one, other = root(item), root(first.setdefault(label, item))
            parent[max(one, other)] = min(one, other)
    return [root(item) for item in range(len(labels))]


def split_by_key(
    keys: Sequence[str], *, seed: int = 0, strata: Sequence[str] | None = None
) -> list[str]:
    """A split for each item so that items with one key stay together.

    Keys are ordered by a seeded hash of their names; of each stratum (class) the first 15 % go to
    validation, the next 15 % to test: at least one each where the stratum has three keys, two
    each where it has six.

    Args:
        keys: what must not be shared: speaker, source recording or file of each item.
        seed: another seed gives another split.
        strata: class of each item; the classes are spread over the splits as far as keys allow.

    Returns:
        One of "train", "val", "test" for each item. Fewer than three keys cannot fill three
        splits: the rest stays empty, and the caller looks for a finer key.

    Example:
        >>> first, second, again, third = split_by_key(["ann", "ben", "ann", "cy"])
        >>> first == again, sorted([first, second, third])
        (True, ['test', 'train', 'val'])
    """
    members: dict[str, list[str]] = defaultdict(list)
    for key, stratum in zip(keys, strata or [""] * len(keys), strict=True):
        members[key].append(stratum)
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for key, found in members.items():
        by_stratum[Counter(sorted(found)).most_common(1)[0][0]].append(key)
    chosen: dict[str, str] = {}
    for stratum in sorted(by_stratum):
        order = shuffled_order(by_stratum[stratum], seed=seed)
        held = _held_out(len(order))
        chosen |= dict.fromkeys(order[:held], "val")
        chosen |= dict.fromkeys(order[held : 2 * held], "test")
        chosen |= dict.fromkeys(order[2 * held :], "train")
    if len(members) >= 3 and set(chosen.values()) != set(SPLITS):  # strata of one or two keys only
        return split_by_key(keys, seed=seed)
    return [chosen[key] for key in keys]


def _held_out(keys: int) -> int:
    """How many keys validation and test get each."""
    if keys < 3:
        return 0
    return max(2 if keys >= 6 else 1, round(HELD_OUT * keys))


def split_held_out(
    keys: Sequence[str], train: Mapping[str, bool], *, seed: int = 0, groups: int = 1
) -> tuple[list[str], bool]:
    """Keys marked for training train; the others are halved into validation and test.

    Where one side is missing or too small (a part of a set may hold one side only) all keys are
    split afresh by :func:`split_by_key`.

    Args:
        keys: speaker or source of each item.
        train: whether a key belongs to the training part.
        seed: of the order in which the keys are halved.
        groups: how many keys validation and test need at least each.

    Returns:
        The split of each item, and whether the marks were kept to.
    """
    unique = sorted(set(keys))
    held = shuffled_order([key for key in unique if not train[key]], seed=seed)
    if len(held) == len(unique) or len(held) < 2 * groups:
        return split_by_key(keys, seed=seed), False
    half = len(held) // 2
    chosen = {key: "train" for key in unique}
    chosen |= dict.fromkeys(held[:half], "val") | dict.fromkeys(held[half:], "test")
    return [chosen[key] for key in keys], True


def split_by_fold(
    folds: Sequence[str], sources: Sequence[str], classes: Sequence[str], *, seed: int = 0
) -> tuple[list[str], str]:
    """The last fold tests, the one before validates, the others train.

    Two folds: the second is halved by source. One fold: all is split by source, class by class.

    Args:
        folds: fold of each item, in the order of its number.
        sources: what must not be shared within a fold that has to be split.
        classes: class of each item.
        seed: of the split by source.

    Returns:
        The split of each item, and what was done, in one line.
    """
    present = sorted(set(folds), key=lambda fold: (len(fold), fold))
    if len(present) == 1:
        splits = split_by_key(sources, seed=seed, strata=classes)
        return splits, f"fold {present[0]}, the only one, is split by source"
    if len(present) == 2:
        order = shuffled_order(
            sorted({s for s, fold in zip(sources, folds, strict=True) if fold == present[1]}),
            seed=seed,
        )
        first = set(order[: (len(order) + 1) // 2])
        splits = [
            "train" if fold == present[0] else "val" if source in first else "test"
            for fold, source in zip(folds, sources, strict=True)
        ]
        return (
            splits,
            f"fold {present[0]} trains, fold {present[1]} is halved by source for val and test",
        )
    chosen = dict.fromkeys(present, "train") | {present[-2]: "val", present[-1]: "test"}
    rule = f"fold {present[-1]} tests, fold {present[-2]} validates, the others train"
    return [chosen[fold] for fold in folds], rule
