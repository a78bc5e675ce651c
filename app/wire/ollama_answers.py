"""Ollama's answers as a server writes them: key order, presence and number formats of the recordings.

Absent means zero: Go leaves zero values out (`omitempty`), and so do these builders.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from app.core.generation import Json
from app.wire.go_json import dumps, quote

_SECOND = 10**9


def timestamp(ns: int | None = None) -> str:
    """`created_at`: UTC, RFC 3339, up to nine digits without trailing zeros; now, unless `ns` since the epoch says."""
    moment = time.time_ns() if ns is None else ns
    seconds, rest = divmod(moment, _SECOND)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{_to_the_second(seconds)}{fraction}Z"


@lru_cache(maxsize=2)  # every token of a second has the same one
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def local_timestamp(ns: int, zone: tzinfo | None = None) -> str:
    """`modified_at` and `expires_at`: the server's own offset; a moment past year 9999 is cut to it."""
    seconds, rest = divmod(min(ns, 253402300799 * _SECOND), _SECOND)
    moment = datetime.fromtimestamp(seconds).astimezone(zone)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    offset = moment.strftime("%z")
    shown = "Z" if offset in ("+0000", "") else f"{offset[:3]}:{offset[3:5]}"
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + shown


@dataclass(frozen=True, slots=True)
class Costs:
    """What an answer cost; durations in nanoseconds. The order is Ollama's."""

    total: int = 0
    load: int = 0
    prompt_tokens: int = 0
    prompt: int = 0
    output_tokens: int = 0
    output: int = 0

    def fields(self) -> dict[str, Json]:
        named = {
            "total_duration": self.total,
            "load_duration": self.load,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt,
            "eval_count": self.output_tokens,
            "eval_duration": self.output,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Said:
    """What one record says: text, thinking, whole tool calls (`{"id", "function": {"index", "name", "arguments"}}`)
    and the log-probabilities of its tokens."""

    text: str = ""
    thinking: str = ""
    calls: tuple[Json, ...] = ()
    logprobs: Sequence[Json] = ()

    @classmethod
    def joined(cls, parts: Sequence[Said]) -> Said:
        """The whole answer, from what was said bit by bit."""
        return cls(
            "".join(part.text for part in parts),
            "".join(part.thinking for part in parts),
            tuple(call for part in parts for call in part.calls),
            [logprob for part in parts for logprob in part.logprobs],
        )


class AnswerWriter:
    """Records of one generation of `model` (echoed as it was asked for)."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model, self._chat = model, chat
        self._head = f'{{"model":{quote(model)},"created_at":"'
        self._before = '","message":{"role":"assistant","content":' if chat else '","response":'
        self._after = "}" if chat else ""

    def piece(self, said: Said) -> bytes:
        """One record of a stream that is not the last."""
        more = f',"logprobs":{dumps(list(said.logprobs)).decode()}' if said.logprobs else ""
        thought = f',"thinking":{quote(said.thinking)}' if said.thinking else ""
        if said.calls and self._chat:
            thought += f',"tool_calls":{dumps(list(said.calls)).decode()}'
        text = f"{quote(said.text)}{thought}{self._after}"
        return f'{self._head}{timestamp()}{self._before}{text},"done":false{more}}}'.encode()

    def done(self, said: Said, reason: str, costs: Costs, context: Sequence[int] = ()) -> bytes:
        """The last record of a stream, or the whole answer."""
        record = self._start(said) | {"done": True, "done_reason": reason}
        logprobs: dict[str, Json] = {"logprobs": list(said.logprobs)} if said.logprobs else {}
        if self._chat:
            return dumps(record | logprobs | costs.fields())
        record |= {"context": list(context)} if context else {}
        return dumps(record | costs.fields() | logprobs)

    def bare(self, reason: str) -> bytes:
        """The answer to a load or unload request."""
        return dumps(self._start(Said()) | {"done": True, "done_reason": reason})

    def rendered(self, prompt: str, images: int = 0) -> bytes:
        """The answer to `_debug_render_only`."""
        info: dict[str, Json] = {"rendered_template": prompt} | ({"image_count": images} if images else {})
        record: dict[str, Json] = {"model": self._model, "created_at": timestamp()}
        record |= {"message": {"role": "", "content": ""}} if self._chat else {"response": ""}
        return dumps(record | {"done": False, "_debug_info": info})

    def _start(self, said: Said) -> dict[str, Json]:
        record: dict[str, Json] = {"model": self._model, "created_at": timestamp()}
        thinking: dict[str, Json] = {"thinking": said.thinking} if said.thinking else {}
        if not self._chat:
            return record | {"response": said.text} | thinking
        calls: dict[str, Json] = {"tool_calls": list(said.calls)} if said.calls else {}
        return record | {"message": {"role": "assistant", "content": said.text} | thinking | calls}


def logprobs_of(probabilities: Sequence[Mapping[str, Any]] | None, *, top: bool) -> list[Json]:
    """llama.cpp's token probabilities as Ollama's `logprobs`; `bytes` are those of the token's text."""
    shown: list[Json] = []
    for entry in probabilities or ():
        record = _token(entry)
        if top and (alternatives := entry.get("top_logprobs") or entry.get("top_probs")):
            record["top_logprobs"] = [_token(alternative) for alternative in alternatives]
        shown.append(record)
    return shown


def _token(entry: Mapping[str, Any]) -> dict[str, Json]:
    token = str(entry.get("token", ""))
    record: dict[str, Json] = {"token": token, "logprob": float(entry.get("logprob") or entry.get("prob") or 0.0)}
    if token:
        record["bytes"] = list(token.encode("utf-8", "replace"))
    return record


def error_body(message: str) -> bytes:
    return dumps({"error": message})
