"""Schemas are checked before a worker sees them: it would answer an unusable one with unconstrained text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import HostRefused
from app.runtime.output_formats import check_schema, grammar_of
from tests.recordings import recording

GOOD: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 5},
    {"anyOf": [{"const": 1}, {"enum": ["a", "b"]}]},
    {"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
    {"type": "object", "additionalProperties": False},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "nope"}, "Unrecognized schema"),
    ({"type": []}, "Unrecognized schema"),
    (
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": 3}}}}},
        "Unrecognized schema",
    ),
    ({"items": [{"type": "x"}]}, "Unrecognized schema"),
    ({"anyOf": ["text"]}, "Unrecognized schema"),
    ({"$ref": "https://example.com/x"}, "Fetching remote schemas is not supported"),
    ({"$ref": "#/$defs/none"}, "Error resolving ref"),
    ({"$ref": "#"}, "refers to itself"),
    ({"pattern": "a" * 1000}, "pattern"),
    ({"enum": list(range(5000))}, "enum"),
    ({"type": "array", "minItems": 10**9}, "minItems"),
    ({"type": "string", "maxLength": -1}, "maxLength"),
]


@pytest.mark.parametrize("schema", GOOD)
def test_usable_schemas_pass(schema: dict[str, Any]):
    check_schema(schema)


@pytest.mark.parametrize(("schema", "problem"), BAD)
def test_unusable_schemas_are_refused_with_the_reason(schema: dict[str, Any], problem: str):
    with pytest.raises(HostRefused) as caught:
        check_schema(schema)
    assert (caught.value.status, problem in caught.value.message) == (400, True)


def test_the_sentence_is_the_recorded_one():
    recorded = recording("generate_bad_schema")
    with pytest.raises(HostRefused) as caught:
        check_schema(recorded.request.body["format"])
    assert caught.value.message == recorded.body["error"]


def test_bombs_are_refused_by_depth_and_by_number():
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"items": deep}
    wide = {"properties": {str(number): {} for number in range(10_000)}}
    for bomb in (deep, wide):
        with pytest.raises(HostRefused, match="too large or nested too deeply"):
            check_schema(bomb)


@given(
    st.dictionaries(
        st.sampled_from(["type", "$ref", "items", "properties", "enum", "pattern", "const", "anyOf"]),
        st.recursive(
            st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ),
    )
)
def test_any_schema_passes_or_is_refused(schema: dict[str, Any]):
    try:
        check_schema(schema)
    except HostRefused as refused:
        assert refused.status == 400


def test_a_constant_is_its_json_text_as_a_grammar():
    assert grammar_of({"const": 'a"b\\c'}) == 'root ::= "\\"a\\\\\\"b\\\\\\\\c\\""'
    assert grammar_of({"type": "string", "pattern": "a+"}) is None
