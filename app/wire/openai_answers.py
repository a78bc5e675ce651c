"""OpenAI's answers out of native records: chat completions, completions, embeddings, models, errors.

Key order, presence and framing are those of the recordings v1_*. Where Ollama loses an error in the middle of a
stream (an empty chunk, then nothing), OpenAI's own form is sent instead: one event that holds `error`, and no [DONE].
"""

from __future__ import annotations

import base64
import random
import struct
import time
from collections.abc import Mapping, Sequence

from app.core.generation import Json
from app.wire.answers import moment
from app.wire.dialects import (
    Content,
    Endpoint,
    Said,
    event,
    function_of,
    items_of,
    line,
    object_of,
    read_record,
    text_of,
    whole_of,
)
from app.wire.framing import SSE_DONE
from app.wire.go_json import dumps
from app.wire.model_names import parse_name
from app.wire.openai_requests import (
    native_chat,
    native_completion,
    native_embeddings,
    read_chat,
    read_completion,
    read_embeddings,
    wants_usage,
)

FINGERPRINT = "fp_ollama"
_NO_WORDS = "something went wrong, please see the ollama server logs for details"
_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error",
}  # fmt: skip
_ERROR_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def openai_error(status: int, message: str) -> bytes:
    """The body of an error, without a newline."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return dumps(
        {"error": {"message": message or _NO_WORDS, "type": kind, "param": None, "code": _ERROR_CODES.get(status)}}
    )


def tool_calls(said: Said) -> list[Json]:
    """The calls of a record; arguments are JSON in a text."""
    calls: list[Json] = []
    for call in said.calls:
        name, arguments = function_of(call)
        index = whole_of(object_of(call.get("function")).get("index"))
        function: Json = {"name": name, "arguments": dumps(arguments).decode()}
        calls.append({"id": text_of(call.get("id")), "index": index, "type": "function", "function": function})
    return calls


def _usage(said: Said) -> dict[str, Json]:
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.prompt_tokens + said.output_tokens,
    }


class ChatCompletions:
    """One request to /v1/chat/completions."""

    endpoint: Endpoint = "chat"
    relaxes_thinking = False

    def __init__(self, body: bytes) -> None:
        asked = read_chat(body)
        self.native = native_chat(asked)
        self.streamed = asked.get("stream") is True
        self._usage = wants_usage(asked)
        self._id = f"chatcmpl-{random.randrange(999)}"  # Ollama's form, which collides; clients know it
        self._created = 0
        self._begun = self._called = False

    def whole(self, record: Mapping[str, Json]) -> Content:
        said = read_record(record)
        calls = tool_calls(said)
        message: dict[str, Json] = {"role": said.role, "content": said.text}
        message |= {"reasoning": said.thinking} if said.thinking else {}
        message |= {"tool_calls": calls} if calls else {}
        reason = "tool_calls" if said.reason == "stop" and calls else said.reason
        choice: dict[str, Json] = {"index": 0, "message": message, "finish_reason": reason or None}
        answer = self._head("chat.completion", said.created, said.model, [choice | _logprobs(said)])
        answer["usage"] = _usage(said)
        return Content(line(answer | ({"_debug_info": said.debug} if said.debug else {})))

    def events(self, record: Mapping[str, Json]) -> bytes:
        said = read_record(record)
        self._created = self._created or said.created  # one moment for the whole stream
        says_something = said.text or said.thinking or said.calls or said.logprobs
        sent = [] if said.done and self._begun and not says_something else self._chunks(said)
        if said.done:
            reason = said.reason or "stop"
            reason = "tool_calls" if reason == "stop" and self._called else reason
            sent.append(self._chunk(said, [{"index": 0, "delta": {}, "finish_reason": reason}]))
            if self._usage:
                sent.append(self._chunk(said, [], {"usage": _usage(said)}))
            sent.append(SSE_DONE)
        return b"".join(sent)

    def broken(self, message: str) -> bytes:
        return event_of_error(message)

    def _chunks(self, said: Said) -> list[bytes]:
        """Reasoning and what follows it stand in chunks of their own."""
        calls = tool_calls(said)
        self._called = self._called or bool(calls)
        role: dict[str, Json] = {} if self._begun else {"role": "assistant"}
        self._begun = True
        content: dict[str, Json] = {"content": said.text}
        reasoning: dict[str, Json] = {"reasoning": said.thinking} if said.thinking else {}
        called: dict[str, Json] = {"tool_calls": calls} if calls else {}
        if said.thinking and (said.text or calls):
            return [self._delta(said, role | reasoning, logprobs=True), self._delta(said, content | called)]
        return [self._delta(said, role | content | reasoning | called, logprobs=True)]

    def _delta(self, said: Said, delta: dict[str, Json], *, logprobs: bool = False) -> bytes:
        choice: dict[str, Json] = {"index": 0, "delta": delta, "finish_reason": None}
        return self._chunk(said, [choice | (_logprobs(said) if logprobs else {})])

    def _chunk(self, said: Said, choices: list[Json], more: Mapping[str, Json] | None = None) -> bytes:
        return event(self._head("chat.completion.chunk", self._created, said.model, choices) | dict(more or {}))

    def _head(self, kind: str, created: int, model: str, choices: list[Json]) -> dict[str, Json]:
        return {
            "id": self._id,
            "object": kind,
            "created": created,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


def _logprobs(said: Said) -> dict[str, Json]:
    return {"logprobs": {"content": said.logprobs}} if said.logprobs else {}


def event_of_error(message: str) -> bytes:
    """An error in the middle of a stream; OpenAI's clients raise it."""
    return b"data: " + openai_error(500, message) + b"\n\n"


