"""OpenAI's Python client on /v1."""

from __future__ import annotations

import openai
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

client = openai.OpenAI(base_url=f"{HOST}/v1", api_key="none", max_retries=0)
ASKED = [{"role": "user", "content": QUESTION}]


def list_models() -> None:
    assert CHAT in [model.id for model in client.models.list()]
    assert client.models.retrieve(CHAT).id == CHAT


def chat() -> None:
    answer = client.chat.completions.create(model=CHAT, messages=ASKED, temperature=0, max_tokens=24)
    knows_paris(answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0
    told = client.responses.create(model=CHAT, input=QUESTION, temperature=0, max_output_tokens=24)
    knows_paris(told.output_text)


def stream() -> None:
    chunks = client.chat.completions.create(model=CHAT, messages=ASKED, temperature=0, max_tokens=24, stream=True)
    knows_paris_in_pieces([chunk.choices[0].delta.content for chunk in chunks])


def tools() -> None:
    asked = [{"role": "user", "content": WEATHER}]
    answer = client.chat.completions.create(model=TOOLS, messages=asked, tools=[TOOL], temperature=0)
    (call,) = answer.choices[0].message.tool_calls
    calls_the_tool(call.function.name, call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


def embeddings() -> None:
    """Base64 is what this client asks for."""
    are_near(*(row.embedding for row in client.embeddings.create(model=EMBEDDING, input=list(NEAR)).data))


def errors() -> None:
    try:
        client.chat.completions.create(model=MISSING, messages=ASKED)
    except openai.NotFoundError as error:
        assert error.body["message"] == f"model '{MISSING}' not found"
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    chunks = client.chat.completions.create(
        model=ENDLESS, messages=ASKED, temperature=0, max_tokens=LONG_TOKENS, stream=True
    )
    next(chunks)
    chunks.close()
    is_free_again()


def key() -> None:
    takes_the_key(lambda key: openai.OpenAI(base_url=f"{KEYED}/v1", api_key=key, max_retries=0).models.list())


climb(
    "openai (Python)", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors,
    cancel=cancel, key=key,
)  # fmt: skip
