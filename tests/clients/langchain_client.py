"""langchain-ollama."""

from __future__ import annotations

from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
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


def model(name: str = CHAT, **more: object) -> ChatOllama:
    return ChatOllama(model=name, temperature=0, **{"base_url": HOST, "num_predict": 24, **more})


def list_models() -> None:
    model(validate_model_on_init=True)  # asks /api/tags and fails for a model that is not listed


def chat() -> None:
    answer = model().invoke(QUESTION)
    knows_paris(answer.content)
    assert answer.usage_metadata["output_tokens"] > 0


def stream() -> None:
    knows_paris_in_pieces([chunk.content for chunk in model().stream(QUESTION)])


@tool
def get_weather(city: str) -> str:
    """The weather of a city"""
    return f"11 degrees in {city}"


def tools() -> None:
    (call,) = model(TOOLS, num_predict=60).bind_tools([get_weather]).invoke(WEATHER).tool_calls
    calls_the_tool(call["name"], call["args"])


def embeddings() -> None:
    are_near(*OllamaEmbeddings(model=EMBEDDING, base_url=HOST).embed_documents(list(NEAR)))


def errors() -> None:
    try:
        model(MISSING).invoke(QUESTION)
    except Exception as error:  # noqa: BLE001 - which class is langchain's affair
        assert f"model '{MISSING}' not found" in str(error), error
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    chunks = model(ENDLESS, num_predict=LONG_TOKENS).stream(QUESTION)
    next(chunks)
    next(chunks)
    chunks.close()
    is_free_again()


def key() -> None:
    def asked(key: str) -> None:
        bearer = {"headers": {"Authorization": f"Bearer {key}"}}
        model(base_url=KEYED, client_kwargs=bearer, num_predict=2).invoke(QUESTION)

    takes_the_key(asked)


climb(
    "langchain-ollama", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors,
    cancel=cancel, key=key,
)  # fmt: skip
