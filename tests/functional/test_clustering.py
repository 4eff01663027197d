import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sep.functional.clustering import (
    best_cut,
    cosine_linkage,
    cuts,
    largest_gap_cut,
    misclassification_rate,
)


@pytest.mark.parametrize(
    ("clusters", "standard", "legacy"),
    [
        ("00112223", 0.125, 0.5),
        ("01234567", 0.5, 1.0),
        ("00000000", 1.0, 1.0),
        ("00112233", 0.0, 0.0),
        ("00001122", 0.5, 0.5),
    ],
)
def test_four_speakers_of_two_items(clusters, standard, legacy):
    given = {"clusters": list(clusters), "speakers": list("aabbccdd")}
    assert misclassification_rate(**given, definition="standard") == standard
    assert misclassification_rate(**given, definition="legacy") == legacy


labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)


def slow(pairs, legacy):
    """Both definitions by counting."""
    right = 0
    for speaker in {s for s, _ in pairs}:
        own = [c for s, c in pairs if s == speaker]
        most = max(own.count(c) for c in own)
        found = 0
        for cluster in set(own):
            held = own.count(cluster)
            others = sum(1 for s, c in pairs if c == cluster and s != speaker)
            if held < most or others >= held:
                continue
            if legacy and (held + others == 1 or others > 0):
                continue
            found = held
        right += found
    return 1 - right / len(pairs)


@settings(deadline=None, max_examples=30)
@given(labels, st.booleans())
def test_agrees_with_counting(pairs, legacy):
    value = misclassification_rate(
        clusters=[c for _, c in pairs],
        speakers=[s for s, _ in pairs],
        definition="legacy" if legacy else "standard",
    )
    assert value == pytest.approx(slow(pairs, legacy))


@settings(deadline=None, max_examples=30)
@given(labels)
def test_legacy_is_never_more_lenient(pairs):
    given = {"clusters": [c for _, c in pairs], "speakers": [s for s, _ in pairs]}
    legacy = misclassification_rate(**given, definition="legacy")
    assert legacy >= misclassification_rate(**given)


def test_refuses_another_definition():
    with pytest.raises(ValueError, match="definition must be 'standard' or 'legacy', got 'own'"):
        misclassification_rate(clusters=[0], speakers=[0], definition="own")


def test_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="one length, got 2 and 3"):
        misclassification_rate(clusters=[0, 1], speakers=[0, 1, 2])


def groups(speakers=4, noise=0.05):
    generator = np.random.default_rng(0)
    centres = np.eye(speakers, 8)
    return np.repeat(centres, 2, axis=0) + noise * generator.normal(size=(2 * speakers, 8))


def test_the_tree_is_complete_linkage_on_cosine_distances():
    points = groups()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scipy warns of a square matrix taken for observations
        tree = cosine_linkage(points)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert tree[-1, 2] == pytest.approx((1 - unit @ unit.T).max())


def test_cuts_go_from_single_items_to_one_cluster():
    found = [len(np.unique(one)) for one in cuts(cosine_linkage(groups()))]
    assert found == [8, 7, 6, 5, 4, 3, 2, 1]


def test_clear_groups_are_found_by_the_oracle():
    cut = best_cut(embeddings=groups(), speakers=list("aabbccdd"))
    assert cut == (0.0, 4)


def test_clear_groups_are_found_without_knowing_the_speakers():
    cut = largest_gap_cut(embeddings=groups(), speakers=list("aabbccdd"))
    assert cut == (0.0, 4)


def test_the_oracle_is_never_worse_than_the_unsupervised_cut():
    points, speakers = groups(noise=0.8), list("aabbccdd")
    for definition in ("standard", "legacy"):
        given = {"embeddings": points, "speakers": speakers, "definition": definition}
        assert best_cut(**given).rate <= largest_gap_cut(**given).rate
