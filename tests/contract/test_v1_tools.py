"""Tool calls and thinking in the /v1 dialects, by real inference, with OpenAI's and Anthropic's clients.

The models and talks are those of the native test: "go" has a Go template, "own" its file's chat template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.contract.test_tools_and_thinking import BASE, BOTH, create, upload
from tests.own_templates import GO, JINJA, WEATHER, asked_before, summed_before, with_own_template
from tests.runtime_process import RuntimeProcess, runtime
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.model, pytest.mark.timeout(180), pytest.mark.xdist_group("tools")]

PARIS = {"city": "Paris"}
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": 60}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("v1-tools")
    linked_store(folder / "store", ("q8_0",))
    with runtime(folder / "store", folder / "log", OLLAMA_CONTEXT_LENGTH="1024") as server:
        create(server, {"model": "go", "from": BASE, "template": GO})
        upload(server, "own", with_own_template(JINJA, folder / "own.gguf"))
        yield server


@pytest.fixture(scope="module")
def client(server: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def claude(server: RuntimeProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def openai_talk(native: list[dict[str, Any]], question: str) -> list[Any]:
    """A native talk as OpenAI's clients tell it."""
    told: list[Any] = []
    for message in [*native, {"role": "user", "content": question}]:
        said = {key: message[key] for key in ("role", "content", "tool_call_id") if key in message}
        said |= {"reasoning": message["thinking"]} if "thinking" in message else {}
        if calls := message.get("tool_calls"):
            said["content"] = None
            said["tool_calls"] = [
                {"id": call["id"], "type": "function", "function": {
                    "name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"])}}
                for call in calls
            ]  # fmt: skip
        told.append(said)
    return told


def anthropic_talk(native: list[dict[str, Any]], question: str) -> list[Any]:
    """A native talk as Anthropic's clients tell it."""
    told: list[Any] = []
    for message in [*native, {"role": "user", "content": question}]:
        blocks: list[Any] = [{"type": "text", "text": message["content"]}] if message["content"] else []
        if "thinking" in message:
            blocks.insert(0, {"type": "thinking", "thinking": message["thinking"], "signature": ""})
        for call in message.get("tool_calls", ()):
            function = call["function"]
            block = {"type": "tool_use", "id": call["id"], "name": function["name"], "input": function["arguments"]}
            blocks.append(block)
        if message["role"] == "tool":
            blocks = [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}]
        told.append({"role": "user" if message["role"] == "tool" else message["role"], "content": blocks})
    return told


CITIES, SUMS = asked_before("Rome", "Oslo"), summed_before((1, 2), (3, 3), (4, 1))
WHERE, SUM = "Weather in Paris?", "What is 2+2?"


@BOTH
def test_a_chat_calls_a_tool_and_goes_on_with_its_result(client: openai.OpenAI, model: str):
    asked: Any = {"model": model, "tools": [WEATHER], "reasoning_effort": "none", **GREEDY}
    talk = openai_talk(CITIES, WHERE)
    choice = client.chat.completions.create(messages=talk, **asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == PARIS
    found = {"role": "tool", "tool_call_id": call.id, "content": "19"}
    answer = client.chat.completions.create(messages=[*talk, choice.message, found], **asked).choices[0]
    assert answer.finish_reason == "stop" and "19" in (answer.message.content or "")


@BOTH
def test_a_streamed_chat_tells_the_call_and_that_it_ended_for_it(client: openai.OpenAI, model: str):
    asked: Any = {"model": model, "tools": [WEATHER], "reasoning_effort": "none", "stream": True, **GREEDY}
    chunks = list(client.chat.completions.create(messages=openai_talk(CITIES, WHERE), **asked))
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert call.id and call.function and json.loads(call.function.arguments or "") == PARIS
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@BOTH
def test_a_response_calls_a_function_whole_and_streamed(client: openai.OpenAI, model: str):
    items: list[Any] = []
    for message in [*CITIES, {"role": "user", "content": WHERE}]:
        if calls := message.get("tool_calls"):
            items += [
                {"type": "function_call", "call_id": call["id"], "name": call["function"]["name"],
                 "arguments": json.dumps(call["function"]["arguments"])}
                for call in calls
            ]  # fmt: skip
        elif message["role"] == "tool":
            output = {"call_id": message["tool_call_id"], "output": message["content"]}
            items.append({"type": "function_call_output", **output})
        else:
            items.append({"role": message["role"], "content": message["content"]})
    asked: Any = {"model": model, "input": items, "temperature": 0, "max_output_tokens": 60,
                  "tools": [{"type": "function", **WEATHER["function"]}], "reasoning": {"effort": "none"}}  # fmt: skip
    (call,) = client.responses.create(**asked).output
    assert call.type == "function_call" and json.loads(call.arguments) == PARIS
    events = list(client.responses.create(stream=True, **asked))
    (told,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(told.arguments) == PARIS
    assert events[-1].type == "response.completed"


@BOTH
def test_a_message_uses_a_tool_whole_and_streamed(claude: anthropic.Anthropic, model: str):
    function = WEATHER["function"]
    tool: Any = {"name": function["name"], "input_schema": function["parameters"]}
    asked: Any = {"model": model, "max_tokens": 60, "messages": anthropic_talk(CITIES, WHERE), "tools": [tool],
                  "thinking": {"type": "disabled"}, "extra_body": {"temperature": 0}}  # fmt: skip
    whole = claude.messages.create(**asked)
    assert whole.stop_reason == "tool_use"
    assert [block.input for block in whole.content if block.type == "tool_use"] == [PARIS]
    with claude.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert [block.input for block in final.content if block.type == "tool_use"] == [PARIS]


@BOTH
def test_thinking_is_told_apart_in_each_dialect(client: openai.OpenAI, claude: anthropic.Anthropic, model: str):
    asked: Any = {"model": model, "messages": openai_talk(SUMS, SUM), "reasoning_effort": "high", **GREEDY}
    message: Any = client.chat.completions.create(**asked).choices[0].message
    assert (message.reasoning.strip(), message.content) == ("2 and 2 make 4.", "The sum is 4.")
    deltas: list[Any] = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **asked)]
    assert "".join(getattr(delta, "reasoning", "") for delta in deltas).strip() == "2 and 2 make 4."
    assert "".join(delta.content or "" for delta in deltas) == "The sum is 4."
    thought = claude.messages.create(
        model=model, max_tokens=60, messages=anthropic_talk(SUMS, SUM), extra_body={"temperature": 0},
        thinking={"type": "enabled", "budget_tokens": 1024},
    )  # fmt: skip
    assert [block.type for block in thought.content] == ["thinking", "text"]
    unthought = [{key: said[key] for key in ("role", "content")} for said in SUMS]
    without = claude.messages.create(
        model=model, max_tokens=60, messages=anthropic_talk(unthought, SUM), extra_body={"temperature": 0},
        thinking={"type": "disabled"},
    )  # fmt: skip
    assert [block.type for block in without.content] == ["text"]
