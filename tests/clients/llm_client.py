"""llm with its plugin llm-ollama."""

from __future__ import annotations

import os

import llm
from rungs import (
    CHAT,
    EMBEDDING,
    ENDLESS,
    KEYED,
    LONG_TOKENS,
    MISSING,
    NEAR,
    QUESTION,
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

# As the plugin calls them.
NAMED, TOOLS_NAMED, EMBEDDING_NAMED = (f"ollama/{name}" for name in (CHAT, TOOLS, EMBEDDING))
GREEDY = {"temperature": 0, "num_predict": 24}


def list_models() -> None:
    assert NAMED in [model.model_id for model in llm.get_models()]


def chat() -> None:
    knows_paris(llm.get_model(NAMED).prompt(QUESTION, stream=False, **GREEDY).text())


def stream() -> None:
    knows_paris_in_pieces(list(llm.get_model(NAMED).prompt(QUESTION, stream=True, **GREEDY)))


def get_weather(city: str) -> str:
    """The weather of a city"""
    return f"11 degrees in {city}"


def tools() -> None:
    asked = llm.get_model(TOOLS_NAMED).prompt(WEATHER, tools=[get_weather], stream=False, temperature=0, num_predict=60)
    (call,) = asked.tool_calls()
    calls_the_tool(call.name, call.arguments)


def embeddings() -> None:
    are_near(*llm.get_embedding_model(EMBEDDING_NAMED).embed_multi(NEAR))


def errors() -> None:
    """A model it does not list is refused before the server is asked; what the server refuses reaches the caller."""
    try:
        llm.get_model(f"ollama/{MISSING}")
        raise AssertionError("a missing model raised nothing")
    except llm.UnknownModelError:
        pass
    try:
        llm.get_model(NAMED).prompt(QUESTION, stream=False, tools=[get_weather]).text()
        raise AssertionError("tools for a model without them raised nothing")
    except Exception as error:
        if isinstance(error, AssertionError):
            raise
        assert "tools" in str(error), error


def cancel() -> None:
    endless = llm.get_model(f"ollama/{ENDLESS}").prompt(QUESTION, stream=True, temperature=0, num_predict=LONG_TOKENS)
    pieces = iter(endless)
    next(pieces)
    pieces.close()
    is_free_again()


def key() -> None:
    """By the variables that the plugin's own client reads."""
    model = llm.get_model(NAMED)

    def asked(key: str) -> None:
        os.environ |= {"OLLAMA_HOST": KEYED, "OLLAMA_API_KEY": key}
        model.prompt(QUESTION, stream=False, temperature=0, num_predict=2).text()

    takes_the_key(asked)


climb(
    "llm-ollama", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors,
    cancel=cancel, key=key,
)  # fmt: skip
