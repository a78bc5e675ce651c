"""Hosts that say which model they were asked for, so that a test sees who answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from proving.stand import Loupe, loupe
from tests.stub_ollama import Asked, Reply, StubOllama, error, served

NDJSON = "application/x-ndjson"
WHEN = "2026-11-23T02:24:52.823302894Z"
COUNTS = {"total_duration": 9, "load_duration": 1, "prompt_eval_count": 3, "prompt_eval_duration": 2,
          "eval_count": 2, "eval_duration": 4}  # fmt: skip


class TellingHost(StubOllama):
    """Answers every question with its own name, the model's and what it was asked with. `context` is how many words a
    prompt may have where it must not be cut; `broken` models cannot be loaded."""

    def __init__(self, name: str, models: Iterable[str], *, context: int = 1000, version: str = "0.33.0") -> None:
        super().__init__(models={model: f"{number:x}" * 64 for number, model in enumerate(models, 1)}, version=version)
        self.name, self.context = name, context
        self.broken: set[str] = set()

    def _reply(self, asked: Asked) -> Reply:
        body = asked.json if asked.body else {}
        model = str(body.get("model"))
        model = model if ":" in model else f"{model}:latest"
        if asked.path not in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"):
            return super()._reply(asked)
        if model not in self.models:
            return error(404, f"model '{model}' not found")
        if model in self.broken:
            return error(500, "llama-server process has terminated: it does not load")
        if self._replies.get(asked.path):
            return super()._reply(asked)
        if asked.path == "/api/show":
            shown = super()._usual(asked)
            return Reply(shown.parts, 200, shown.content_type)
        if asked.path.startswith("/api/embed"):
            words = len(str(body.get("input", "")).split())
            if words > self.context and body.get("truncate") is False:
                return error(400, "the input length exceeds the context length")
            vector = {"model": model, "embeddings": [[1.0, 0.0]], "prompt_eval_count": min(words, self.context)}
            return Reply([json.dumps(vector).encode()], content_type="application/json; charset=utf-8")
        return self._generation(asked, body)

    def _generation(self, asked: Asked, body: dict[str, Any]) -> Reply:
        chat = asked.path == "/api/chat"
        said = " ".join(row["content"] for row in body.get("messages") or []) if chat else body.get("prompt") or ""
        model = body["model"] if ":" in body["model"] else f"{body['model']}:latest"
        head = {"model": model, "created_at": WHEN}
        if not said:
            empty: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
            done = {**head, **empty, "done": True, "done_reason": "load"}
            return Reply([json.dumps(done).encode()], content_type="application/json; charset=utf-8")
        words = len(said.split())
        if words > self.context and body.get("truncate") is False:
            inner = {
                "code": 400,
                "type": "exceed_context_size_error",
                "n_prompt_tokens": words,
                "n_ctx": self.context,
                "message": f"request ({words} tokens) exceeds the available context size ({self.context} tokens)",
            }
            return error(400, json.dumps({"error": inner}))
        text = f"{self.name} {model}"
        piece = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
        last: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        records = [{**head, **piece, "done": False}, {**head, **last, "done": True, "done_reason": "stop", **COUNTS}]
        return Reply([json.dumps(record).encode() + b"\n" for record in records], content_type=NDJSON)

    @property
    def last(self) -> dict[str, Any]:
        """The last generation or embedding that it was asked for."""
        asked = [
            one for one in self.asked if one.path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")
        ]
        return asked[-1].json


@asynccontextmanager
async def behind_loupe(
    folder: Path, *hosts: TellingHost, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Loupe]]:
    async with AsyncExitStack() as stack:
        words = [f"{host.name}={await stack.enter_async_context(served(host))}" for host in hosts]
        product = await stack.enter_async_context(loupe(folder, words, **settings))
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=product.url, timeout=60)), product


async def make(client: httpx.AsyncClient, name: str, *targets: str, **more: Any) -> dict[str, Any]:
    """An alias, which has to be taken."""
    told = await client.put(f"/loupe/aliases/{name}", json={"targets": list(targets), **more})
    assert told.status_code in (200, 201), told.text
    return told.json()


def chat(model: str, text: str = "Who are you?", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **more}
