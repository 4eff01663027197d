"""Facts: the same after a record or checkpoint as before, and never half understood."""

import json
from dataclasses import MISSING, fields

import pytest

from lightning_sep.data.facts import Facts, MixtureFacts, SequenceFacts, SnippetFacts, facts_from
from lightning_sep.data.mixtures import Mixtures
from lightning_sep.data.sequences import Sequences
from lightning_sep.data.snippets import Snippets
from lightning_sep.errors import DataError

KINDS = {MixtureFacts: Mixtures, SequenceFacts: Sequences, SnippetFacts: Snippets}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def said(request, synthetic):
    facts: Facts = KINDS[request.param]().facts(synthetic)
    assert type(facts) is request.param
    return facts


def test_json_brings_the_same_facts_back(said):
    written = json.loads(json.dumps(said.plain()))
    assert written == said.plain()  # nothing but JSON types
    assert list(written) == [one.name for one in fields(said)]
    back = facts_from(type(said), written)
    assert back == said
    assert {type(value) for value in vars(back).values()} == {
        type(value) for value in vars(said).values()
    }


def test_facts_do_not_change(said):
    with pytest.raises(AttributeError):
        said.sample_rate = 1


def test_a_record_without_the_fields_of_later_versions_is_read(said):
    needed = {one.name for one in fields(said) if one.default is MISSING}
    old = {name: value for name, value in said.plain().items() if name in needed}
    back = facts_from(type(said), old)
    assert all(getattr(back, name) == getattr(said, name) for name in needed)
    assert back.classes() == []


def test_what_is_missing_unknown_or_of_another_type_is_named_in_one_line(said):
    wrong = said.plain() | {"sample_rate": "fast", "colour": "red"}
    gone = "frames" if isinstance(said, SequenceFacts) else "segment_samples"
    del wrong[gone]
    with pytest.raises(DataError) as error:
        facts_from(type(said), wrong)
    text = str(error.value)
    assert f"no {type(said).__name__}: {gone} is missing; colour is not known; " in text
    assert "sample_rate = 'fast': a whole number is needed" in text
    assert "\n" not in text


def test_facts_of_another_kind_are_refused(said):
    other = SnippetFacts if isinstance(said, SequenceFacts) else SequenceFacts
    with pytest.raises(DataError, match=f"recorded facts are no {other.__name__}"):
        facts_from(other, said.plain())


def test_classes_are_named_with_their_groups_where_there_are_any():
    about = {"sample_rate": 8000, "segment_samples": 80, "sources": 2, "class_names": ("a", "b")}
    assert MixtureFacts(**about).classes() == [("a",), ("b",)]
    assert MixtureFacts(**about, class_groups=("u", "v")).classes() == [("a", "u"), ("b", "v")]
