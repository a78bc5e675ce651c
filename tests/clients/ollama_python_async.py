"""The official Python client, async."""

from __future__ import annotations

import asyncio
import os

import ollama
from rungs import (
    CHAT,
    EMBEDDING,
    ENDLESS,
    HOST,
    KEYED,
    LONG_TOKENS,
    MISSING,
    NEAR,
    QUESTION,
    TOOL,
    TOOLS,
    WEATHER,
    are_near,
    calls_the_tool,
    climb,
    is_free_again,
    knows_paris,
    knows_paris_in_pieces,
    takes_the_key,
)

ASKED = [{"role": "user", "content": QUESTION}]
GREEDY = {"temperature": 0, "num_predict": 24}


async def list_models() -> None:
    assert CHAT in [model.model for model in (await ollama.AsyncClient(HOST).list()).models]


async def chat() -> None:
    client = ollama.AsyncClient(HOST)
    answers = await asyncio.gather(*(client.chat(CHAT, ASKED, options=GREEDY) for _ in range(3)))
    for answer in answers:
        knows_paris(answer.message.content)


async def stream() -> None:
    parts = await ollama.AsyncClient(HOST).chat(CHAT, ASKED, options=GREEDY, stream=True)
    knows_paris_in_pieces([part.message.content async for part in parts])


async def tools() -> None:
    asked = [{"role": "user", "content": WEATHER}]
    answer = await ollama.AsyncClient(HOST).chat(TOOLS, asked, tools=[TOOL], options={"temperature": 0})
    (call,) = answer.message.tool_calls
    calls_the_tool(call.function.name, call.function.arguments)


async def embeddings() -> None:
    are_near(*(await ollama.AsyncClient(HOST).embed(EMBEDDING, NEAR)).embeddings)


async def errors() -> None:
    try:
        await ollama.AsyncClient(HOST).show(MISSING)
    except ollama.ResponseError as error:
        assert (error.status_code, error.error) == (404, f"model '{MISSING}' not found")
        return
    raise AssertionError("a missing model raised nothing")


async def cancel() -> None:
    """By cancelling the task, as an application does."""
    begun = asyncio.Event()

    async def read() -> None:
        options = {"num_predict": LONG_TOKENS, "temperature": 0}
        async for _ in await ollama.AsyncClient(HOST).chat(ENDLESS, ASKED, options=options, stream=True):
            begun.set()

    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    await asyncio.wait([reading])
    await asyncio.to_thread(is_free_again)


def key() -> None:
    """By the variable that the client itself reads."""

    def listed(key: str) -> None:
        os.environ["OLLAMA_API_KEY"] = key
        asyncio.run(ollama.AsyncClient(KEYED).list())

    takes_the_key(listed)


climb(
    "ollama (Python, async)", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings,
    errors=errors, cancel=cancel, key=key,
)  # fmt: skip
