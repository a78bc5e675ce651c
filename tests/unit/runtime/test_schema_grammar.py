"""Schemas as grammars: the texts that llama.cpp's own converter allows, or none at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.schema_grammar import literal, schema_grammar

NODE = {"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
LEFT_ALONE: list[dict[str, Any]] = [
    {"type": "nope"},
    {"type": "string", "pattern": "a+"},
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 5000},
    {"type": "integer", "minimum": 3},
    {"type": "array", "prefixItems": [{}]},
    {"type": "array", "minItems": 3, "maxItems": 2},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
    {"type": "object", "properties": {"a": {}}, "required": "a"},
    {"properties": {"a": {}}},
    {"allOf": [{"type": "string"}]},
    {"anyOf": [{"type": "string"}], "type": "string"},
    {"enum": list(range(500))},
    {"$ref": "#/properties/a", "properties": {"a": {}}},
    {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}, "b": {"$ref": "#/$defs/a"}},
     "$ref": "#/$defs/a"},
    {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}},
    {"type": "object", "properties": {str(n): {"type": "string"} for n in range(400)}},
]  # fmt: skip


def rules(schema: dict[str, Any]) -> dict[str, str]:
    made = schema_grammar(schema)
    assert made is not None
    return dict(line.split(" ::= ", 1) for line in made.split("\n"))


@pytest.mark.parametrize(
    ("schema", "root"),
    [
        ({}, "value"),
        ({"type": "string"}, "string"),
        ({"type": "object"}, "object"),
        ({"type": "boolean", "description": "yes or no"}, "boolean"),
        ({"type": ["integer", "null"]}, "integer | null"),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "number | string"),
        ({"enum": ["a", 1, None]}, r'("\"a\"" | "1" | "null") space'),
        ({"const": "a", "type": "string"}, r'"\"a\"" space'),
        ({"type": "string", "minLength": 1, "maxLength": 5}, r'"\"" char{1,5} "\"" space'),
        ({"type": "string", "minLength": 2}, r'"\"" char{2,} "\"" space'),
        ({"type": "array", "items": {"type": "integer"}}, '"[" space (integer ("," space integer){0,})? "]" space'),
        ({"type": "array", "minItems": 2, "maxItems": 3}, '"[" space value ("," space value){1,2} "]" space'),
        ({"type": "array", "maxItems": 0}, '"[" space  "]" space'),
    ],
)
def test_a_schema_is_a_rule(schema: dict[str, Any], root: str):
    assert rules(schema)["root"] == root


def test_required_members_come_first_and_others_in_their_order():
    schema = {"type": "object", "required": ["b"], "additionalProperties": False,
              "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "null"}}}  # fmt: skip
    made = rules(schema)
    assert made["root"] == '"{" space rule-1 ("," space (rule-0 rule-3 | rule-2))? "}" space'
    assert made["rule-1"] == r'"\"b\"" space ":" space integer'
    assert made["rule-3"] == '("," space rule-2)?'


def test_a_definition_may_hold_itself():
    made = rules(NODE | {"$ref": "#/$defs/node"})
    assert made["root"] == "ref-0"
    assert "ref-0" in made["rule-0"]


@pytest.mark.parametrize("schema", LEFT_ALONE, ids=str)
def test_what_is_not_known_whole_is_left_to_the_worker(schema: dict[str, Any]):
    assert schema_grammar(schema) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_literal_reads_back_as_its_value(value: Any):
    text = literal(value)
    assert text[0] == text[-1] == '"' and "\n" not in text
    assert json.loads(text[1:-1].replace('\\"', '"').replace("\\\\", "\\")) == value


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("type", "properties", "items", "required", "enum", "const", "anyOf", "$ref", "minItems", "maxLength", "$defs"),
    ), inner | st.sampled_from(("object", "array", "string", "#/$defs/a")), max_size=4), max_leaves=15))  # fmt: skip
def test_any_schema_is_a_grammar_or_left_alone(schema: Any):
    if isinstance(schema, dict):
        made = schema_grammar(schema)
        assert made is None or made.startswith("root ::= ")


def chain(link) -> dict:
    """Thirty definitions, each of which names the next one as often as `link` does."""
    definitions = {f"d{at}": link({"$ref": f"#/$defs/d{at + 1}"}) for at in range(30)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, "d30": {"type": "string"}}}


def itself(schema: dict) -> dict:
    return {"$ref": "#/$defs/node", "$defs": {"node": schema}}


AGAIN = {"$ref": "#/$defs/node"}
LISTS = {"type": "array", "items": AGAIN}
ENDLESS = {
    "alternatives of alternatives": chain(lambda schema: {"anyOf": [schema, schema]}),
    "alternative lists of alternative lists": chain(lambda schema: {"anyOf": [{"type": "array", "items": schema}] * 2}),
    "two kinds of lists of itself": itself({"anyOf": [LISTS, {**LISTS, "minItems": 1}]}),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_schema_with_ever_more_ways_to_read_one_text_is_left_to_the_worker(name: str):
    assert schema_grammar(ENDLESS[name]) is None


@pytest.mark.parametrize(
    "schema",
    [
        itself({"type": "object", "properties": {"next": {"anyOf": [AGAIN, {"type": "null"}]}}, "required": ["next"]}),
        itself({"anyOf": [LISTS, {"type": "string"}, {"type": "integer"}, {"enum": [True, None]}]}),
        chain(lambda schema: {"type": "object", "properties": {"a": schema, "b": schema}}),
        {"anyOf": [{"type": "object", "properties": {name: {"type": "string"}}} for name in "abc"]},
    ],
)
def test_a_schema_whose_alternatives_are_told_apart_or_few_has_a_grammar(schema: dict):
    assert schema_grammar(schema) is not None
