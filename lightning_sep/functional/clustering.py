"""Clustering of embeddings, and how many items end up in a wrong cluster."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

Definition = Literal["standard", "legacy"]


class Cut(NamedTuple):
    """A flat clustering taken from a tree."""

    rate: float  # misclassification rate
    clusters: int  # how many there are


def cosine_linkage(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Tree of complete linkage on cosine distances, in scipy's format.

    The distances go in as the condensed vector: a square matrix would be read as observations.

    Args:
        embeddings: ``[item, embed]``, at least two items, none of them zero.
    """
    return linkage(pdist(np.asarray(embeddings, dtype=np.float64), metric="cosine"), "complete")


def cuts(tree: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Cluster numbers ``[item]`` at every cut of a tree, from all single to all together."""
    items = len(tree) + 1
    labels = np.arange(items)
    yield labels.copy()
    for new, (one, two) in enumerate(tree[:, :2].astype(np.int64), start=items):
        labels[(labels == one) | (labels == two)] = new
        yield labels.copy()


def misclassification_rate(
    *, clusters: ArrayLike, speakers: ArrayLike, definition: Definition = "standard"
) -> float:
    """Share of items outside of their speaker's correct cluster; lower is better.

    ``"standard"`` (Stadelmann et al., ANNPR 2018): a cluster is the correct one of a speaker if it
    holds most of the speaker's items and fewer items of others. ``"legacy"`` (Lukic et al., MLSP
    2016 and 2017): besides, single items are never correct, and every item of a mixed cluster is
    wrong.

    Args:
        clusters: ``[item]``, cluster numbers.
        speakers: ``[item]``, true speakers.
        definition: ``"standard"`` or ``"legacy"``.

    Raises:
        ValueError: another definition, or unequal lengths.
    """
    if definition not in ("standard", "legacy"):
        raise ValueError(f"definition must be 'standard' or 'legacy', got {definition!r}")
    found, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    known, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    if len(cluster) != len(speaker):
        raise ValueError(
            f"clusters and speakers need one length, got {len(cluster)} and {len(speaker)}"
        )
    table = np.zeros((len(known), len(found)), dtype=np.int64)
    np.add.at(table, (speaker, cluster), 1)
    others = table.sum(0) - table
    correct = (table == table.max(1, keepdims=True)) & (others < table)
    if definition == "legacy":
        correct &= (others == 0) & (table > 1)
    # Of several equally large parts of a speaker, one cluster is the correct one.
    return 1 - int(np.where(correct, table, 0).max(1).sum()) / len(speaker)


def best_cut(
    *, embeddings: ArrayLike, speakers: ArrayLike, definition: Definition = "standard"
) -> Cut:
    """The least misclassification rate over all cuts: an oracle, as published rates are.

    Ties go to the cut with the most clusters.
    """
    found = [
        Cut(
            misclassification_rate(clusters=labels, speakers=speakers, definition=definition),
            len(np.unique(labels)),
        )
        for labels in cuts(cosine_linkage(embeddings))
    ]
    return min(found, key=lambda cut: cut.rate)


def largest_gap_cut(
    *, embeddings: ArrayLike, speakers: ArrayLike, definition: Definition = "standard"
) -> Cut:
    """The misclassification rate at the cut below the largest rise of the merging distance.

    This needs no knowledge of the speakers to choose the cut: report it beside :func:`best_cut`.
    """
    tree = cosine_linkage(embeddings)
    heights = np.concatenate([[0.0], tree[:, 2]])
    merges = int(np.argmax(np.diff(heights)))
    labels = list(cuts(tree))[merges]
    rate = misclassification_rate(clusters=labels, speakers=speakers, definition=definition)
    return Cut(rate, len(np.unique(labels)))
