"""Anthropic's Python client on /v1/messages."""

from __future__ import annotations

import anthropic
from rungs import (
    CHAT,
    ENDLESS,
    HOST,
    KEYED,
    LONG_TOKENS,
    MISSING,
    QUESTION,
    TOOL,
    TOOLS,
    WEATHER,
    calls_the_tool,
    climb,
    is_free_again,
    knows_paris,
    knows_paris_in_pieces,
    takes_the_key,
)

client = anthropic.Anthropic(base_url=HOST, api_key="none", max_retries=0)
ASKED = [{"role": "user", "content": QUESTION}]
COLD = {"temperature": 0}  # the dialect has it, this client no longer
GREEDY = {"max_tokens": 24, "extra_body": COLD}
FUNCTION = TOOL["function"]


def list_models() -> None:
    assert CHAT in [model.id for model in client.models.list()]
    assert client.models.retrieve(CHAT).id == CHAT


def chat() -> None:
    answer = client.messages.create(model=CHAT, messages=ASKED, **GREEDY)
    knows_paris("".join(block.text for block in answer.content if block.type == "text"))
    assert answer.usage.output_tokens > 0


def stream() -> None:
    with client.messages.stream(model=CHAT, messages=ASKED, **GREEDY) as answer:
        knows_paris_in_pieces(list(answer.text_stream))
        assert answer.get_final_message().stop_reason


def tools() -> None:
    offered = {
        "name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"],
    }  # fmt: skip
    asked = [{"role": "user", "content": WEATHER}]
    answer = client.messages.create(model=TOOLS, messages=asked, tools=[offered], max_tokens=60, extra_body=COLD)
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    calls_the_tool(call.name, call.input)
    assert answer.stop_reason == "tool_use"


def errors() -> None:
    try:
        client.messages.create(model=MISSING, messages=ASKED, **GREEDY)
    except anthropic.NotFoundError as error:
        assert error.body["error"]["message"] == f"model '{MISSING}' not found", error.body
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    asked = client.messages.create(model=ENDLESS, messages=ASKED, max_tokens=LONG_TOKENS, extra_body=COLD, stream=True)
    for event in asked:
        if event.type == "content_block_delta":
            break
    asked.close()
    is_free_again()


def key() -> None:
    """By both words that the client has for it."""
    for name in ("api_key", "auth_token"):
        takes_the_key(
            lambda key, name=name: anthropic.Anthropic(base_url=KEYED, max_retries=0, **{name: key}).models.list()
        )


climb(
    "anthropic (Python)", list=list_models, chat=chat, stream=stream, tools=tools,
    embeddings="Anthropic's dialect has none", errors=errors, cancel=cancel, key=key,
)  # fmt: skip
