"""Reading what a real Ollama answered, and gathering a stream into the answer it would have given unstreamed."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import GenerationFailed, HostError, HostProtocolError
from app.wire.answers import (
    NEVER,
    error_text,
    gather,
    parse_chunk,
    parse_ps,
    parse_show,
    parse_tags,
    parse_version,
)
from tests.recordings import names, recording

STREAMS = [name for name in names("chat_*") + names("generate_*") if recording(name).lines]


def chunks(name: str):
    told = recording(name)
    return [parse_chunk(told.request.path.removeprefix("/api/"), line.encode()) for line in told.lines]


@pytest.mark.parametrize("name", STREAMS)
def test_every_recorded_stream_is_read(name):
    read = chunks(name)
    assert [chunk.done for chunk in read] == [False] * (len(read) - 1) + [True]
    last = recording(name).chunks[-1]
    assert read[-1].usage.output_tokens == last["eval_count"]
    assert read[-1].usage.decode_tps == pytest.approx(last["eval_count"] / last["eval_duration"] * 1e9)


@pytest.mark.parametrize("name", STREAMS)
def test_a_gathered_stream_has_the_fields_of_an_unstreamed_answer_in_their_order(name):
    told = recording(name)
    endpoint = told.request.path.removeprefix("/api/")
    answer = json.loads(gather(endpoint, chunks(name)))
    parts = told.chunks
    if endpoint == "chat":
        assert answer["message"] == {
            "role": "assistant",
            "content": "".join(part["message"]["content"] for part in parts),
        }
    else:
        assert answer["response"] == "".join(part["response"] for part in parts)
        assert answer.get("context") == parts[-1].get("context")
    logprobs = [item for part in parts for item in part.get("logprobs", [])]
    assert answer.get("logprobs", []) == logprobs
    plain = recording(f"{endpoint}_logprobs_plain" if logprobs and endpoint == "generate" else f"{endpoint}_plain")
    assert [key for key in answer if key != "logprobs"] == [
        key for key in json.loads(plain.text) if key in answer and key != "logprobs"
    ]


def test_gathering_the_recorded_stream_gives_the_recorded_plain_answer():
    gathered = json.loads(gather("chat", chunks("chat_stream")))
    plain = json.loads(recording("chat_plain").text)
    assert list(gathered) == list(plain)
    assert gathered["message"] == plain["message"]


def test_logprobs_stand_where_the_recorded_plain_answer_has_them():
    plain = json.loads(recording("generate_logprobs_plain").text)
    gathered = json.loads(gather("generate", chunks("generate_logprobs")))
    assert list(gathered) == [key for key in plain if key in gathered]
    assert "logprobs" in gathered


def test_thinking_and_tool_calls_of_all_records_are_joined():
    def record(**message):
        return parse_chunk("chat", json.dumps({"model": "m", "message": {"role": "assistant", **message}}).encode())

    end = parse_chunk("chat", b'{"model":"m","message":{"role":"assistant","content":""},"done":true}')
    call = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    told = [record(content="", thinking="Hm"), record(content="", thinking="."), record(content="", tool_calls=[call])]
    assert json.loads(gather("chat", [*told, end]))["message"] == {
        "role": "assistant",
        "content": "",
        "thinking": "Hm.",
        "tool_calls": [call],
    }


def test_a_whole_answer_is_passed_on_as_it_came():
    text = recording("generate_render").text.encode()
    assert gather("generate", [parse_chunk("generate", text, whole=True)]) == text


def test_gathering_writes_json_as_go_does():
    line = '{"model":"m","response":"a<b>&\u2028","done":true}'.encode()
    assert rb"a\u003cb\u003e\u0026\u2028" in gather("generate", [parse_chunk("generate", line)])


def test_an_error_record_is_a_failed_generation_with_its_text():
    with pytest.raises(GenerationFailed, match="^out of memory$") as caught:
        parse_chunk("chat", b'{"error":"out of memory"}', "gpu")
    assert caught.value.host == "gpu"


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_nonsense_never_gets_past_as_another_error(data):
    for read in (lambda: parse_chunk("chat", data), lambda: parse_tags(data), lambda: parse_show(data)):
        with contextlib.suppress(HostError):
            read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "digest", "size", "modified_at", "details"), JSON)))
def test_odd_fields_of_a_list_are_their_zero_value(row):
    [model] = parse_tags(json.dumps({"models": [row]}).encode())
    assert isinstance(model.name, str)
    assert isinstance(model.size, int)
    assert model.modified_at.tzinfo is not None


def test_lists_read_times_with_nanoseconds_and_far_futures():
    [loaded] = parse_ps(json.dumps(recording("ps_forever").body).encode())
    assert loaded.expires_at.year > 2300
    [model] = parse_tags(b'{"models":[{"name":"m","modified_at":"2026-11-23T03:24:38.795017525+01:00"}]}')
    assert model.modified_at == datetime(2026, 11, 23, 2, 24, 38, 795017, UTC)
    assert model.modified_at.utcoffset() == timedelta(hours=1)
    assert parse_tags(b'{"models":[{"name":"m","modified_at":"soon"}]}')[0].modified_at == NEVER


def test_empty_and_null_lists_are_empty():
    assert parse_tags(recording("tags_empty").text.encode()) == ()
    assert parse_ps(b'{"models":null}') == ()
    with pytest.raises(HostProtocolError):
        parse_tags(b'{"models":7}')


def test_show_reads_metadata_tensors_and_template():
    shown = parse_show(json.dumps(recording("show").body).encode())
    assert shown.info["llama.context_length"] == 8192
    assert shown.details.quantization_level == "F16"
    assert shown.capabilities == ("completion",)
    assert shown.template


def test_version_and_error_bodies():
    assert parse_version(recording("version").text.encode()) == "0.33.0"
    with pytest.raises(HostProtocolError):
        parse_version(b"{}")
    assert error_text(recording("missing_chat").text.encode()) == recording("missing_chat").body["error"]
    assert (
        error_text(recording("v1_chat_missing").text.encode()) == recording("v1_chat_missing").body["error"]["message"]
    )
    assert error_text(b"<html>") is None
