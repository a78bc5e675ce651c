"""Which messages make a prompt, before any template sees them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.core.errors import GenerationFailed
from app.runtime.answering import REPEATS, AnswerReader, _called, _Repeats
from app.runtime.library import LocalModel
from app.runtime.prompts import chat_messages, generate_messages, marked_images
from app.runtime.thinking import ThinkingSplitter
from app.runtime.tool_calls import ToolCallParser
from app.runtime.worker_client import Piece, WorkerCall


def model(family: str = "llama", name: str = "m", system: str = "", messages: tuple[Any, ...] = ()) -> LocalModel:
    told = {
        "config": {"model_family": family}, "name": SimpleNamespace(model=name), "system": system, "messages": messages,
    }  # fmt: skip
    return cast(LocalModel, SimpleNamespace(**told))


THOUGHT = [
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "<think>a</think>\n\nb"},
    {"role": "user", "content": "2"},
    {"role": "assistant", "content": "<think>c</think>d"},
]


@pytest.mark.parametrize(("family", "name"), [("qwen3", "m"), ("llama", "deepseek-r1")])
def test_old_thinking_is_left_out_for_the_models_that_ollama_does_it_for(family, name):
    texts = [message["content"] for message in chat_messages(model(family, name), THOUGHT)]
    assert texts == ["1", "b", "2", "<think>c</think>d"]


def test_other_models_see_what_was_sent():
    assert chat_messages(model(), THOUGHT) == THOUGHT


def test_a_models_own_system_text_and_messages_come_first():
    own = model(system="S", messages=({"role": "user", "content": "own"},))
    assert [m["content"] for m in chat_messages(own, THOUGHT[:1])] == ["S", "own", "1"]
    given = [{"role": "system", "content": "mine"}, *THOUGHT[:1]]
    assert [m["content"] for m in chat_messages(own, given)] == ["own", "mine", "1"]
    assert [m["content"] for m in generate_messages(own, {"prompt": "p"})] == ["S", "own", "p"]
    assert [m["content"] for m in generate_messages(own, {"prompt": "p", "context": [1], "system": "T"})] == ["T", "p"]
    assert generate_messages(own, {"prompt": "p", "images": ["x"]})[-1]["images"] == ["x"]


def test_images_are_numbered_through_the_talk_and_stand_where_the_text_says():
    talk = [
        {"role": "user", "content": "a [img] b", "images": ["x", "y"]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d", "images": ["z"]},
    ]
    assert [m["content"] for m in marked_images(talk)] == ["[img-1]a [img-0] b", "c", "[img-2]d"]


def test_a_call_of_the_worker_has_its_id_and_its_arguments_as_an_object():
    assert _called(WorkerCall(1, "x", "f", '{"a": 1}')) == {
        "id": "x", "function": {"index": 1, "name": "f", "arguments": {"a": 1}},
    }  # fmt: skip
    assert _called(WorkerCall(0, "", "f", " ")) == {"function": {"index": 0, "name": "f", "arguments": {}}}


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]"])
def test_arguments_that_are_no_object_are_an_error_that_names_the_tool(arguments):
    with pytest.raises(GenerationFailed, match='llama-server returned invalid tool call arguments for "f": '):
        _called(WorkerCall(0, "", "f", arguments))


def test_an_answer_that_says_the_same_again_and_again_is_ended():
    repeats = _Repeats()
    for _ in range(REPEATS + 1):
        repeats.count(Piece("a"))
    repeats.count(Piece("b"))
    for _ in range(REPEATS):
        repeats.count(Piece(" b\n"))
    with pytest.raises(GenerationFailed, match="token repeat limit reached"):
        repeats.count(Piece("b"))


def test_blanks_alone_count_as_the_same_from_the_very_start():
    repeats = _Repeats()
    for _ in range(REPEATS):
        repeats.count(Piece("\n"))
    with pytest.raises(GenerationFailed):
        repeats.count(Piece(" "))


def test_thinking_is_split_off_before_calls_are_looked_for():
    reader = AnswerReader(ThinkingSplitter("<think>", "</think>"), ToolCallParser("<call>", ["f"]), ["<think>", "{"])
    assert reader.special_tokens == ("<think>",)
    thinking, text = reader.split('<think><call>f {}</think><call>f {"a": 1} <ca', last=True)
    calls, said = reader.calls(text, last=True)
    assert (thinking, said) == ("<call>f {}", "")
    (call,) = calls
    assert isinstance(call, dict)
    assert call["function"] == {"index": 0, "name": "f", "arguments": {"a": 1}}


def test_without_a_splitter_and_a_parser_all_is_text():
    reader = AnswerReader(None, None, [])
    assert reader.split("<think>", last=True) == ("", "<think>")
    assert reader.calls("{", last=True) == ([], "{")
