"""A model host that costs almost nothing: Ollama's protocol (and OpenAI's chat, streamed), with the load written in the
model's name.

`bench:r200-n500` answers 500 tokens ("t0 ", "t1 ", …) at 200 a second, `bench:r0-n128` all of them at once. Every
answer ends with the counters that Ollama sends. Run it as `python -m uvicorn benchmarks.paced_host:app --port N`.

Bare ASGI on purpose, with the bytes of each line made beforehand: what the measured side adds is to be seen, not this.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

USUAL = "bench:r0-n1 bench:r0-n128 bench:r200-n128 bench:r200-n500"
MODELS = (os.environ.get("PACED_HOST_MODELS") or USUAL).split()  # what it lists
SLOTS = int(os.environ.get("PACED_HOST_SLOTS") or 0)  # streams at a time, first come, first served; 0: all at once
OPENAI = "/v1/chat/completions"
NAME = re.compile(r"bench:r(?P<rate>\d+)-n(?P<tokens>\d+)")
STAMP = "2026-01-01T00:00:00Z"
DETAILS = {
    "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1M",
    "quantization_level": "F16",
}  # fmt: skip


def model_name(tokens: int, rate: int = 0) -> str:
    """The model that answers `tokens` tokens at `rate` a second; 0 is as fast as they can be sent."""
    return f"bench:r{rate}-n{tokens}"


def _row(name: str) -> dict[str, Any]:
    digest = name.encode().hex().ljust(64, "0")[:64]
    return {"name": name, "model": name, "modified_at": STAMP, "size": 1 << 20, "digest": digest, "details": DETAILS}


def whole_answer(path: str, models: Sequence[str]) -> dict[str, Any] | None:
    """The body of a short answer of a host that has these models; None for other paths."""
    rows = [_row(name) for name in models]
    match path:
        case "/api/version":
            return {"version": "0.33.0"}
        case "/api/tags":
            return {"models": rows}
        case "/api/ps":
            return {
                "models": [
                    {**row, "size_vram": 0, "context_length": 4096, "expires_at": "2099-01-01T00:00:00Z"}
                    for row in rows
                ]
            }
        case "/api/show":
            return {"template": "", "details": DETAILS, "model_info": {}, "capabilities": ["completion"]}
    return None


@functools.cache
def _lines(model: str, tokens: int, endpoint: str) -> tuple[bytes, ...]:
    """The lines of an answer, the last one with the counters (protocol of /api/chat and /api/generate)."""
    if endpoint == OPENAI:
        return _events(model, tokens)

    def line(text: str, **more: Any) -> bytes:
        said = {"message": {"role": "assistant", "content": text}} if endpoint == "/api/chat" else {"response": text}
        told = {"model": model, "created_at": STAMP, **said, "done": False, **more}
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"

    counters = {
        "total_duration": 10**6, "load_duration": 10**5, "prompt_eval_count": 8, "prompt_eval_duration": 10**5,
        "eval_count": tokens, "eval_duration": 10**6,
    }  # fmt: skip
    return (*(line(f"t{number} ") for number in range(tokens)), line("", done=True, done_reason="stop", **counters))


def _events(model: str, tokens: int) -> tuple[bytes, ...]:
    """The same answer in OpenAI's dialect."""

    def event(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        told = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return b"data: " + json.dumps(told | {"choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"

    pieces = (event({"role": "assistant", "content": f"t{number} "}) for number in range(tokens))
    return (*pieces, event({"content": ""}, "stop") + b"data: [DONE]\n\n")


@functools.cache
def _gathered(model: str, tokens: int, endpoint: str) -> bytes:
    """The same answer as one object, at once whatever its rate."""
    *pieces, last = map(json.loads, _lines(model, tokens, endpoint))
    if endpoint == "/api/chat":
        last["message"]["content"] = "".join(piece["message"]["content"] for piece in pieces)
    else:
        last["response"] = "".join(piece["response"] for piece in pieces)
    return json.dumps(last, separators=(",", ":")).encode()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if (whole := whole_answer(scope["path"], MODELS)) is not None:
        await _begin(send, b"application/json; charset=utf-8")
        await send({"type": "http.response.body", "body": json.dumps(whole).encode()})
        return
    asked = json.loads(body or b"{}")
    found = NAME.fullmatch(asked.get("model", ""))
    if found is None or scope["path"] not in ("/api/chat", "/api/generate", OPENAI):
        await _begin(send, b"application/json; charset=utf-8", 404)
        await send({"type": "http.response.body", "body": b'{"error":"not found"}'})
        return
    openai = scope["path"] == OPENAI
    if asked.get("stream") is False and not openai:
        await _begin(send, b"application/json; charset=utf-8")
        await send({"type": "http.response.body", "body": _gathered(found[0], int(found["tokens"]), scope["path"])})
        return
    async with _turn():
        await _begin(send, b"text/event-stream" if openai else b"application/x-ndjson")
        await _stream(send, _lines(found[0], int(found["tokens"]), scope["path"]), int(found["rate"]))


@functools.cache
def _turn() -> asyncio.Semaphore:
    """One for the process: asyncio's is fair."""
    return asyncio.Semaphore(SLOTS or sys.maxsize)


async def _begin(send: Send, kind: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def _stream(send: Send, lines: tuple[bytes, ...], rate: int) -> None:
    """Each line on its beat, counted from the start, so that a late one does not delay the rest."""
    began = time.monotonic()
    for number, line in enumerate(lines):
        if rate and (wait := began + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
