"""Finding tool calls in a text, whatever the pieces in which it comes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.tool_calls import ToolCallParser, new_call_id, tool_names

NAMES = ("get", "get_weather", "add")
TAG = "<tool_call>"

# (mark, text, [(name, arguments)], what is left as text)
CASES = [
    (TAG, '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2.5}}</tool_call>', [("add", {"a": 1, "b": 2.5})], ""),
    (TAG, 'Sure. <tool_call>\n{"name": "get", "arguments": {}}', [("get", {})], "Sure. "),
    (
        TAG,
        '<tool_call>{"name":"get_weather","arguments":{"city":"Köln"}}</tool_call>\n'
        '<tool_call>{"name":"get","parameters":{"x":[1,{"y":null}]}}</tool_call>',
        [("get_weather", {"city": "Köln"}), ("get", {"x": [1, {"y": None}]})],
        "",
    ),
    (TAG, "no call <tool_ca", [], "no call <tool_ca"),
    (TAG, "a < b <tool> c", [], "a < b <tool> c"),
    (TAG, '<tool_call>{"name": "other", "arguments": {}}</tool_call>', [], ""),
    (TAG, '<tool_call>{"name": "add", "arguments": {"a": 1}', [], ""),
    (TAG, '<tool_call>{"name": "add"}</tool_call>', [], ""),
    (TAG, '<tool_call>{"name": "add", "arguments": 5}</tool_call>', [], ""),
    (TAG, '<tool_call>add {"a": "}"}', [("add", {"a": "}"})], ""),
    (TAG, '<tool_call>add{broken}{"a": "\\"}"}', [("add", {"a": '"}'})], ""),
    (TAG, '<tool_call>{"name":"add","arguments":"{\\"a\\": 3}"}', [("add", {"a": 3})], ""),
    (TAG, '<tool_call>{"add": {"a": 4}}', [("add", {"a": 4})], ""),
    (TAG, '<tool_call>{"calls": [1, {"name": "add", "arguments": {"a": 5}}]}', [("add", {"a": 5})], ""),
    ("[TOOL_CALLS] [", '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]', [("add", {"a": 1})], ""),
    ("{", '{"name": "add", "parameters": {"a": 1}}', [("add", {"a": 1})], ""),
    ("{", '  {"name": "add", "parameters": {"a": 1}}', [("add", {"a": 1})], "  "),
    ("{", 'Well: {"name": "add", "parameters": {"a": 1}}', [], 'Well: {"name": "add", "parameters": {"a": 1}}'),
    ("{", '{"sum": 3} is it', [], '{"sum": 3} is it'),
    ("{", '{"sum": 3', [], '{"sum": 3'),
    ("{", '{"name": "add", "parameters": {}} {"name": "get", "parameters": {}}', [("add", {}), ("get", {})], ""),
    ("[", '[{"name": "add", "arguments": {}}, {"name": "get", "arguments": {}}]', [("add", {}), ("get", {})], ""),
    ("{", '{"a": 1} add', [], '{"a": 1} add'),
    (TAG, '<tool_call>{"a": 1} add', [("add", {"a": 1})], ""),
    ("[", "[1, 2] add", [], "[1, 2] add"),
    (TAG, '<tool_call>add {"a": NaN}', [], ""),
]  # fmt: skip


def parse(mark, pieces, names=NAMES):
    parser = ToolCallParser(mark, names)
    calls, said = [], []
    for piece in pieces:
        found, text = parser.feed(piece)
        calls += found
        said.append(text)
    said.append(parser.rest())
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls], "".join(said)


@pytest.mark.parametrize(("mark", "text", "calls", "said"), CASES)
def test_a_cut_at_any_place_changes_nothing(mark, text, calls, said):
    for at in range(len(text) + 1):
        assert parse(mark, [text[:at], text[at:]]) == (calls, said)
    assert parse(mark, list(text)) == (calls, said)


_BITS = [
    "<tool_call>",
    "</tool_call>",
    "{",
    "}",
    '"',
    "\\",
    '{"name": "',
    "get",
    "_weather",
    '", "arguments": {}}',
    " ",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(_BITS), max_size=14), st.sampled_from([TAG, "{", "["]))
def test_the_pieces_of_any_text_do_not_matter(pieces, mark):
    text = "".join(pieces)
    assert parse(mark, pieces) == parse(mark, list(text))


def test_calls_are_numbered_and_have_an_id_of_ollamas_form():
    parser = ToolCallParser(TAG, NAMES)
    first, _ = parser.feed('<tool_call>{"name": "add", "arguments": {}}</tool_call>')
    second, _ = parser.feed('<tool_call>{"name": "get", "arguments": {}}</tool_call>')
    assert [call["function"]["index"] for call in first + second] == [0, 1]
    for call in first + second:
        assert list(call) == ["id", "function"]
        assert list(call["function"]) == ["index", "name", "arguments"]
        prefix, _, letters = call["id"].partition("_")
        assert (prefix, len(letters)) == ("call", 8)
        assert letters.isalnum()
        assert letters == letters.lower()
    assert len({new_call_id() for _ in range(100)}) == 100


def test_a_call_is_told_as_soon_as_it_is_whole():
    parser = ToolCallParser(TAG, NAMES)
    assert parser.feed('<tool_call>{"name": "add", "arguments": {"a": 1}') == ([], "")
    calls, said = parser.feed("}")
    assert (len(calls), said) == (1, "")


def test_of_two_tools_with_one_beginning_the_longer_name_wins():
    calls, _ = parse(TAG, ['<tool_call>{"name": "get_weather", "arguments": {}}'], ("get_weather", "get"))
    assert calls == [("get_weather", {})]


def test_names_are_read_from_tools_of_any_shape():
    tools = [{"function": {"name": "a"}}, {"function": None}, 3, {}, {"function": {}}]
    assert tool_names(tools) == ("a", "")
    assert tool_names(None) == ()


def test_a_long_answer_behind_a_mark_is_read_once():
    """A quadratic reader would need minutes for this."""
    parser = ToolCallParser(TAG, NAMES)
    parser.feed("<tool_call>add ")
    began = time.monotonic()
    for _ in range(10_000):
        parser.feed('{"a": }} ')
    assert time.monotonic() - began < 20
    calls, _ = parser.feed(json.dumps({"a": 1}))
    assert len(calls) == 1
