"""Request bodies as Ollama's Go structs read them. Sentences: the recordings, and Go 1.26 where none was recorded."""

from __future__ import annotations

import json
import re

import pytest

from app.core.errors import BadRequest
from app.wire.go_structs import corrupt_base64_at
from app.wire.requests import UnusableSetting, decode, known_options, output_format
from tests.recordings import names, recording

TYPES = {
    "generate": "GenerateRequest", "chat": "ChatRequest", "embed": "EmbedRequest", "embeddings": "EmbeddingRequest",
    "show": "ShowRequest", "copy": "CopyRequest", "delete": "DeleteRequest", "pull": "PullRequest",
    "push": "PushRequest", "create": "CreateRequest",
}  # fmt: skip
WRONG = [
    ("GenerateRequest", "[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
    ("GenerateRequest", '{"options":"x"}', "GenerateRequest.options of type map[string]interface {}"),
    ("GenerateRequest", '{"context":["a"]}', "string into Go struct field GenerateRequest.context of type int"),
    ("GenerateRequest", '{"context":[1.5]}', "number 1.5 into Go struct field GenerateRequest.context of type int"),
    ("GenerateRequest", '{"context":5}', "number into Go struct field GenerateRequest.context of type []int"),
    ("GenerateRequest", '{"stream":"true"}', "string into Go struct field GenerateRequest.stream of type bool"),
    ("GenerateRequest", '{"top_logprobs":99999999999999999999}', "of type int"),
    ("ChatRequest", '{"messages":[{"role":3}]}', "ChatRequest.messages.role of type string"),
    ("ChatRequest", '{"messages":[3]}', "number into Go struct field ChatRequest.messages of type api.Alias"),
    ("ChatRequest", '{"messages":3}', "number into Go struct field ChatRequest.messages of type []api.Message"),
    ("ChatRequest", '{"tools":3}', "number into Go struct field ChatRequest.tools of type api.Tools"),
    ("ChatRequest", '{"tools":[{"function":{"name":3}}]}', "ToolFunction.tools.function.name of type string"),
    ("CreateRequest", '{"files":{"a":3}}', "number into Go struct field CreateRequest.files of type string"),
    ("GenerateRequest", '{"keep_alive":true}', "Unsupported type: 'bool'"),
    ("GenerateRequest", '{"think":3}', '("high", "medium", "low", "max", true, or false)'),
]  # fmt: skip
BASE64 = [
    ("YQ==", None), ("YQ", 0), ("YQ=a", 2), ("Y", 0), ("YWJj==", 4), ("YW\nJj", None), ("YQ==YQ==", 4), ("YQ= =", 2),
    ("data:x", 4), ("", None), ("YQ=", 3), ("YWI", 0), ("YWJ=", None), ("=", 0), ("YWJjY", 4), ("YQ==\n", None),
]  # fmt: skip


@pytest.mark.parametrize("case", [*names("wrong_type_*"), *names("malformed_*"), *names("empty_body_*")])
def test_a_body_that_cannot_be_read_is_refused_as_recorded(case: str):
    recorded = recording(case)
    with pytest.raises(BadRequest) as caught:
        decode(TYPES[case.rpartition("_")[2]], recorded.request.content)
    assert caught.value.message == recorded.body["error"]
    assert caught.value.status == recorded.status


@pytest.mark.parametrize(
    "case", ["chat_content_parts", "generate_bad_image", "generate_bad_keep_alive", "generate_think_bad"]
)
def test_a_field_of_the_wrong_kind_is_refused_as_recorded(case: str):
    recorded = recording(case)
    with pytest.raises(BadRequest) as caught:
        decode(TYPES[case.partition("_")[0]], recorded.request.content)
    assert caught.value.message == recorded.body["error"]


@pytest.mark.parametrize(("kind", "body", "sentence"), WRONG)
def test_wrong_types_are_told_in_gos_words(kind: str, body: str, sentence: str):
    with pytest.raises(BadRequest) as caught:
        decode(kind, body)
    assert caught.value.message.endswith(sentence)


def test_keys_match_in_any_case_unknown_ones_stay_and_roles_are_lower_case():
    body = decode("ChatRequest", '{"MODEL":"m","x_y":[1],"Messages":[{"Role":"USER","content":null}]}')
    assert body == {"model": "m", "x_y": [1], "messages": [{"role": "user", "content": None}]}


def test_null_fits_everything():
    assert decode("GenerateRequest", '{"model":null,"options":null,"keep_alive":null,"think":null}')["model"] is None
    assert decode("GenerateRequest", "null") == {}


def test_an_error_of_a_type_with_its_own_decoder_comes_first():
    with pytest.raises(BadRequest, match="missing unit"):
        decode("GenerateRequest", '{"model":3,"keep_alive":"300"}')


_PARAMETERS = "ToolFunctionParameters.tools.function.parameters"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            '"x"',
            "string into Go struct field ToolFunction.tools.function.parameters of type api.ToolFunctionParameters",
        ),
        ('{"type":1}', f"number into Go struct field {_PARAMETERS}.type of type string"),
        ('{"required":"x"}', f"string into Go struct field {_PARAMETERS}.required of type []string"),
        ('{"properties":{"a":1}}', f"{_PARAMETERS}.properties of type api.ToolProperty"),
        ('{"properties":{"a":{"type":1}}}', f"{_PARAMETERS}.properties.type of type []string"),
        ('{"properties":{"a":{"type":["string",1]}}}', f"{_PARAMETERS}.properties.type of type string"),
        ('{"properties":{"a":{"description":1}}}', f"{_PARAMETERS}.properties.description of type string"),
        ('{"properties":{"a":{"enum":"x"}}}', f"{_PARAMETERS}.properties.enum of type []interface {{}}"),
        (
            '{"properties":{"a":{"properties":{"q":{"type":5}}}}}',
            f"{_PARAMETERS}.properties.properties.type of type []s",
        ),
        ('{"properties":[1]}', "Value looks like object, but can't find closing '}' symbol"),
    ],
)
def test_tools_of_the_wrong_shape_are_told_in_gos_words(parameters: str, sentence: str):
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        decode("ChatRequest", f'{{"tools":[{{"function":{{"parameters":{parameters}}}}}]}}')


