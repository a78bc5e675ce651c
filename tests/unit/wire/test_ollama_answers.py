"""Answers as a server writes them, against the recorded ones."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone

from app.wire.go_duration import FOREVER
from app.wire.go_json import dumps
from app.wire.ollama_answers import AnswerWriter, Costs, Said, local_timestamp, logprobs_of, timestamp
from tests.recordings import recording


def costs_of(record: dict) -> Costs:
    return Costs(
        record["total_duration"], record["load_duration"], record["prompt_eval_count"],
        record["prompt_eval_duration"], record["eval_count"], record["eval_duration"],
    )  # fmt: skip


def without_time(text: str) -> str:
    record = json.loads(text)
    return text.replace(record["created_at"], "")


def test_a_stream_of_generate_is_written_byte_for_byte():
    recorded = recording("generate_stream")
    writer = AnswerWriter(recorded.request.body["model"], chat=False)
    for line, record in zip(recorded.lines, recorded.chunks, strict=True):
        if record["done"]:
            ours = writer.done(Said(record["response"]), record["done_reason"], costs_of(record), record["context"])
        else:
            ours = writer.piece(Said(record["response"]))
        assert without_time(ours.decode()) == without_time(line)


def test_a_stream_of_chat_with_logprobs_is_written_byte_for_byte():
    recorded = recording("chat_logprobs")
    writer = AnswerWriter(recorded.request.body["model"], chat=True)
    for line, record in zip(recorded.lines, recorded.chunks, strict=True):
        if record["done"]:
            ours = writer.done(Said(), record["done_reason"], costs_of(record))
        else:
            told = [{k: v for k, v in entry.items() if k != "bytes"} for entry in record["logprobs"]]
            ours = writer.piece(Said(record["message"]["content"], logprobs=logprobs_of(told, top=True)))
        assert without_time(ours.decode()) == without_time(line)


def test_a_whole_answer_with_logprobs_is_written_byte_for_byte():
    recorded = recording("generate_logprobs_plain")
    writer, record = AnswerWriter(recorded.request.body["model"], chat=False), recorded.body
    ours = writer.done(Said(record["response"], logprobs=record["logprobs"]), "length", costs_of(record))
    assert without_time(ours.decode()) == without_time(recorded.text or "")


def test_load_unload_and_rendered_answers_are_written_byte_for_byte():
    for case in (
        "generate_load",
        "chat_load",
        "generate_unload",
        "chat_unload_not_loaded",
        "generate_render",
        "chat_render",
    ):
        recorded = recording(case)
        writer = AnswerWriter(recorded.request.body["model"], chat=case.startswith("chat"))
        if "_debug_info" in recorded.body:
            ours = writer.rendered(recorded.body["_debug_info"]["rendered_template"])
        else:
            ours = writer.bare(recorded.body["done_reason"])
        assert without_time(ours.decode()) == without_time(recorded.text or "")


def test_what_is_zero_is_left_out():
    assert "eval_count" not in json.loads(AnswerWriter("m", chat=False).done(Said(), "stop", Costs(total=1)))


def test_a_token_without_text_has_no_bytes():
    assert logprobs_of([{"token": "", "logprob": -1.0}], top=False) == [{"token": "", "logprob": -1.0}]
    assert dumps(logprobs_of([{"token": "é", "logprob": 0}], top=True)) == (
        '[{"token":"é","logprob":0,"bytes":[195,169]}]'.encode()
    )


def test_times_have_up_to_nine_digits_and_no_trailing_zeros():
    assert timestamp(1795400691_927466917) == "2026-11-23T02:24:51.927466917Z"
    assert timestamp(1795400691_927000000) == "2026-11-23T02:24:51.927Z"
    assert timestamp(1795400691_000000000) == "2026-11-23T02:24:51Z"


def test_local_times_carry_their_offset_and_never_overflow():
    assert local_timestamp(1795400691_500000000, UTC) == "2026-11-23T02:24:51.5Z"
    assert local_timestamp(1795400691_000000000, timezone(timedelta(hours=5, minutes=30))).endswith("07:54:51+05:30")
    assert local_timestamp(1795400691_000000000 + FOREVER, UTC).startswith("2319-")
    assert local_timestamp(100 * FOREVER, UTC).startswith("9999-")
