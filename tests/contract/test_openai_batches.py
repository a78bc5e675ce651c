"""OpenAI's own client, unmodified, through its batch API at Loupe: send a file, begin, wait, fetch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from proving.stand import until
from tests.contract.test_batches import MODEL, SECONDS, Host, running_on
from tests.stub_ollama import error, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]
CHAT = "/v1/chat/completions"


def lines(*questions: str, url: str = CHAT) -> bytes:
    rows = [
        {"custom_id": f"id-{question}", "method": "POST", "url": url,
         "body": {"model": MODEL, "messages": [{"role": "user", "content": question}]}}
        for question in questions
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows)).encode()


def openai_at(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def test_a_client_sends_a_file_and_fetches_its_answers_and_errors(tmp_path: Path) -> None:
    host = Host(lambda question: error(400, "cannot") if question == "bad" else None)
    async with served(host) as url, running_on(tmp_path, url) as (product, _), openai_at(product.url) as client:
        file = await client.files.create(file=("in.jsonl", lines("hi", "bad", "ho")), purpose="batch")
        assert (file.filename, file.purpose, file.bytes) == ("in.jsonl", "batch", len(lines("hi", "bad", "ho")))
        assert (await client.files.content(file.id)).content == lines("hi", "bad", "ho")
        begun = await client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"for": "us"}
        )
        assert (begun.status, begun.input_file_id, begun.metadata) == ("in_progress", file.id, {"for": "us"})
        await until(lambda: not product.services.batches.get(begun.id.removeprefix("batch_")).active, SECONDS)
        done = await client.batches.retrieve(begun.id)
        assert done.status == "completed" and done.completed_at and done.request_counts is not None
        counts = done.request_counts
        assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
        assert done.output_file_id and done.error_file_id
        told = [json.loads(line) for line in (await client.files.content(done.output_file_id)).text.splitlines()]
        said = [row["response"]["body"]["choices"][0]["message"]["content"] for row in told]
        assert (said, [row["custom_id"] for row in told]) == (["HI", "HO"], ["id-hi", "id-ho"])
        [wrong] = (await client.files.content(done.error_file_id)).text.splitlines()
        assert json.loads(wrong)["response"]["status_code"] == 400
        assert (await client.files.retrieve(done.output_file_id)).purpose == "batch_output"
        assert [one.id async for one in client.batches.list()] == [begun.id]
        assert [one.id async for one in client.files.list()] == [file.id]
        assert (await client.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(file.id)


async def test_what_cannot_be_asked_is_an_error_of_openais_kind(tmp_path: Path) -> None:
    async with served(Host()) as url, running_on(tmp_path, url) as (product, plain), openai_at(product.url) as client:
        with pytest.raises(openai.BadRequestError, match="serve for nothing else"):
            await client.files.create(file=("in.jsonl", b"x"), purpose="assistants")
        with pytest.raises(openai.NotFoundError, match="there is no file"):
            await client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
        with pytest.raises(openai.NotFoundError, match="there is no batch"):
            await client.batches.retrieve("batch_none")
        file = await client.files.create(file=("in.jsonl", lines("hi")), purpose="batch")
        refusal: Any
        with pytest.raises(openai.BadRequestError, match="the batch is one of /v1/embeddings") as refusal:
            await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        assert refusal.value.body["type"] == "invalid_request_error"
        wrong = await client.files.create(file=("in.jsonl", b'{"prompt": "hi"}'), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="line 1: custom_id is missing"):
            await client.batches.create(input_file_id=wrong.id, endpoint=CHAT, completion_window="24h")
        begun = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert (await client.batches.cancel(begun.id)).status in ("cancelled", "completed")
        refused: httpx.Response = await plain.delete(f"/v1/files/file-{begun.id.removeprefix('batch_')}-output")
        assert refused.status_code == 400
