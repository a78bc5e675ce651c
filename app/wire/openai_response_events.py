"""The typed events of a streamed response. Objects in them have their keys in order, as Go writes its maps.

An answer that fails after it has begun ends in `response.failed`. Ollama loses such an error; it sends this event
only where its own web search fails.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from app.core.generation import Json
from app.wire.dialects import (
    NO_WEB_SEARCH,
    WEB_SEARCH,
    Said,
    event,
    function_of,
    items_of,
    object_of,
    web_search_of,
)
from app.wire.openai_answers import tool_calls

_ONE_IN = 999_999

ResponseObject = Callable[[str, list[Json], Said | None], dict[str, Json]]


class ResponseEvents:
    """The state of one stream. `response` makes the response object: status, output, last record."""

    def __init__(self, identity: str, item: str, response: ResponseObject, *, searches: bool) -> None:
        self._id, self._item, self._response, self._searches = identity, item, response, searches
        self._begun = self._called = False
        self._number = self._index = 0
        self._text: str | None = None  # of the message item that is open
        self._thinking: str | None = None  # of the reasoning item that is open
        self._reasoning_item = ""
        self._finished: list[Json] = []
        self._search: str | None = None

    def of(self, said: Said) -> bytes:
        """The events of one native record."""
        sent = self._beginning()
        if said.thinking:
            sent += self._think(said.thinking)
        if self._searches:
            sent += self._with_search(said)
        elif said.calls:
            sent += self._end_thinking() + self._call(tool_calls(said))
            self._called = True
        elif said.text and not self._called:
            sent += self._say(said.text)
        if said.done:
            sent += self._end(said) if self._search is None else self._search_failed()
        return b"".join(sent)

    def failed(self, code: str, message: str) -> bytes:
        """What ends a stream that cannot go on."""
        sent = self._beginning()
        response = self._response("failed", self._output(), None) | {"error": {"code": code, "message": message}}
        return b"".join([*sent, self._event("response.failed", {"response": _in_order(response)})])

    def _beginning(self) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        response = _in_order(self._response("in_progress", [], None))
        return [self._event(f"response.{name}", {"response": response}) for name in ("created", "in_progress")]

    def _event(self, name: str, data: dict[str, Json]) -> bytes:
        data = data | {"type": name, "sequence_number": self._number}
        self._number += 1
        return event(dict(sorted(data.items())), name)

    def _think(self, thinking: str) -> list[bytes]:
        sent = []
        if self._thinking is None:
            self._thinking, self._reasoning_item = "", f"rs_{random.randrange(_ONE_IN)}"
            item: Json = {"id": self._reasoning_item, "summary": [], "type": "reasoning"}
            sent.append(self._item_event("added", item))
        self._thinking += thinking
        place: dict[str, Json] = {"item_id": self._reasoning_item, "output_index": self._index, "summary_index": 0}
        return [*sent, self._event("response.reasoning_summary_text.delta", place | {"delta": thinking})]

    def _end_thinking(self) -> list[bytes]:
        if self._thinking is None:
            return []
        thinking, self._thinking = self._thinking, None
        summary: Json = [{"text": thinking, "type": "summary_text"}]
        item: dict[str, Json] = {"encrypted_content": thinking, "id": self._reasoning_item, "summary": summary}
        item["type"] = "reasoning"
        place: dict[str, Json] = {"item_id": self._reasoning_item, "output_index": self._index, "summary_index": 0}
        sent = [
            self._event("response.reasoning_summary_text.done", place | {"text": thinking}),
            self._item_event("done", item),
        ]
        self._close(item)
        return sent

    def _say(self, text: str) -> list[bytes]:
        sent = self._end_thinking()
        if self._text is None:
            self._text = ""
            sent += [
                self._item_event("added", self._message("in_progress", [])),
                self._event("response.content_part.added", self._place() | {"part": _part("")}),
            ]
        self._text += text
        delta: dict[str, Json] = {"delta": text, "logprobs": []}
        return [*sent, self._event("response.output_text.delta", self._place() | delta)]

    def _end_text(self) -> list[bytes]:
        """The events that close the message item; the item stays open."""
        text = self._text or ""
        said: dict[str, Json] = {"logprobs": [], "text": text}
        return [
            self._event("response.output_text.done", self._place() | said),
            self._event("response.content_part.done", self._place() | {"part": _part(text)}),
            self._item_event("done", self._message("completed", [_part(text)])),
        ]

    def _finish_message(self) -> list[bytes]:
        """Closes the message item, where one is open, so that another may follow."""
        if self._text is None:
            return []
        sent, item = self._end_text(), self._message("completed", [_part(self._text)])
        self._text = None
        self._close(item)
        self._item = f"msg_{self._id.removeprefix('resp_')}_{self._index}"
        return sent

    def _call(self, calls: list[Json]) -> list[bytes]:
        sent = []
        for number, call in enumerate(items_of(calls)):
            identity = f"fc_{random.randrange(_ONE_IN)}_{number}"
            function = object_of(call["function"])
            arguments = function["arguments"]
            item: dict[str, Json] = {"arguments": arguments, "call_id": call["id"], "id": identity}
            item |= {"name": function["name"], "status": "completed", "type": "function_call"}
            place: dict[str, Json] = {"item_id": identity, "output_index": self._index}
            sent += [
                self._item_event("added", item | {"arguments": "", "status": "in_progress"}),
                self._event("response.function_call_arguments.delta", place | {"delta": arguments}),
                self._event("response.function_call_arguments.done", place | {"arguments": arguments}),
                self._item_event("done", item),
            ]
            self._close(item)
        return sent

    def _with_search(self, said: Said) -> list[bytes]:
        """A record where Ollama's own web search was offered: its calls are kept back, others do not end the text."""
        sent = self._say(said.text) if said.text else []
        query = web_search_of(said)
        self._search = query if self._search is None else self._search
        others = [
            shown
            for call, shown in zip(said.calls, tool_calls(said), strict=True)
            if function_of(call)[0] != WEB_SEARCH
        ]
        return [*sent, *self._finish_message(), *self._call(others)] if others else sent

    def _search_failed(self) -> list[bytes]:
        """The search that cannot be made here: begun, and then the whole response has failed."""
        sent, query = self._finish_message(), self._search or ""
        if not query.strip():
            return [*sent, self.failed("api_error", "web_search requires a non-empty string query")]
        identity = f"ws_{self._id.removeprefix('resp_')}_1"
        sent += self._end_thinking()
        action: Json = {"query": query, "type": "search"}
        item: Json = {"action": action, "id": identity, "status": "in_progress", "type": "web_search_call"}
        place: dict[str, Json] = {"item_id": identity, "output_index": self._index}
        return [
            *sent,
            self._item_event("added", item),
            self._event("response.web_search_call.in_progress", place),
            self._event("response.web_search_call.searching", place),
            self.failed("api_error", NO_WEB_SEARCH),
        ]

    def _end(self, said: Said) -> list[bytes]:
        sent = self._end_thinking()
        if self._text is not None and not self._called:
            sent += self._end_text()
        response = self._response("completed", self._output(), said) | {"completed_at": int(time.time())}
        return [*sent, self._event("response.completed", {"response": _in_order(response)})]

    def _output(self) -> list[Json]:
        open_message = [] if self._text is None else [self._message("completed", [_part(self._text)])]
        return [*self._finished, *open_message]

    def _close(self, item: Json) -> None:
        self._finished.append(item)
        self._index += 1

    def _item_event(self, what: str, item: Json) -> bytes:
        return self._event(f"response.output_item.{what}", {"item": item, "output_index": self._index})

    def _place(self) -> dict[str, Json]:
        return {"content_index": 0, "item_id": self._item, "output_index": self._index}

    def _message(self, status: str, content: list[Json]) -> Json:
        return {"content": content, "id": self._item, "role": "assistant", "status": status, "type": "message"}


def _part(text: str) -> Json:
    return {"annotations": [], "logprobs": [], "text": text, "type": "output_text"}


def _in_order(response: dict[str, Json]) -> Json:
    """The response with the keys of every object in order, but for a schema, which is passed on as it came."""
    tools: list[Json] = [
        {key: tool[key] for key in sorted(tool) if key != "tools"} for tool in items_of(response["tools"])
    ]
    form = object_of(object_of(response["text"])["format"])
    reasoning = response["reasoning"]
    if isinstance(reasoning, dict):
        reasoning = {name: reasoning.get(name) for name in ("effort", "summary")}
    usage = response["usage"]
    ordered = response | {
        "tools": tools,
        "text": {"format": dict(sorted(form.items()))},
        "reasoning": reasoning,
        "usage": dict(sorted(usage.items())) if isinstance(usage, dict) else None,
    }
    return dict(sorted(ordered.items()))