@pytest.mark.parametrize("arguments", ['"x"', "[1]"])
def test_arguments_of_a_call_must_be_an_object(arguments: str):
    with pytest.raises(BadRequest, match="Value looks like object, but can't find closing '}' symbol"):
        decode("ChatRequest", f'{{"messages":[{{"tool_calls":[{{"function":{{"arguments":{arguments}}}}}]}}]}}')


def test_tools_and_calls_of_the_right_shape_stay_as_they_are():
    properties = {
        "b": {"anyOf": [{"type": "string"}], "default": 1},
        "a": {"type": ["string", "null"], "enum": [1, None]},
    }
    parameters = {"type": "object", "properties": properties, "required": ["a"], "$defs": {"x": 1}, "items": [1]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    call = {"function": {"name": "f", "arguments": {"z": {"y": [1]}}}}
    body = {
        "tools": [tool, {"function": {"parameters": None}}],
        "messages": [{"role": "assistant", "tool_calls": [call]}],
    }
    assert decode("ChatRequest", json.dumps(body)) == body


@pytest.mark.parametrize(("text", "offset"), BASE64)
def test_broken_base64_is_found_where_go_finds_it(text: str, offset: int | None):
    assert corrupt_base64_at(text) == offset


def test_options_are_typed_and_unknown_ones_are_ignored():
    given = {"num_ctx": 512.9, "temperature": 1, "stop": ["a"], "frobnicate": 3, "seed": None, "use_mmap": False}
    assert known_options(given) == {"num_ctx": 512, "temperature": 1.0, "stop": ["a"], "use_mmap": False}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_ctx": "big"}, 'option "num_ctx" must be of type integer'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
    ],
)
def test_an_option_of_the_wrong_type_is_ollamas_500(options: dict, sentence: str):
    with pytest.raises(UnusableSetting) as caught:
        known_options(options)
    assert (caught.value.message, caught.value.status) == (sentence, 500)


def test_formats_are_nothing_json_or_a_schema():
    assert output_format({}) is output_format({"format": None}) is output_format({"format": ""}) is None
    assert output_format({"format": "json"}) == "json"
    assert output_format({"format": {"type": "object"}}) == {"type": "object"}
    recorded = recording("generate_bad_format")
    with pytest.raises(UnusableSetting) as caught:
        output_format(recorded.request.body)
    assert (caught.value.message, caught.value.status) == (recorded.body["error"], recorded.status)
