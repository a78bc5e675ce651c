"""OpenAI's and Anthropic's own clients, unmodified, against the runtime with a real model behind it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam

from tests.recordings import recording
from tests.runtime_process import RuntimeProcess, runtime
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.model, pytest.mark.timeout(180), pytest.mark.xdist_group("v1 clients")]

MODEL = "smollm2:135m-instruct-q8_0"
DOOMED = [MODEL.replace("q8_0", tag) for tag in ("q4_0", "q5_K_M", "q6_K")]  # a third death would stop restarts
QUESTION = "Name the capital of France in one sentence."
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
TOLD: list[MessageParam] = [{"role": "user", "content": QUESTION}]
PICTURE = recording("chat_images").request.body["messages"][0]["images"][0]
NO_PICTURES = "model does not support multimodal requests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("v1")
    linked_store(folder / "store", ("q8_0", "q4_0", "q5_K_M", "q6_K"))
    with runtime(folder / "store", folder / "log", OLLAMA_NUM_PARALLEL="1", OLLAMA_MAX_LOADED_MODELS="1") as started:
        yield started


@pytest.fixture(scope="module")
def client(server: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def claude(server: RuntimeProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_models_are_listed_and_told_one_by_one(client: openai.OpenAI):
    listed = list(client.models.list())
    assert {model.id for model in listed} == {MODEL, *DOOMED}
    assert {(model.object, model.owned_by) for model in listed} == {("model", "library")}
    assert client.models.retrieve(MODEL).created > 1.7e9
    with pytest.raises(openai.NotFoundError, match="model 'nope:latest' not found"):
        client.models.retrieve("nope")


def test_a_chat_says_the_same_whole_and_streamed(client: openai.OpenAI):
    whole = client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, max_tokens=12)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(
        model=MODEL, messages=ASKED, temperature=0, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(streamed)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_two_chats_at_once_are_both_answered_by_the_async_client(server: RuntimeProcess):
    async def ask(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def both() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(ask(client), ask(client))

    assert all("Paris" in said for said in asyncio.run(both()))


SCHEMAS: list[tuple[dict[str, Any], type]] = [
    ({"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}, dict),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}, list),
    ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, object),
    ({"type": "string", "maxLength": 9}, str),
    ({"type": "object", "required": ["a"],
      "properties": {"a": {"const": 'x"\\'}, "b": {"type": ["number", "null"]}}}, dict),
    ({"$defs": {"n": {"type": "object", "properties": {"v": {"enum": [1, 2]}, "next": {"$ref": "#/$defs/n"}},
                      "required": ["v"]}}, "$ref": "#/$defs/n"}, dict),
    ({"type": "string", "pattern": "^[ab]{3}$"}, str),  # left to the engine in the worker
]  # fmt: skip


@pytest.mark.parametrize(("schema", "kind"), SCHEMAS, ids=[str(index) for index in range(len(SCHEMAS))])
def test_an_answer_holds_to_a_schema(client: openai.OpenAI, schema: dict[str, Any], kind: type):
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, temperature=0, max_tokens=80,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )  # fmt: skip
    choice = answer.choices[0]
    assert choice.finish_reason == "stop", choice
    assert isinstance(json.loads(choice.message.content or ""), kind)


def test_tokens_come_with_their_probabilities(client: openai.OpenAI):
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2
    )
    told = answer.choices[0].logprobs
    assert told is not None and told.content is not None and len(told.content) == 3
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in told.content)


def test_a_completion_ends_at_a_stop_text(client: openai.OpenAI):
    whole = client.completions.create(model=MODEL, prompt="Count: one, two,", max_tokens=20, temperature=0)
    first = whole.choices[0].text.split()[0]
    cut = client.completions.create(model=MODEL, prompt="Count: one, two,", max_tokens=20, temperature=0, stop=first)
    assert cut.choices[0].text.strip() == "" and cut.choices[0].finish_reason == "stop"


def test_a_response_is_told_whole_and_in_typed_events(client: openai.OpenAI):
    whole = client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=12)
    assert "Paris" in whole.output_text and whole.status == "completed"
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=12) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.usage is not None and whole.usage is not None
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_message_is_told_whole_and_streamed(claude: anthropic.Anthropic):
    asked: Any = {"model": MODEL, "max_tokens": 12, "messages": TOLD, "system": "Answer briefly."}
    asked |= {"stop_sequences": ["\n"], "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**asked)
    assert [block.type for block in whole.content] == ["text"]
    with claude.messages.stream(**asked) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_thinking_is_let_go_for_a_model_that_cannot(claude: anthropic.Anthropic, client: openai.OpenAI):
    answer = claude.messages.create(
        model=MODEL, max_tokens=4, messages=TOLD, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert answer.usage.output_tokens == 4
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        client.chat.completions.create(model=MODEL, messages=ASKED, reasoning_effort="high")


def test_what_the_model_cannot_do_is_refused_in_each_dialect(client: openai.OpenAI, claude: anthropic.Anthropic):
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=[tool])
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        claude.messages.create(model=MODEL, max_tokens=4, messages=TOLD, tools=[{"name": "f", "input_schema": {}}])
    part: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    with pytest.raises(openai.BadRequestError, match=NO_PICTURES):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [part]}])
    with pytest.raises(openai.BadRequestError, match=NO_PICTURES):
        client.audio.transcriptions.create(model=MODEL, file=("a.wav", base64.b64decode(PICTURE)))
    with pytest.raises(openai.APIStatusError, match="does not support embeddings") as caught:
        client.embeddings.create(model=MODEL, input="hello")
    assert caught.value.status_code == 501


def test_what_is_wrong_with_a_request_is_told_in_each_dialect(client: openai.OpenAI, claude: anthropic.Anthropic):
    with pytest.raises(openai.BadRequestError, match="is too short - 'messages'"):
        client.chat.completions.create(model=MODEL, messages=[])
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.chat.completions.create(model="nope", messages=ASKED, stream=True)
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.responses.create(model="nope", input="x", stream=True)
    with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
        claude.messages.create(model="nope", max_tokens=4, messages=TOLD, thinking={"type": "adaptive"})
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required and must be positive"):
        claude.messages.create(model=MODEL, max_tokens=0, messages=TOLD)


def long_story(**more: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": "Tell a very long story, and never end."}
    return {"model": MODEL, "messages": [asked], "stream": True, "max_tokens": 4000, "seed": 3} | more


def test_a_client_that_leaves_in_mid_answer_frees_the_only_slot(client: openai.OpenAI):
    with client.chat.completions.create(**long_story()) as stream:
        next(iter(stream))
    answer = client.with_options(timeout=30).chat.completions.create(model=MODEL, messages=ASKED, max_tokens=2)
    assert answer.usage is not None and answer.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("path", "end", "model"),
    [
        ("/v1/chat/completions", b"[DONE]", DOOMED[0]),
        ("/v1/completions", b"[DONE]", DOOMED[0]),
        ("/v1/messages", b"message_stop", DOOMED[1]),
        ("/v1/responses", b"response.completed", DOOMED[1]),
    ],
)
def test_a_worker_that_dies_in_mid_answer_leaves_no_stream_that_looks_whole(
    server: RuntimeProcess, path: str, end: bytes, model: str
):
    story = "Tell a very long story, and never end."
    connection, answer = server.open(path, long_story(model=model, prompt=story, input=story, max_output_tokens=4000))
    assert answer.status == 200 and answer.getheader("content-type") == "text/event-stream"
    assert answer.readline()
    server.one_worker().kill()
    rest = answer.read()
    connection.close()
    assert end not in rest
    assert b'"error"' in rest.splitlines()[-2]
    last = json.loads(rest.splitlines()[-2].removeprefix(b"data: "))
    error = last.get("error") or last["response"]["error"]
    assert error["message"]


def test_an_error_in_mid_stream_is_raised_by_openais_client(server: RuntimeProcess, client: openai.OpenAI):
    stream = client.chat.completions.create(**long_story(model=DOOMED[2]))
    next(stream)
    server.one_worker().kill()
    with pytest.raises(openai.APIError):
        list(stream)


def test_an_error_in_mid_stream_is_raised_by_anthropics_client(server: RuntimeProcess, claude: anthropic.Anthropic):
    asked: list[MessageParam] = [{"role": "user", "content": "Tell a very long story, and never end."}]
    with claude.messages.stream(model=DOOMED[2], max_tokens=4000, messages=asked) as stream:
        next(iter(stream.text_stream))
        server.one_worker().kill()
        with pytest.raises(anthropic.APIError):
            list(stream.text_stream)


def test_routes_take_only_their_own_method_and_no_path_below(server: RuntimeProcess):
    assert server.send("GET", "/v1/chat/completions").status == 405
    assert server.send("POST", "/v1/models", {}).status == 405
    assert server.send("GET", "/v1/models/a/b").body == b"404 page not found"
    assert server.send("GET", "/v1/models/").status == 404
    assert server.send("POST", "/v1/images/generations", {}).status == 404


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_a_model_of_the_cloud_is_refused_before_anything_else(server: RuntimeProcess, path: str):
    refused = server.send("POST", path, {"model": "gpt-oss:120b-cloud", "messages": 5})
    assert (refused.status, refused.json) == (
        403,
        {"error": "ollama cloud is disabled: remote inference is unavailable"},
    )
    shown = server.send("GET", "/v1/models/gpt-oss:120b-cloud")
    assert (shown.status, "details are unavailable" in shown.json["error"]) == (403, True)


def test_a_compressed_body_is_refused_in_the_dialect_of_its_route(server: RuntimeProcess):
    refused = server.send("POST", "/v1/responses", b"\x28\xb5\x2f\xfd", {"Content-Encoding": "zstd"})
    assert refused.status == 415 and "without Content-Encoding" in refused.json["error"]["message"]


def test_streams_of_responses_and_messages_forbid_caching(server: RuntimeProcess):
    for path, more in (("/v1/responses", {"input": "Hi", "max_output_tokens": 1}), ("/v1/messages", {"max_tokens": 1})):
        reply = server.send("POST", path, {"model": MODEL, "messages": ASKED, "stream": True} | more)
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["content-type"] == "text/event-stream"


def test_a_prompt_is_rendered_and_a_model_is_loaded_on_request(server: RuntimeProcess):
    body = {"model": MODEL, "messages": ASKED, "_debug_render_only": True}
    assert QUESTION in server.send("POST", "/v1/chat/completions", body).json["_debug_info"]["rendered_template"]
    streamed = server.send("POST", "/v1/chat/completions", body | {"stream": True})
    assert streamed.body.startswith(b"data: {") and streamed.headers["content-type"] == "text/event-stream"
    loaded = server.send("POST", "/v1/completions", {"model": MODEL, "prompt": ""}).json
    assert loaded["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]
