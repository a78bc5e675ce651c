"""What the dialects do where Ollama's converters cannot be asked: odd records, failures, forms, searches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadRequest
from app.wire.dialects import BuiltinToolFailed, Exchange
from app.wire.go_json import dumps
from app.wire.multipart import MAX_PARTS
from app.wire.transcriptions import Transcriptions
from app.wire.v1 import DIALECTS, EncodingNotRead, check_encoding, error_of, named_model

CHAT = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "m", "prompt": "Hi"},
    "/v1/responses": {"model": "m", "input": "Hi"},
    "/v1/messages": CHAT,
}
SEARCH = {"message": {"tool_calls": [{"function": {"name": "web_search", "arguments": {"query": "news"}}}]}}
FORM = "multipart/form-data; boundary=XX"


def exchange(path: str, **more: Any) -> Exchange:
    return DIALECTS[path].read(dumps(BODIES[path] | more), "application/json")


def data_of(events: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in events.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def piece(text: str) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": text}, "response": text, "done": False}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_answer_that_breaks_off_ends_in_openais_error_and_has_no_done(path: str):
    told = exchange(path, stream=True)
    events = told.events(piece("A")) + told.broken("the worker died")
    error = {"message": "the worker died", "type": "api_error", "param": None, "code": None}
    assert data_of(events)[-1] == {"error": error}
    assert b"[DONE]" not in events


def test_a_message_that_breaks_off_ends_in_anthropics_error_event():
    told = exchange("/v1/messages", stream=True)
    events = told.events(piece("A")) + told.broken("the worker died")
    assert b"event: error\n" in events and b"message_stop" not in events
    assert data_of(events)[-1] == {"type": "error", "error": {"type": "api_error", "message": "the worker died"}}


def test_a_response_that_breaks_off_ends_as_failed_with_what_was_said_so_far():
    told = exchange("/v1/responses", stream=True)
    events = data_of(told.events(piece("A")) + told.broken("the worker died"))
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "the worker died"}
    assert response["output"][0]["content"][0]["text"] == "A"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_a_response_that_fails_before_its_first_event_still_begins():
    events = data_of(exchange("/v1/responses", stream=True).broken("no"))
    assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.failed"]


@pytest.mark.parametrize(("query", "status"), [("news", 403), ("", 502), (" ", 502)])
def test_a_web_search_that_the_model_calls_for_is_refused_in_a_response(query: str, status: int):
    called = {"message": {"tool_calls": [{"function": {"name": "web_search", "arguments": {"query": query}}}]}}
    with pytest.raises(BuiltinToolFailed) as caught:
        exchange("/v1/responses", tools=[{"type": "web_search"}]).whole(called)
    assert caught.value.status == status


def test_a_web_search_in_a_streamed_response_is_begun_and_then_the_response_has_failed():
    told = exchange("/v1/responses", stream=True, tools=[{"type": "web_search"}])
    events = data_of(told.events(piece("Let me")) + told.events(SEARCH) + told.events({"done": True}))
    kinds = [event["type"] for event in events]
    assert kinds[-4:] == [
        "response.output_item.added",
        "response.web_search_call.in_progress",
        "response.web_search_call.searching",
        "response.failed",
    ]
    assert "response.completed" not in kinds
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Let me"
    assert "disabled" in events[-1]["response"]["error"]["message"]


def test_a_web_search_without_a_query_says_so():
    told = exchange("/v1/responses", stream=True, tools=[{"type": "web_search"}])
    nameless = {"message": {"tool_calls": [{"function": {"name": "web_search"}}]}, "done": True}
    assert "non-empty" in data_of(told.events(nameless))[-1]["response"]["error"]["message"]


def test_a_function_that_is_called_web_search_by_the_client_is_its_own():
    told = exchange("/v1/responses", tools=[{"type": "function", "name": "web_search"}])
    assert json.loads(told.whole(SEARCH).body)["output"][0]["type"] == "function_call"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = (
    "model", "messages", "prompt", "input", "stream", "max_tokens", "tools", "stop", "response_format", "reasoning",
    "text", "system", "thinking", "tool_choice", "instructions", "temperature", "stream_options", "encoding_format",
    "role", "content", "type", "image_url", "tool_calls", "function", "arguments", "source", "data", "id", "name",
    "parameters", "input_schema", "output", "call_id", "summary", "encrypted_content", "format", "schema",
)  # fmt: skip
KINDS = (
    "user", "assistant", "tool", "text", "image", "image_url", "input_text", "input_image", "message", "function_call",
    "function_call_output", "reasoning", "tool_use", "tool_result", "json_schema", "function", "web_search",
    "namespace", "thinking", "web_search_tool_result", "data:image/png;base64,YQ==", "base64",
)  # fmt: skip
shaped = st.recursive(
    json_values | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
bodies = st.dictionaries(st.sampled_from(KEYS), shaped, max_size=8)


@pytest.mark.parametrize("path", [path for path, dialect in DIALECTS.items() if dialect.is_json])
@settings(max_examples=50)
@given(body=bodies, whole=st.booleans())
def test_any_body_is_either_understood_or_refused_in_one_sentence(path: str, body: dict[str, Any], whole: bool):
    given_body = BODIES.get(path, {"model": "m", "input": "x"}) | body if whole else body
    try:
        told = DIALECTS[path].read(json.dumps(given_body).encode(), "application/json")
    except BadRequest as error:
        assert error.message
        return
    assert json.loads(dumps(told.native))["model"] == told.native["model"]


@pytest.mark.parametrize("path", list(BODIES))
@settings(max_examples=30)
@given(records=st.lists(st.dictionaries(
    st.sampled_from(("model", "created_at", "message", "response", "done", "done_reason", "logprobs", "eval_count",
                     "prompt_eval_count", "_debug_info")),
    json_values | st.dictionaries(st.sampled_from(("role", "content", "thinking", "tool_calls", "images")),
                                  json_values | st.lists(json_values, max_size=2), max_size=4),
    max_size=6), max_size=4))  # fmt: skip
def test_odd_native_records_are_told_all_the_same(path: str, records: list[dict[str, Any]]):
    streamed = exchange(path, stream=True)
    for record in records:
        data_of(streamed.events(record))
        json.loads(exchange(path).whole(record).body)


def form(*parts: tuple[str, str, str | None], end: bool = True) -> bytes:
    text = ""
    for name, value, file in parts:
        named = f'; filename="{file}"' if file else ""
        text += f'--XX\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n'
    return (text + ("--XX--\r\n" if end else "")).encode()


MODEL, FILE = ("model", "m", None), ("file", "RIFFxx", "a.wav")


def test_a_recording_becomes_a_chat_with_the_audio_in_it():
    body = form(MODEL, FILE, ("language", "de", None), ("prompt", "Names: Ada", None), ("model", "other", None))
    told = Transcriptions(body, FORM)
    system, question = told.native["messages"]
    assert told.native["model"] == "m" and told.native["stream"] is False
    assert "de" in system["content"] and "Names: Ada" in system["content"]
    assert question["images"] == ["UklGRnh4"]
    answer = told.whole({"message": {"content": " Hello <you>\n"}})
    assert (answer.type, answer.body) == ("application/json", b'{"text":"Hello \\u003cyou\\u003e"}\n')


def test_a_transcription_may_be_plain_text():
    answer = Transcriptions(form(MODEL, FILE, ("response_format", "text", None)), FORM).whole(
        {"message": {"content": " Hello <you>\n"}}
    )
    assert (answer.type, answer.body) == ("text/plain", b"Hello <you>")


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (form(FILE), FORM, "model is required"),
        (form(("model", "", None), FILE), FORM, "model is required"),
        (form(MODEL), FORM, "file is required: http: no such file"),
        (form(MODEL, ("file", "x", None)), FORM, "file is required: http: no such file"),
        (form(MODEL, ("file", "", "a.wav")), FORM, "audio file is empty"),
        (b"{}", "application/json", "request Content-Type isn't multipart/form-data"),
        (b"", "", "request Content-Type isn't multipart/form-data"),
        (form(MODEL, FILE), "multipart/mixed; boundary=XX", "request Content-Type isn't multipart/form-data"),
        (form(MODEL, FILE), "multipart/form-data", "no multipart boundary param in Content-Type"),
        (form(MODEL, FILE), "multipart/form-data; boundary=YY", "multipart: NextPart: EOF"),
        (b"", FORM, "multipart: NextPart: EOF"),
        (form(MODEL, FILE, end=False), FORM, "unexpected EOF"),
        (form(*[MODEL] * (MAX_PARTS + 1)), FORM, "multipart: message too large"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_in_ollamas_words(body: bytes, kind: str, sentence: str):
    with pytest.raises(BadRequest) as caught:
        Transcriptions(body, kind)
    assert caught.value.message.removeprefix("failed to parse multipart form: ") == sentence


def test_a_zstd_body_is_refused_and_says_what_to_do():
    with pytest.raises(EncodingNotRead) as caught:
        check_encoding("zstd")
    assert caught.value.status == 415 and "without Content-Encoding" in caught.value.message
    check_encoding("")


@pytest.mark.parametrize(
    ("body", "name"),
    [(b'{"model":" m "}', "m"), (b"{", ""), (b"", ""), (b"[]", ""), (b'{"model":5}', ""), (b'{"model":null}', "")],
)
def test_the_model_of_a_request_is_known_before_the_rest_is_read(body: bytes, name: str):
    assert named_model(body) == name


def test_each_route_has_the_errors_of_its_dialect():
    assert json.loads(error_of("/v1/messages")(404, "x"))["error"] == {"type": "not_found_error", "message": "x"}
    assert json.loads(error_of("/v1/models")(404, "x"))["error"]["code"] is None
