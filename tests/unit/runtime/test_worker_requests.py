"""What a worker is asked: made anew from a request, field by field."""

from __future__ import annotations

import json

import pytest

from app.core.errors import BadRequest, HostRefused
from app.runtime.options import Sampling
from app.runtime.tool_shapes import check_tools, images_of, worker_messages, worker_tools
from app.runtime.worker_requests import (
    chat_request,
    completion_request,
    special_token,
    template_request,
    with_logprobs,
)

TALK = [{"role": "user", "content": "Hi"}]


def tool(parameters):
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def parameters_of(parameters):
    (made,) = worker_tools([tool(parameters)])
    return made["function"]["parameters"]


def test_a_tool_keeps_what_ollama_keeps_in_the_order_of_the_request():
    given = {
        "type": "function",
        "strict": True,
        "function": {
            "name": "f",
            "description": "d",
            "extra": 1,
            "parameters": {
                "additionalProperties": False,
                "type": "object",
                "required": ["b"],
                "$defs": {"x": {"type": "string"}},
                "properties": {
                    "b": {"type": ["string", "null"], "description": "B", "default": "x", "pattern": "^a"},
                    "a": {"anyOf": [{"type": "integer", "minimum": 1}], "enum": [1, None], "format": "date"},
                    "c": {"type": ["object"], "properties": {"d": {"items": {"$ref": "#/$defs/x"}}}, "required": ["d"]},
                },
            },
        },
    }
    (made,) = worker_tools([given])
    assert json.dumps(made) == json.dumps({
        "type": "function",
        "function": {
            "name": "f",
            "description": "d",
            "parameters": {
                "type": "object",
                "$defs": {"x": {"type": "string"}},
                "required": ["b"],
                "properties": {
                    "b": {"type": ["string", "null"], "description": "B"},
                    "a": {"anyOf": [{"type": "integer"}], "enum": [1, None]},
                    "c": {"type": "object", "properties": {"d": {"items": {"$ref": "#/$defs/x"}}}, "required": ["d"]},
                },
            },
        },
    })  # fmt: skip


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "", "properties": None}])
def test_a_tool_without_parameters_takes_none(parameters):
    assert parameters_of(parameters) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"properties": {"a": {"type": "nope"}}}, "Unrecognized schema"),
        ({"properties": {"a": {"items": {"pattern": "x" * 1000}}}}, "pattern must be"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/nowhere"}}}}, "Error resolving ref"),
        ({"items": {"items": {"maxItems": 1e9}}}, "maxItems must be"),
    ],
)
def test_a_schema_that_no_grammar_can_be_made_of_is_refused_by_the_tools_name(parameters, problem):
    with pytest.raises(BadRequest, match=f"the parameters of the tool 'f' cannot be used: .*{problem}"):
        parameters_of(parameters)


def test_tools_are_bounded_in_number_names_and_depth():
    check_tools([tool({})] * 1024)
    with pytest.raises(BadRequest, match="at most 1024"):
        check_tools([tool({})] * 1025)
    with pytest.raises(BadRequest, match="at most 512 characters"):
        check_tools([{"function": {"name": "x" * 513}}])
    deep: dict = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(BadRequest, match="nested more than 48"):
        parameters_of(deep)


def test_messages_carry_calls_answers_thinking_and_images_and_nothing_else():
    call = {"id": "c1", "function": {"index": 2, "name": "f", "arguments": {"a": "é <b>", "n": 1}}, "type": "x"}
    made = worker_messages([
        {"role": "user", "content": "See", "images": ["iVBORw0KGgo=", "/9j/4AAQ", "AAAA"], "name": "eve"},
        {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [call, {"function": {}}]},
        {"role": "tool", "content": "21", "tool_name": "f", "tool_call_id": "c1"},
    ])  # fmt: skip
    kinds = ["png", "jpeg", "jpeg"]
    urls = [part["image_url"]["url"] for part in made[0]["content"][1:]]
    assert made[0]["content"][0] == {"type": "text", "text": "See"}
    assert [url.split(";base64,")[0] for url in urls] == [f"data:image/{kind}" for kind in kinds]
    assert set(made[0]) == {"role", "content"}
    assert made[1] == {
        "role": "assistant",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "index": 2, "type": "function", "function": {"name": "f", "arguments": '{"a":"é <b>","n":1}'}},
            {"index": 0, "type": "function", "function": {"name": "", "arguments": "{}"}},
        ],
        "content": "",
    }
    assert made[2] == {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "21"}
    assert images_of([{"images": ["a", 3]}, {"images": None}, {"images": ["b"]}]) == ["a", "b"]


