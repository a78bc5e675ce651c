"""OpenAI's and Anthropic's own clients through Loupe: one queue, one cache and one truth with Ollama's clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from proving.stand import loupe
from tests.recordings import recording
from tests.stub_ollama import MODEL, Cut, Reply, StubOllama, error, served

pytestmark = pytest.mark.anyio
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
SAID = "".join(json.loads(record)["message"]["content"] for record in RECORDS)
COUNTED = json.loads(RECORDS[-1])["eval_count"]
ASKED: Any = [{"role": "user", "content": "What is the capital of France?"}]


@dataclass
class Stand:
    stub: StubOllama
    url: str
    openai: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic
    http: httpx.AsyncClient

    def sent(self) -> list[dict[str, Any]]:
        return [asked.json for asked in self.stub.asked_for("/api/chat")]

    async def stored(self, answers: int) -> None:
        while (await self.http.get("/loupe/cache")).json()["stored"] < answers:
            await asyncio.sleep(0)


@asynccontextmanager
async def stand(folder: Path, *replies: Reply, **settings: object) -> AsyncIterator[Stand]:
    stub = StubOllama()
    stub.on("/api/chat", *(replies or (Reply(RECORDS),)))
    async with (
        served(stub) as host,
        loupe(folder, [host], **settings) as product,
        openai.AsyncOpenAI(base_url=f"{product.url}/v1", api_key="none", max_retries=0) as client,
        anthropic.AsyncAnthropic(base_url=product.url, api_key="none", max_retries=0) as claude,
        httpx.AsyncClient(base_url=product.url, timeout=20) as http,
    ):
        yield Stand(stub, product.url, client, claude, http)


async def test_a_chat_says_the_same_whole_and_streamed_and_counts_as_the_host_did(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        whole = await s.openai.chat.completions.create(model=MODEL, messages=ASKED)
        stream = await s.openai.chat.completions.create(
            model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content == SAID
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == SAID
    assert whole.usage is not None and whole.usage.completion_tokens == COUNTED and chunks[-1].usage == whole.usage


async def test_anthropics_client_is_answered_in_its_own_dialect(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        whole = await s.claude.messages.create(model=MODEL, messages=ASKED, max_tokens=64)
        async with s.claude.messages.stream(model=MODEL, messages=ASKED, max_tokens=64) as stream:
            streamed = await stream.get_final_text()
    assert [block.text for block in whole.content if block.type == "text"] == [SAID] == [streamed]


async def test_clients_of_both_kinds_share_one_cache_entry(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        raw = await s.openai.chat.completions.with_raw_response.create(model=MODEL, messages=ASKED, temperature=0)
        await s.stored(1)
        asked = {key: value for key, value in s.sent()[0].items() if key != "stream"}
        native = await s.http.post("/api/chat", json=asked)
        again = await s.openai.chat.completions.with_raw_response.create(model=MODEL, messages=ASKED, temperature=0)
    assert raw.headers["x-loupe-cache"] == "miss"
    assert native.headers["x-loupe-cache"].startswith("hit") and again.headers["x-loupe-cache"].startswith("hit")
    assert again.parse().choices[0].message.content == SAID
    assert len(s.sent()) == 1


async def test_what_openais_dialect_has_no_word_for_comes_in_the_extra_body(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        extra = {"num_ctx": 512, "keep_alive": "3m", "think": False, "cache": "bypass"}
        raw = await s.openai.chat.completions.with_raw_response.create(
            model=MODEL, messages=ASKED, temperature=0, extra_body=extra
        )
    [sent] = s.sent()
    assert (sent["options"]["num_ctx"], sent["keep_alive"], sent["think"]) == (512, "3m", False)
    assert raw.headers["x-loupe-cache"] == 'bypass; reason="asked for"'


@pytest.mark.parametrize("extra", [{"num_ctx": "many"}, {"num_ctx": True}, {"num_ctx": 0}, {"cache": "maybe"}])
async def test_an_extra_of_the_wrong_kind_is_refused_and_nothing_is_sent(tmp_path: Path, extra: dict[str, Any]) -> None:
    async with stand(tmp_path) as s:
        with pytest.raises(openai.BadRequestError, match=next(iter(extra))):
            await s.openai.chat.completions.create(model=MODEL, messages=ASKED, extra_body=extra)
        assert s.sent() == []


async def test_an_answer_that_breaks_off_ends_in_the_dialects_own_error(tmp_path: Path) -> None:
    broken = Reply([*RECORDS[:2], Cut()])
    async with stand(tmp_path, broken) as s:
        with pytest.raises(openai.APIError) as told:
            stream = await s.openai.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
            said = [chunk.choices[0].delta.content async for chunk in stream]
        with pytest.raises(anthropic.APIError) as claude:
            async with s.claude.messages.stream(model=MODEL, messages=ASKED, max_tokens=9) as answer:
                said = [text async for text in answer.text_stream]
        assert "said" not in locals(), "a cut answer was taken for whole"
        raw = await s.http.post("/v1/chat/completions", json={"model": MODEL, "messages": ASKED, "stream": True})
    assert told.value.message and claude.value.message
    assert raw.content.count(b'"error"') == 1 and b"[DONE]" not in raw.content


async def test_errors_have_the_dialects_shape_and_the_hosts_status(tmp_path: Path) -> None:
    async with stand(tmp_path, error(500, "the host broke")) as s:
        with pytest.raises(openai.InternalServerError, match="the host broke"):
            await s.openai.chat.completions.create(model=MODEL, messages=ASKED)
        with pytest.raises(openai.NotFoundError, match="nope"):
            await s.openai.chat.completions.create(model="nope", messages=ASKED)
        with pytest.raises(anthropic.NotFoundError, match="nope"):
            await s.claude.messages.create(model="nope", messages=ASKED, max_tokens=5)
        with pytest.raises(openai.BadRequestError):
            await s.openai.chat.completions.create(model=MODEL, messages=[])
        packed = await s.http.post("/v1/completions", content=b"x", headers={"content-encoding": "zstd"})
        assert packed.status_code == 415


async def test_a_client_that_leaves_frees_the_host(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with stand(tmp_path, Reply([RECORDS[0], never])) as s:
        stream = await s.openai.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await asyncio.wait_for(s.stub.hung_up.wait(), 5)


async def test_models_are_listed_and_told_one_by_one(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        assert [model.id async for model in s.openai.models.list()] == [MODEL]
        assert (await s.openai.models.retrieve(MODEL)).id == MODEL


async def test_a_model_of_the_cloud_is_refused(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        answer = await s.http.post("/v1/chat/completions", json={"model": "gpt-oss:20b-cloud", "messages": ASKED})
        assert answer.status_code == 403 and s.sent() == []
