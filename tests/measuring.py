"""A `Bench` straight over HTTP to one host, for tests and benchmarks of what is measured through one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.comparison.bench import Reply
from app.core.errors import HostRefused
from app.core.generation import Json, Usage
from app.core.hosts import LoadedModel, ModelDetail
from tests.http_target import HttpTarget


class HttpBench:
    """One request at a time, each whole; no queue, no cache."""

    def __init__(self, url: str) -> None:
        self._target = HttpTarget(url)

    @property
    def host(self) -> str:
        return self._target.url

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        reply = self._target.send("POST", path, {**body, "stream": False})
        if reply.status != 200:
            raise HostRefused(self.host, reply.status, reply.json.get("error", ""))
        return reply.json

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply:
        began = time.perf_counter()
        told = await asyncio.to_thread(self._post, "/api/generate", {**body, "model": model})
        seconds = time.perf_counter() - began
        usage = Usage(
            told.get("total_duration", 0), told.get("load_duration", 0), told.get("prompt_eval_count", 0),
            told.get("prompt_eval_duration", 0), told.get("eval_count", 0), told.get("eval_duration", 0),
        )  # fmt: skip
        return Reply(
            told.get("response", ""), usage, seconds, seconds, told.get("logprobs", ()), told.get("done_reason", ""),
            told.get("done", False),
        )  # fmt: skip

    async def render(self, model: str, question: str, system: str = "") -> str:
        messages = [{"role": "user", "content": question}]
        if system:
            messages.insert(0, {"role": "system", "content": system})
        body = {"model": model, "messages": messages, "_debug_render_only": True}
        told = await asyncio.to_thread(self._post, "/api/chat", body)
        return str(told["_debug_info"]["rendered_template"])

    async def load(self, model: str, options: Mapping[str, Json]) -> float:
        told = await asyncio.to_thread(self._post, "/api/generate", {"model": model, "options": dict(options)})
        return float(told.get("load_duration", 0)) / 1e9

    async def unload(self, model: str) -> None:
        await asyncio.to_thread(self._post, "/api/generate", {"model": model, "keep_alive": 0})
        while any(one.name == model for one in await self.loaded()):
            await asyncio.sleep(0.05)

    async def loaded(self) -> Sequence[LoadedModel]:
        told = (await asyncio.to_thread(self._target.send, "GET", "/api/ps")).json
        return [
            LoadedModel(m["name"], m["digest"], m["size"], m["size_vram"], datetime.now(UTC), m["context_length"])
            for m in told["models"]
        ]

    async def show(self, model: str) -> ModelDetail:
        told = await asyncio.to_thread(self._post, "/api/show", {"model": model})
        return ModelDetail(told.get("model_info", {}), template=told.get("template", ""))

    async def version(self) -> tuple[str, str]:
        reply = await asyncio.to_thread(self._target.send, "GET", "/api/version")
        return reply.json["version"], reply.headers.get("server", "")


def done_reply(entries: Sequence[Mapping[str, Any]], text: str, **changes: Any) -> Reply:
    """A whole reply of a forced text, as a unit test tells it."""
    fields: dict[str, Any] = {"logprobs": entries, "usage": Usage(output_tokens=len(entries)), **changes}
    return Reply(json.dumps(text), ttft=0.1, seconds=0.2, **fields)
