"""Every case under tests/data/dialects as Ollama's own converters answer it (generator/main.go made the answers).

Compared word for word: what the native route is given, the status, and the body or the events that a client sees.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BadRequest
from app.wire import openai_answers
from app.wire.v1 import DIALECTS, error_of

DATA = Path(__file__).parents[2] / "data" / "dialects"

# Case: what is told otherwise than by Ollama, and why.
OTHERWISE = {
    "chat: error 403 'no'": ('"api_error"', '"permission_error"', "OpenAI's own word for a key that may not"),
    "responses: stream, nothing": ('"output":null', '"output":[]', "with null OpenAI's own client fails"),
    "responses: stream, summary": ('"output":null', '"output":[]', "with null OpenAI's own client fails"),
    "anthropic: whole, empty": ('"content":null', '"content":[]', "with null Anthropic's own client fails"),
    "anthropic: whole, other reason": ('"content":null', '"content":[]', "with null Anthropic's own client fails"),
    "anthropic: whole, no reason": ('"content":null', '"content":[]', "with null Anthropic's own client fails"),
}
# What differs from run to run, and what it becomes.
CHANCE = (
    (r'"(id|item_id)":"(chatcmpl-|cmpl-|resp_|msg_|rs_|fc_)(resp_)?[0-9a-f]+(_\d+)?"', r'"\1":"\2\3?\4"'),
    (r'"(id|tool_use_id)":"srvtoolu_[0-9a-f]{24}"', r'"\1":"srvtoolu_?"'),
    (r'"request_id":"req_[0-9a-f]{24}"', '"request_id":"req_?"'),
)
CLOCK = (r'"(created|created_at|completed_at)":\d{9,}', r'"\1":0')
CLOCKED = ("completion: ", "responses: ")  # these tell the moment of the answer, not that of the record


@cache
def cases() -> list[dict[str, Any]]:
    given, expected = (json.loads((DATA / name).read_text()) for name in ("cases.json", "expected.json"))
    assert [case["name"] for case in given] == [answer["name"] for answer in expected]
    return [case | {"expected": answer} for case, answer in zip(given, expected, strict=True)]


def body_of(case: dict[str, Any]) -> bytes:
    """The body of a case, in the order in which it was written."""
    text = case.get("text", "")
    return (json.dumps(case["json"], ensure_ascii=False, separators=(",", ":")) if "json" in case else text).encode()


def answered(case: dict[str, Any]) -> tuple[dict[str, Any] | None, int, str]:
    """The native request, the status, and what the client sees."""
    route, reply = case["route"], case.get("reply", {})
    error, status = error_of(route), reply.get("status", 200)
    refused = error(status, reply["json"]["error"]).decode() + "\n" if status != 200 else ""
    if route.startswith("/v1/models"):
        name = route.rpartition("/")[2]
        told = openai_answers.models if name == "models" else lambda shown: openai_answers.one_model(shown, name)
        return None, status, refused or told(reply["json"]).body.decode()
    try:
        exchange = DIALECTS[route].read(body_of(case), "application/json")
    except BadRequest as wrong:
        return None, 400, error(400, wrong.message).decode()
    if not reply:
        return exchange.native, 204, ""
    if refused:
        return exchange.native, status, refused
    if exchange.streamed:
        events = b"".join(exchange.events(record) for record in reply.get("lines") or [reply["json"]])
        return exchange.native, status, events.decode()
    return exchange.native, status, exchange.whole(reply["json"]).body.decode()


def without_chance(case: str, body: str) -> str:
    for pattern, what in (*CHANCE, *([CLOCK] if case.startswith(CLOCKED) else [])):
        body = re.sub(pattern, what, body)
    return body


def pruned(value: Any) -> Any:
    """Without what Go leaves out or writes as null: an absent field is its zero value to the native routes.

    The words in which the web search is offered to a model are our own.
    """
    if isinstance(value, list):
        return [pruned(member) for member in value]
    if not isinstance(value, dict):
        return value
    if value.get("name") == "web_search" and "description" in value:
        value = {"name": "web_search"}
    members = {key: pruned(member) for key, member in value.items()}
    kept = {key: member for key, member in members.items() if member not in (None, "", False, 0, [], {})}
    return kept | ({"think": False} if value.get("think") is False else {})


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_request_and_its_answer_are_converted_as_ollama_does(case: dict[str, Any]):
    expected = case["expected"]
    native, status, body = answered(case)
    wanted = without_chance(case["name"], expected["body"])
    if otherwise := OTHERWISE.get(case["name"]):
        assert otherwise[0] in wanted
        wanted = wanted.replace(otherwise[0], otherwise[1])
    assert (status, without_chance(case["name"], body)) == (expected["status"], wanted)
    if not case["route"].startswith("/v1/models"):
        assert pruned(native) == pruned(expected["native"])


def test_every_exception_is_of_a_case_that_there_is():
    assert set(OTHERWISE) <= {case["name"] for case in cases()}
    assert len(cases()) > 500