class Completions:
    """One request to /v1/completions."""

    endpoint: Endpoint = "generate"
    relaxes_thinking = False

    def __init__(self, body: bytes) -> None:
        asked = read_completion(body)
        self.native = native_completion(asked)
        self.streamed = asked.get("stream") is True
        self._usage = wants_usage(asked)
        self._id = f"cmpl-{random.randrange(999)}"

    def whole(self, record: Mapping[str, Json]) -> Content:
        said = read_record(record)
        answer: dict[str, Json] = {"id": self._id, "object": "text_completion", "created": said.created}
        answer |= {"model": said.model, "system_fingerprint": FINGERPRINT, "choices": [_choice(said)]}
        return Content(line(answer | {"usage": _usage(said)}))

    def events(self, record: Mapping[str, Json]) -> bytes:
        said = read_record(record)
        zero = _usage(read_record({})) if self._usage else None
        sent = [self._chunk(said, [_choice(said)], zero)]
        if said.done:
            if self._usage:
                sent.append(self._chunk(said, [], _usage(said)))
            sent.append(SSE_DONE)
        return b"".join(sent)

    def broken(self, message: str) -> bytes:
        return event_of_error(message)

    def _chunk(self, said: Said, choices: list[Json], usage: dict[str, Json] | None) -> bytes:
        chunk: dict[str, Json] = {"id": self._id, "object": "text_completion", "created": int(time.time())}
        chunk |= {"choices": choices, "model": said.model, "system_fingerprint": FINGERPRINT}
        return event(chunk | ({"usage": usage} if usage else {}))


def _choice(said: Said) -> Json:
    return {"text": said.text, "index": 0, "finish_reason": said.reason or None}


class Embeddings:
    """One request to /v1/embeddings."""

    endpoint: Endpoint = "embed"
    relaxes_thinking = streamed = False

    def __init__(self, body: bytes) -> None:
        asked = read_embeddings(body)
        self.native = native_embeddings(asked)
        self._model = text_of(asked.get("model"))
        self._packed = text_of(asked.get("encoding_format")).lower() == "base64"

    def whole(self, record: Mapping[str, Json]) -> Content:
        vectors = record.get("embeddings")
        used = whole_of(record.get("prompt_eval_count")) if isinstance(vectors, list) else 0
        rows: list[Json] = [
            {"object": "embedding", "embedding": _packed(vector) if self._packed else vector, "index": index}
            for index, vector in enumerate(vectors if isinstance(vectors, list) else [])
            if isinstance(vector, list)
        ]
        there = isinstance(vectors, list)
        answer: dict[str, Json] = {"object": "list" if there else "", "data": rows or None}
        answer |= {
            "model": (text_of(record.get("model")) or self._model) if there else "",
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }
        return Content(line(answer))

    def events(self, record: Mapping[str, Json]) -> bytes:
        raise NotImplementedError("embeddings are never streamed")

    def broken(self, message: str) -> bytes:
        raise NotImplementedError("embeddings are never streamed")


def _packed(vector: Sequence[Json]) -> str:
    """Little-endian float32 in base64."""
    numbers = [float(number) for number in vector if isinstance(number, int | float)]
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def models(tags: Mapping[str, Json]) -> Content:
    """The list of models out of /api/tags; `data` is null where there is none."""
    rows: list[Json] = [
        _model(text_of(row.get("model")) or text_of(row.get("name")), row) for row in items_of(tags.get("models"))
    ]
    return Content(line({"object": "list", "data": rows or None}))


def one_model(shown: Mapping[str, Json], name: str) -> Content:
    """One model out of /api/show, under the name it was asked for."""
    return Content(line(_model(name, shown)))


def _model(name: str, told: Mapping[str, Json]) -> Json:
    """An alias of Loupe's says so: it is owned by Loupe, and `root` is the model that answers now."""
    created = int(moment(told.get("modified_at")).timestamp())
    row: dict[str, Json] = {"id": name, "object": "model", "created": created, "owned_by": parse_name(name).namespace}
    marks = object_of(told.get("loupe"))
    return row | {"owned_by": "loupe alias", "root": marks.get("model")} if marks.get("alias") else row
