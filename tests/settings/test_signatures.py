"""Values are compared with annotations."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_sep.settings.signature import accepts, arguments, converted, normalised
from lightning_sep.settings.words import needs

Seconds = NewType("Seconds", float)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        (True, bool),
        ("a", str),
        ("32", Literal["32", "16"]),
        (32, Literal["32", "16"]),
        (None, float | None),
        (None, Optional[int]),  # noqa: UP045
        ("a/b", Path),
        ([1, 2.5], list[float]),
        ([1, 2.5], Sequence[float]),
        ([1, 2], tuple[float, float]),
        ([1, 2, 3], tuple[int, ...]),
        ([], list[float]),
        ([1, "a"], list),
        ({"a": 1}, dict[str, float]),
        ({"a": 1}, dict),
        (2, Annotated[float, "unit"]),
        (2, Seconds),
        (2, float | Tensor),
        ({"_target_": "torch.nn.Tanh"}, nn.Module),
        ("anything", Any),
        ([[1]], list[list[int]]),
    ],
)
def test_what_fits_is_accepted(value, annotation):
    assert accepts(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1.0, int),
        (True, int),
        (True, float),
        (1, bool),
        ("1", int),
        ("1", float),
        (1, str),
        (None, int),
        ("8", Literal["32", "16"]),
        (True, Literal[1]),
        (3, Path),
        (3, list[float]),
        ("abc", list[str]),
        ([1, "a"], list[float]),
        ([1], tuple[float, float]),
        ({"a": "b"}, dict[str, float]),
        ([1], dict[str, float]),
        ("big", float | Tensor),
        ("tanh", nn.Module),
        ({"_target_": "torch.nn.Tanh"}, dict[str, str]),
        (float("nan"), float),
        (float("inf"), Any),
        ([float("nan")], Any),
    ],
)
def test_what_does_not_fit_is_refused(value, annotation):
    assert not accepts(value, annotation)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float | None, "a finite number or null"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (list[float], "a list of finite numbers"),
        (tuple[int, int], "a list of 2 whole numbers"),
        (tuple[int, ...], "a list of whole numbers"),
        (list[list[int]], "a list of lists of whole numbers"),
        (dict[str, float], "a mapping of finite numbers"),
        (list, "a list"),
        (Path, "a path"),
        (nn.Module, "an entry with _target_ (Module)"),
    ],
)
def test_an_annotation_is_said_in_words(annotation, words):
    assert needs(annotation) == words


@pytest.mark.parametrize(
    ("value", "annotation", "normal"),
    [
        (1, float, 1.0),
        (1, float | None, 1.0),
        (None, float | None, None),
        (1, int | float, 1),
        ([1, 2], list[float], [1.0, 2.0]),
        ((1, 2), tuple[float, int], [1.0, 2]),
        (32, Literal["32"], "32"),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        (True, Any, True),
    ],
)
def test_an_accepted_value_has_one_form(value, annotation, normal):
    assert repr(normalised(value, annotation)) == repr(normal)


ANNOTATIONS = st.sampled_from(
    [int, float, bool, str, Path, int | None, list[float], tuple[float, float], dict[str, float],
     Literal["32", "a"], float | str, Any]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["32", "a", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@given(VALUES, ANNOTATIONS)
def test_the_normal_form_of_what_is_accepted_is_accepted_and_stays(value, annotation):
    if accepts(value, annotation):
        normal = normalised(value, annotation)
        assert accepts(normal, annotation)
        assert repr(normalised(normal, annotation)) == repr(normal)


@given(VALUES, ANNOTATIONS)
def test_whatever_the_value_the_answer_is_yes_or_no(value, annotation):
    assert accepts(value, annotation) in (True, False)


def test_text_becomes_a_path_where_one_is_wanted():
    assert converted("a/b", Path | None) == Path("a/b")


def test_a_list_becomes_a_tuple_where_one_is_wanted():
    assert converted([1.0, 2.0], tuple[float, float]) == (1.0, 2.0)


class _Strings:
    def __init__(self, depth: "float", unknown: "Nowhere") -> None:  # noqa: F821
        pass


def test_an_annotation_that_cannot_be_resolved_leaves_the_value_open():
    known = arguments(_Strings)
    assert known is not None
    assert accepts("anything", known["unknown"].annotation)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_given_to_the_class_to_the_last_bit(value):
    assert converted(value, float) == value
    assert repr(converted([value], list[float])) == repr([value])


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(10**400, float), (1, Literal[True]), ("\ud800", str), ([1, "a"], Iterable[int])],
)
def test_what_json_and_the_class_cannot_hold_is_refused(value, annotation):
    assert not accepts(value, annotation)
