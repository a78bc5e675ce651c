"""OpenAI's responses out of native chat records: the whole answer, and the request's own words echoed in it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

from app.core.generation import Json
from app.wire.dialects import (
    NO_WEB_SEARCH,
    BuiltinToolFailed,
    Content,
    Endpoint,
    Said,
    by_key,
    items_of,
    line,
    object_of,
    read_record,
    text_of,
    web_search_of,
)
from app.wire.openai_answers import tool_calls
from app.wire.openai_response_events import ResponseEvents
from app.wire.openai_response_request import declares_web_search, native_response_request, read_response_request

_ONE_IN = 999_999  # Ollama's range of ids
NO_QUERY = "web_search requires a non-empty string query"


class Responses:
    """One request to /v1/responses."""

    endpoint: Endpoint = "chat"
    relaxes_thinking = False

    def __init__(self, body: bytes) -> None:
        self._asked = asked = read_response_request(body)
        self.native = native_response_request(asked)
        self.streamed = asked.get("stream") is True
        self._searches = declares_web_search(asked)
        self._id, self._item = f"resp_{random.randrange(_ONE_IN)}", f"msg_{random.randrange(_ONE_IN)}"
        self._events = ResponseEvents(self._id, self._item, self._object, searches=self._searches)

    def whole(self, record: Mapping[str, Json]) -> Content:
        said = read_record(record)
        if self._searches and (query := web_search_of(said)) is not None:
            raise BuiltinToolFailed(403, NO_WEB_SEARCH) if query.strip() else BuiltinToolFailed(502, NO_QUERY)
        answer = self._object("completed", self._output(said), said)
        answer |= {"created_at": said.created, "completed_at": int(time.time())}
        return Content(line(answer))

    def events(self, record: Mapping[str, Json]) -> bytes:
        return self._events.of(read_record(record))

    def broken(self, message: str) -> bytes:
        return self._events.failed("server_error", message)

    def _output(self, said: Said) -> list[Json]:
        output: list[Json] = []
        if said.thinking:
            summary: Json = [{"type": "summary_text", "text": said.thinking}]
            reasoning: Json = {"id": f"rs_{self._id}", "type": "reasoning", "summary": summary}
            output.append(object_of(reasoning) | {"encrypted_content": said.thinking})
        for index, call in enumerate(items_of(tool_calls(said))):
            output.append(_call_item(f"fc_{self._id}_{index}", call))
        if not said.calls:
            part: Json = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            item: dict[str, Json] = {"id": self._item, "type": "message", "status": "completed", "role": "assistant"}
            output.append(item | {"content": [part]})
        return output

    def _object(self, status: str, output: list[Json], said: Said | None) -> dict[str, Json]:
        """The response itself; `said` is the last record, where there is one already."""
        asked = self._asked
        temperature, top_p = asked.get("temperature"), asked.get("top_p")
        return {
            "id": self._id,
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": text_of(asked.get("model")),
            "previous_response_id": None,
            "instructions": text_of(asked.get("instructions")) or None,
            "output": output,
            "error": None,
            "tools": [_echoed_tool(tool) for tool in items_of(asked.get("tools"))],
            "tool_choice": "auto",
            "truncation": "disabled" if asked.get("truncation") is None else asked["truncation"],
            "parallel_tool_calls": True,
            "text": {"format": _echoed_format(object_of(asked.get("text")).get("format"))},
            "top_p": 1 if top_p is None else top_p,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": 1 if temperature is None else temperature,
            "reasoning": _echoed_reasoning(object_of(asked.get("reasoning"))),
            "usage": _usage(said) if said else None,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": asked.get("background") is True,
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def _call_item(identity: str, call: Mapping[str, Json]) -> Json:
    function = object_of(call.get("function"))
    item: dict[str, Json] = {"id": identity, "type": "function_call", "status": "completed"}
    called = {"call_id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
    return item | {key: value for key, value in called.items() if value}


def _echoed_tool(tool: Mapping[str, Json]) -> Json:
    echoed: dict[str, Json] = {"type": text_of(tool.get("type")), "name": text_of(tool.get("name"))}
    echoed |= {"description": tool.get("description"), "strict": tool.get("strict")}
    echoed["parameters"] = by_key(tool.get("parameters"))
    members = [_echoed_tool(member) for member in items_of(tool.get("tools"))]
    return echoed | ({"tools": members} if members else {})


def _echoed_format(form: Json) -> Json:
    if not isinstance(form, dict):
        return {"type": "text"}
    echoed: dict[str, Json] = {"type": text_of(form.get("type"))}
    echoed |= {"name": form["name"]} if form.get("name") else {}
    echoed |= {"schema": form["schema"]} if "schema" in form else {}
    return echoed | ({"strict": form["strict"]} if form.get("strict") is not None else {})


def _echoed_reasoning(reasoning: Mapping[str, Json]) -> Json:
    return {name: reasoning[name] for name in ("effort", "summary") if reasoning.get(name)} or None


def _usage(said: Said) -> Json:
    return {
        "input_tokens": said.prompt_tokens,
        "output_tokens": said.output_tokens,
        "total_tokens": said.prompt_tokens + said.output_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