@pytest.mark.parametrize(
    ("think", "kwargs"),
    [
        (None, None),
        (True, {"enable_thinking": True}),
        (False, {"enable_thinking": False}),
        ("low", {"enable_thinking": True, "reasoning_effort": "low"}),
    ],
)
def test_thinking_is_asked_for_through_the_templates_own_words(think, kwargs):
    assert template_request(TALK, None, think).get("chat_template_kwargs") == kwargs


def test_a_chat_is_asked_for_within_ranges():
    wild = Sampling(num_predict=10**9, temperature=-3.0, top_k=-5, seed=-1, stop=("a",), num_keep=10**6)
    request = chat_request(TALK, [], None, wild, 512, None)
    assert set(request) == {
        "messages", "stream", "cache_prompt", "return_progress", "n_keep", "temperature", "top_k", "top_p", "min_p",
        "typical_p", "repeat_penalty", "repeat_last_n", "frequency_penalty", "presence_penalty", "seed", "stop",
        "n_predict",
    }  # fmt: skip
    assert (request["n_predict"], request["temperature"], request["top_k"]) == (5120, 0.0, 0)
    assert (request["n_keep"], request["seed"], request["stream"]) == (512, 2**32 - 1, True)
    assert chat_request(TALK, [], None, Sampling(), 512, None)["n_predict"] == 5120
    assert chat_request(TALK, [], None, Sampling(num_predict=0), 512, None)["n_predict"] == 0


def test_a_form_is_passed_in_the_way_of_each_kind_of_request():
    schema = {"type": "object"}
    assert chat_request(TALK, None, None, Sampling(), 64, "json")["response_format"] == {"type": "json_object"}
    assert chat_request(TALK, None, None, Sampling(), 64, schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "schema", "schema": schema},
    }
    assert "root" in str(completion_request("x", Sampling(), 64, schema)["grammar"])
    engines = {"type": "string", "pattern": "^a+$"}
    assert completion_request("x", Sampling(), 64, engines)["json_schema"] == engines
    assert "root" in str(completion_request("x", Sampling(), 64, "json")["grammar"])
    for make in (lambda form: chat_request(TALK, None, None, Sampling(), 64, form),
                 lambda form: completion_request("x", Sampling(), 64, form)):  # fmt: skip
        with pytest.raises(HostRefused):
            make({"type": "nope"})


def test_images_stand_where_the_prompt_marks_them():
    request = completion_request("a[img-0]b[img-1]", Sampling(), 64, None, images=["x", "y"])
    assert request["prompt"] == {"prompt_string": "a<__media__>b<__media__>", "multimodal_data": ["x", "y"]}


def test_log_probabilities_are_asked_for_in_the_way_of_each_kind_of_request():
    asked = {"logprobs": True, "top_logprobs": 3}
    assert with_logprobs({}, asked, chat=True) == {"logprobs": True, "top_logprobs": 3}
    assert with_logprobs({}, asked, chat=False) == {"n_probs": 3}
    assert with_logprobs({}, {"logprobs": True}, chat=False) == {"n_probs": 1}
    assert with_logprobs({}, {"top_logprobs": 3}, chat=True) == {}


@pytest.mark.parametrize(
    ("mark", "token"),
    [
        ("[TOOL_CALLS] [", "[TOOL_CALLS]"),
        ("<tool_call>", "<tool_call>"),
        ("<|tool_call|>[", "<|tool_call|>"),
        ("{", ""),
        ("[", ""),
        ("", ""),
        ("Action:", "Action:"),
        ("<open", "<open"),
    ],
)
def test_a_mark_that_begins_with_a_special_token_is_shown(mark, token):
    assert special_token(mark) == token
