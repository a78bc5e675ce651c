"""litellm as a client, over Ollama's own protocol (`ollama_chat/…`, `ollama/…`)."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no price list from the network

import litellm  # noqa: E402
from rungs import (  # noqa: E402
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

litellm.telemetry = False
ASKED = [{"role": "user", "content": QUESTION}]


def ask(model: str = CHAT, messages: list = ASKED, **more: object) -> litellm.ModelResponse:
    return litellm.completion(
        model=f"ollama_chat/{model}",
        messages=messages,
        **{"api_base": HOST, "temperature": 0, "max_tokens": 24, **more},
    )


def list_models() -> None:
    from litellm.llms.ollama.common_utils import OllamaModelInfo

    listed = OllamaModelInfo().get_models(api_base=HOST)
    assert CHAT in [name.removeprefix("ollama/") for name in listed], listed


def chat() -> None:
    answer = ask()
    knows_paris(answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0


def stream() -> None:
    knows_paris_in_pieces([chunk.choices[0].delta.content for chunk in ask(stream=True)])


def tools() -> None:
    answer = ask(TOOLS, [{"role": "user", "content": WEATHER}], tools=[TOOL], max_tokens=60)
    (call,) = answer.choices[0].message.tool_calls
    calls_the_tool(call.function.name, call.function.arguments)


def embeddings() -> None:
    found = litellm.embedding(model=f"ollama/{EMBEDDING}", api_base=HOST, input=list(NEAR))
    are_near(*(row["embedding"] for row in found.data))


def errors() -> None:
    try:
        ask(MISSING)
    except litellm.NotFoundError as error:
        assert f"model '{MISSING}' not found" in str(error), error
        return
    raise AssertionError("a missing model raised nothing")


def cancel() -> None:
    chunks = ask(ENDLESS, stream=True, max_tokens=LONG_TOKENS)
    next(chunks)
    chunks.completion_stream.close()
    is_free_again()


def key() -> None:
    takes_the_key(lambda key: ask(api_base=KEYED, api_key=key, max_tokens=2))


climb(
    "litellm", list=list_models, chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors,
    cancel=cancel, key=key,
)  # fmt: skip
