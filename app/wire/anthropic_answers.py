"""Anthropic's answers out of native chat records: messages, their events, errors.

Where Ollama loses an error in the middle of a stream, Anthropic's own `error` event is sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from app.core.generation import Json
from app.wire.anthropic_request import (
    declares_web_search,
    estimated_tokens,
    native_messages_request,
    read_messages_request,
)
from app.wire.dialects import Content, Endpoint, Said, event, function_of, line, read_record, text_of, web_search_of
from app.wire.go_json import dumps

_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip
_REASONS = {"": "", "stop": "end_turn", "length": "max_tokens"}


def anthropic_error(status: int, message: str) -> bytes:
    """The body of an error, without a newline."""
    return dumps(_error(status, message) | {"request_id": _identity("req")})


def _error(status: int, message: str) -> dict[str, Json]:
    return {"type": "error", "error": {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}}


def _identity(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


class Messages:
    """One request to /v1/messages."""

    endpoint: Endpoint = "chat"
    relaxes_thinking = True

    def __init__(self, body: bytes) -> None:
        asked = read_messages_request(body)
        self.native = native_messages_request(asked)
        self.streamed = asked.get("stream") is True
        self._searches = declares_web_search(asked)
        self._head = MessageHead(_identity("msg"), text_of(asked["model"]))
        estimate = estimated_tokens(asked) if self.streamed else 0
        self._events = MessageEvents(self._head, estimate, searches=self._searches)

    def whole(self, record: Mapping[str, Json]) -> Content:
        said = read_record(record)
        query = web_search_of(said) if self._searches else None
        content, reason = _content(said), _stop_reason(said.reason, called=bool(said.calls))
        if query is not None:
            content, reason = self._head.failed_search(query), "end_turn"
        head = self._head if query is not None else MessageHead(self._head.identity, said.model)
        return Content(line(head.message(content, said.prompt_tokens, said.output_tokens, reason)))

    def events(self, record: Mapping[str, Json]) -> bytes:
        return self._events.of(read_record(record))

    def broken(self, message: str) -> bytes:
        return event(_error(500, message), "error")


def _stop_reason(reason: str, *, called: bool) -> str:
    return "tool_use" if called else _REASONS.get(reason, "stop_sequence")


def _content(said: Said) -> list[Json]:
    content: list[Json] = []
    if said.thinking:
        content.append({"type": "thinking", "thinking": said.thinking})
    if said.text:
        content.append({"type": "text", "text": said.text})
    for call in said.calls:
        name, arguments = function_of(call)
        content.append({"type": "tool_use", "id": text_of(call.get("id")), "name": name, "input": arguments})
    return content


class MessageHead:
    """Who speaks: identity of the message and name of the model."""

    def __init__(self, identity: str, model: str) -> None:
        self.identity, self._model = identity, model

    def message(self, content: list[Json], prompt_tokens: int, output_tokens: int, reason: str = "") -> Json:
        message: dict[str, Json] = {"id": self.identity, "type": "message", "role": "assistant", "model": self._model}
        message |= {"content": content} | ({"stop_reason": reason} if reason else {})
        return message | {"usage": {"input_tokens": prompt_tokens, "output_tokens": output_tokens}}

    def failed_search(self, query: str) -> list[Json]:
        """The web search that Ollama would make in its cloud: it cannot be made here."""
        identity = f"srvtoolu_{self.identity.removeprefix('msg_')}"
        why: Json = {
            "type": "web_search_tool_result_error",
            "error_code": "unavailable" if query else "invalid_request",
        }
        return [
            {"type": "server_tool_use", "id": identity, "name": "web_search", "input": {"query": query}},
            {"type": "web_search_tool_result", "tool_use_id": identity, "content": why},
        ]


class MessageEvents:
    """The events of one streamed message: blocks are opened and closed one after the other."""

    def __init__(self, head: MessageHead, estimate: int, *, searches: bool) -> None:
        self._head, self._estimate, self._searches = head, estimate, searches
        self._begun = self._thought = False
        self._open = ""  # the kind of the block that is open
        self._index = 0
        self._called: set[str] = set()
        self._search: str | None = None

    def of(self, said: Said) -> bytes:
        """The events of one native record."""
        if self._searches and self._search is None:
            self._search = web_search_of(said)
        if self._search is not None:
            return b"".join(self._search_failed(said, self._search)) if said.done else b""
        sent = self._beginning(said.prompt_tokens)
        if said.thinking and not self._thought:
            sent += self._say("thinking", said.thinking)
        if said.text:
            sent += self._say("text", said.text)
        for call in said.calls:
            sent += self._call(text_of(call.get("id")), *function_of(call))
        if said.done:
            reason = _stop_reason(said.reason, called=bool(self._called))
            sent += self._close() + self._ending(reason, said)
        return b"".join(sent)

    def _beginning(self, prompt_tokens: int) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        message = self._head.message([], prompt_tokens or self._estimate, 0)
        return [_event("message_start", message=message)]

    def _say(self, kind: str, text: str) -> list[bytes]:
        sent = [] if self._open == kind else [*self._close(), self._start({"type": kind, kind: ""})]
        self._open = kind
        return [*sent, self._delta({"type": f"{kind}_delta", kind: text})]

    def _call(self, identity: str, name: str, arguments: dict[str, Json]) -> list[bytes]:
        if identity in self._called:
            return []
        self._called.add(identity)
        sent = self._close()
        sent.append(self._start({"type": "tool_use", "id": identity, "name": name, "input": {}}))
        sent.append(self._delta({"type": "input_json_delta", "partial_json": dumps(arguments).decode()}))
        self._open = "tool_use"
        return sent + self._close()

    def _search_failed(self, said: Said, query: str) -> list[bytes]:
        sent = self._beginning(said.prompt_tokens) + self._close()
        for block in self._head.failed_search(query):
            sent.append(self._start(block))
            self._open = "search"
            sent += self._close()
        return sent + self._ending("end_turn", said)

    def _close(self) -> list[bytes]:
        if not self._open:
            return []
        sent = [_event("content_block_stop", index=self._index)]
        self._thought = self._thought or self._open == "thinking"  # one block of thoughts, and no second
        self._open, self._index = "", self._index + 1
        return sent

    def _start(self, block: Json) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Json]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _ending(self, reason: str, said: Said) -> list[bytes]:
        usage: Json = {"input_tokens": said.prompt_tokens, "output_tokens": said.output_tokens}
        delta: Json = {"stop_reason": reason} if reason else {}
        return [_event("message_delta", delta=delta, usage=usage), _event("message_stop")]


def _event(name: str, **data: Json) -> bytes:
    return event({"type": name, **data}, name)
