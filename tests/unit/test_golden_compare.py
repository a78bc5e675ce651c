"""The comparison with the recordings can fail: each recording equals itself, and nothing that was changed in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.golden_compare import check, replaced
from tests.http_target import Reply
from tests.recordings import Recording, names, recording

WITH_TEXT = [case for case in names() if recording(case).lines or recording(case).text is not None]
Change = Callable[[Reply], Reply]


def as_reply(recorded: Recording) -> Reply:
    text = "\n".join(recorded.lines) + "\n" if recorded.lines else recorded.text or ""
    text = text.replace("<path>/library", "<models>/manifests/registry.ollama.ai/library")
    text = text.replace("<path>/sha256", "<models>/blobs/sha256")
    body = b"" if recorded.request.method == "HEAD" else text.encode()
    return Reply(recorded.status, dict(recorded.headers), body)


def fails(recorded: Recording, reply: Reply) -> bool:
    try:
        check(recorded, reply)
    except (AssertionError, ValueError, KeyError):
        return True
    return False


@pytest.mark.parametrize("case", WITH_TEXT)
def test_a_recording_equals_itself(case: str):
    check(recording(case), as_reply(recording(case)))


@pytest.mark.parametrize("case", WITH_TEXT)
def test_another_status_header_or_text_is_noticed(case: str):
    recorded, reply = recording(case), as_reply(recording(case))
    assert fails(recorded, replace(reply, status=reply.status + 1))
    if "content-type" in recorded.headers:
        assert fails(recorded, replace(reply, headers={**reply.headers, "content-type": "text/html"}))
    assert fails(recorded, replace(reply, body=reply.body + b'{"more":1}\n'))
    if reply.body:
        assert fails(recorded, replace(reply, body=reply.body[:-2]))


@pytest.mark.parametrize(("case", "was", "became"), [
    ("generate_plain", b"The sky", b"The Sky"), ("generate_plain", b'"eval_count":', b'"eval_count":1'),
    ("generate_plain", b'"done":true,"done_reason":"length"', b'"done_reason":"length","done":true'),
    ("generate_plain", b'"total_duration":', b'"total_duration":-'), ("generate_plain", b"Z\",", b"\","),
    ("tags", b"a19b7b3c", b"a19b7b3d"), ("tags", b'"size":270886356', b'"size":270886357'),
    ("ps", b'"size":2957', b'"size":4957'), ("ps_forever", b'"2319', b'"2026'), ("ps", b'"2026', b'"2319'),
    ("chat_logprobs", b'"logprob":-', b'"logprob":-9'), ("pull_wrong", b"got sha256:9f8f", b"got sha256:9f8e"),
    ("pull_ok", b'"total":102', b'"total":103'), ("chat_derived", b'"role":"assistant"', b'"role":"user"'),
    ("v1_chat", b'"chatcmpl-', b'"other-'),
])  # fmt: skip
def test_a_change_in_what_matters_is_noticed(case: str, was: bytes, became: bytes):
    recorded, reply = recording(case), as_reply(recording(case))
    assert was in reply.body
    assert fails(recorded, replace(reply, body=reply.body.replace(was, became, 1)))


def test_only_what_is_a_clock_or_a_lot_is_replaced():
    told = '{"created_at":"2026-11-23T02:24:40.286486538Z","response":"in 2026","eval_duration":12,"eval_count":12}'
    assert replaced(told) == '{"created_at":"<time>","response":"in 2026","eval_duration":<ns>,"eval_count":12}'
