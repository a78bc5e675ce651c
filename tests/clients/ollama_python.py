"""The official Python client, blocking."""

from __future__ import annotations

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

client = ollama.Client(HOST)
ASKED = [{"role": "user", "content": QUESTION}]
GREEDY = {"temperature": 0, "num_predict": 24}


def list_models() -> None:
    assert CHAT in [model.model for model in client.list().models]
    assert client.show(CHAT).details.format == "gguf"


def chat() -> None:
    knows_paris(client.chat(CHAT, ASKED, options=GREEDY).message.content)
    knows_paris(client.generate(CHAT, QUESTION, options=GREEDY).response)


def stream() -> None:
    parts = list(client.chat(CHAT, ASKED, options=GREEDY, stream=True))
    knows_paris_in_pieces([part.message.content for part in parts])
    assert parts[-1].done and parts[-1].eval_count > 0


def tools() -> None:
    answer = client.chat(TOOLS, [{"role": "user", "content": WEATHER}], tools=[TOOL], options={"temperature": 0})
    (call,) = answer.message.tool_calls
    calls_the_tool(call.function.name, call.function.arguments)


def embeddings() -> None:
    are_near(*client.embed(EMBEDDING, NEAR).embeddings)


def errors() -> None:
    try:
        client.chat(MISSING, ASKED)
    except ollama.ResponseError as error:
        assert (error.status_code, error.error) == (404, f"model '{MISSING}' not found")
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    pieces = client.chat(ENDLESS, ASKED, options={"num_predict": LONG_TOKENS, "temperature": 0}, stream=True)
    next(pieces)
    next(pieces)
    pieces.close()
    is_free_again()


def key() -> None:
    takes_the_key(lambda key: ollama.Client(KEYED, headers={"Authorization": f"Bearer {key}"}).list())


climb(
    "ollama (Python)", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors,
    cancel=cancel, key=key,
)  # fmt: skip
