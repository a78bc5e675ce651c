"""langchain-openai on /v1."""

from __future__ import annotations

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
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


def model(name: str = CHAT, address: str = HOST, key: str = "none", tokens: int = 24) -> ChatOpenAI:
    return ChatOpenAI(
        model=name, base_url=f"{address}/v1", api_key=key, temperature=0, max_tokens=tokens, max_retries=0
    )


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
    (call,) = model(TOOLS, tokens=60).bind_tools([get_weather]).invoke(WEATHER).tool_calls
    calls_the_tool(call["name"], call["args"])


def embeddings() -> None:
    """As text: by default this client sends the token numbers of OpenAI's own tokenizer."""
    embedding = OpenAIEmbeddings(
        model=EMBEDDING, base_url=f"{HOST}/v1", api_key="none", check_embedding_ctx_length=False
    )
    are_near(*embedding.embed_documents(list(NEAR)))


def errors() -> None:
    try:
        model(MISSING).invoke(QUESTION)
    except Exception as error:  # noqa: BLE001 - which class is langchain's affair
        assert f"model '{MISSING}' not found" in str(error), error
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    chunks = model(ENDLESS, tokens=LONG_TOKENS).stream(QUESTION)
    next(chunks)
    next(chunks)
    chunks.close()
    is_free_again()


def key() -> None:
    takes_the_key(lambda key: model(address=KEYED, key=key, tokens=2).invoke(QUESTION))


climb(
    "langchain-openai", list="it lists no models", chat=chat, stream=stream, tools=tools, embeddings=embeddings,
    errors=errors, cancel=cancel, key=key,
)  # fmt: skip
