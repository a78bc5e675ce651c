"""Tool calls and thinking of models whose template can do them, by real inference over a socket.

Two models of the starter's weights: "go" has a Go template, "own" only its file's chat template, which the worker
renders and parses. The talks before the question bring so small a model to call and to think.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.own_templates import GO, JINJA, WEATHER, asked_before, summed_before, with_own_template
from tests.runtime_process import Reply, RuntimeProcess, runtime
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("tools")]

BASE = "smollm2:135m-instruct-q8_0"
OPTIONS = {"temperature": 0, "seed": 1, "num_ctx": 512, "num_predict": 60}
WEATHER_TALK = [*asked_before("Rome", "Oslo"), {"role": "user", "content": "Weather in Paris?"}]
SUM_TALK = [*summed_before((1, 2), (3, 3), (4, 1)), {"role": "user", "content": "What is 2+2?"}]
SUM_FORM = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
BOTH = pytest.mark.parametrize("model", ["go", "own"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("tools")
    linked_store(folder / "store", ("q8_0",))
    with runtime(folder / "store", folder / "log") as server:
        create(server, {"model": "go", "from": BASE, "template": GO})
        upload(server, "own", with_own_template(JINJA, folder / "own.gguf"))
        yield server


def create(server: RuntimeProcess, body: dict[str, Any]) -> None:
    reply = server.send("POST", "/api/create", {**body, "stream": False})
    assert reply.json == {"status": "success"}


def upload(server: RuntimeProcess, model: str, file: Path, **more: Any) -> None:
    content = file.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert server.send("POST", f"/api/blobs/{digest}", content).status == 201
    create(server, {"model": model, "files": {"model.gguf": digest}, **more})


def chat(server: RuntimeProcess, model: str, messages: list[dict[str, Any]], **more: Any) -> Reply:
    return server.send("POST", "/api/chat", {"model": model, "messages": messages, "options": OPTIONS, **more})


def whole(server: RuntimeProcess, model: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    reply = chat(server, model, messages, stream=False, **more)
    assert reply.status == 200, reply.body
    answer: dict[str, Any] = reply.json
    assert answer["done"] is True
    return answer


def rendered(server: RuntimeProcess, model: str, messages: list[dict[str, Any]], **more: Any) -> str:
    reply = chat(server, model, messages, _debug_render_only=True, **more)
    text: str = reply.json["_debug_info"]["rendered_template"]
    return text


def function_of(message: dict[str, Any]) -> dict[str, Any]:
    (call,) = message["tool_calls"]
    assert list(call) == ["id", "function"]
    function: dict[str, Any] = call["function"]
    return function


PARIS = {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}


def test_show_and_tags_tell_what_the_templates_can_do(server: RuntimeProcess):
    listed = {row["name"]: row["capabilities"] for row in server.send("GET", "/api/tags").json["models"]}
    shown = {name: server.send("POST", "/api/show", {"model": name}).json for name in ("go", "own", BASE)}
    assert shown["go"]["capabilities"] == listed["go:latest"] == ["completion", "tools", "thinking"]
    assert shown["own"]["capabilities"] == listed["own:latest"] == ["tools", "thinking", "completion"]
    assert shown[BASE]["capabilities"] == listed[BASE] == ["completion"]
    assert shown["go"]["template"] == GO
    assert shown["own"]["template"].startswith(JINJA)


def test_with_a_go_template_each_call_is_a_chunk_of_its_own_before_the_end(server: RuntimeProcess):
    *before, last = chat(server, "go", WEATHER_TALK, tools=[WEATHER], think=False).lines
    (told,) = [record for record in before if "tool_calls" in record["message"]]
    assert list(told) == ["model", "created_at", "message", "done"]
    assert list(told["message"]) == ["role", "content", "tool_calls"]
    assert (told["done"], told["message"]["content"]) == (False, "")
    assert function_of(told["message"]) == PARIS
    assert re.fullmatch("call_[a-z0-9]{8}", told["message"]["tool_calls"][0]["id"])
    assert "<tool_call>" not in "".join(record["message"]["content"] for record in before)
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert last["message"] == {"role": "assistant", "content": ""}


def test_with_the_files_own_template_calls_come_with_the_end(server: RuntimeProcess):
    (last,) = chat(server, "own", WEATHER_TALK, tools=[WEATHER], think=False).lines
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert list(last["message"]) == ["role", "content", "tool_calls"]
    assert function_of(last["message"]) == PARIS
    assert re.fullmatch("[A-Za-z0-9]{32}", last["message"]["tool_calls"][0]["id"])
    assert last["prompt_eval_count"] > 100
    assert last["eval_count"] > 10


@BOTH
def test_a_whole_answer_holds_the_calls(server: RuntimeProcess, model: str):
    answer = whole(server, model, WEATHER_TALK, tools=[WEATHER], think=False)
    assert function_of(answer["message"]) == PARIS
    assert answer["message"]["content"].strip() == ""


@BOTH
def test_what_the_tool_answered_goes_back_into_the_talk(server: RuntimeProcess, model: str):
    asked = whole(server, model, WEATHER_TALK, tools=[WEATHER], think=False)["message"]
    found = {"role": "tool", "content": "19", "tool_name": "get_weather", "tool_call_id": asked["tool_calls"][0]["id"]}
    talk = [*WEATHER_TALK, asked, found]
    prompt = rendered(server, model, talk, tools=[WEATHER], think=False)
    assert re.search(r'"city": ?"Paris"}}\n</tool_call><\|im_end\|>\n<\|im_start\|>tool\n19<\|im_end\|>', prompt)
    answer = whole(server, model, talk, tools=[WEATHER], think=False)["message"]
    assert "19" in answer["content"]
    assert "tool_calls" not in answer


@BOTH
def test_without_tools_nothing_is_taken_for_a_call(server: RuntimeProcess, model: str):
    answer = whole(server, model, WEATHER_TALK, think=False)
    assert "tool_calls" not in answer["message"]
    assert "get_weather" in answer["message"]["content"]
    assert "get_weather" in whole(server, model, WEATHER_TALK, think=False, tools=[])["message"]["content"]


@BOTH
def test_a_model_that_can_think_does_so_and_tells_it_apart(server: RuntimeProcess, model: str):
    records = chat(server, model, SUM_TALK).lines
    thinking = [record["message"].get("thinking", "") for record in records]
    content = [record["message"]["content"] for record in records]
    assert "".join(thinking).strip() == "2 and 2 make 4."
    assert "".join(content) == "The sum is 4."
    first_answer = next(at for at, text in enumerate(content) if text)
    assert not any(thinking[first_answer:])
    assert list(records[0]["message"]) == ["role", "content", "thinking"]
    answer = whole(server, model, SUM_TALK, think="high")["message"]
    assert (answer["thinking"].strip(), answer["content"]) == ("2 and 2 make 4.", "The sum is 4.")
    assert list(answer) == ["role", "content", "thinking"]


@BOTH
def test_told_not_to_think_the_prompt_does_not_begin_it(server: RuntimeProcess, model: str):
    assert rendered(server, model, SUM_TALK).endswith("<|im_start|>assistant\n<think>\n")
    assert rendered(server, model, SUM_TALK, think=False).endswith("<|im_start|>assistant\n")
    assert "<think>\n3 and 3 make 6.\n</think>" in rendered(server, model, SUM_TALK)


@BOTH
def test_generate_tells_thinking_apart_too(server: RuntimeProcess, model: str):
    body = {"model": model, "prompt": "What is 2+2?", "options": OPTIONS}
    answer = server.send("POST", "/api/generate", {**body, "stream": False}).json
    assert answer["thinking"] == "The answer is 4."
    assert list(answer)[:4] == ["model", "created_at", "response", "thinking"]
    assert answer["context"]
    records = server.send("POST", "/api/generate", body).lines
    assert "".join(record.get("thinking", "") for record in records) == "The answer is 4."
    unthinking = server.send("POST", "/api/generate", {**body, "stream": False, "think": False}).json
    assert "thinking" not in unthinking


@BOTH
def test_with_a_form_the_model_thinks_freely_and_the_answer_holds_to_it(server: RuntimeProcess, model: str):
    records = chat(server, model, SUM_TALK, format=SUM_FORM).lines
    assert "".join(record["message"].get("thinking", "") for record in records).strip() == "2 and 2 make 4."
    said = json.loads("".join(record["message"]["content"] for record in records))
    assert list(said) == ["sum"]
    assert isinstance(said["sum"], int)
    answer = whole(server, model, SUM_TALK, format=SUM_FORM)["message"]
    assert json.loads(answer["content"]) == said
    assert answer["thinking"].strip() == "2 and 2 make 4."


def test_with_a_form_the_end_counts_the_second_pass_where_there_are_two(server: RuntimeProcess):
    """Its prompt holds the thinking; in the file's own template there is one pass and one count."""
    plain = {model: whole(server, model, SUM_TALK) for model in ("go", "own")}
    formed = {model: whole(server, model, SUM_TALK, format=SUM_FORM) for model in ("go", "own")}
    assert formed["go"]["prompt_eval_count"] > plain["go"]["prompt_eval_count"] + 5
    assert formed["own"]["prompt_eval_count"] == plain["own"]["prompt_eval_count"]


@BOTH
def test_json_without_a_schema_is_held_to_as_well(server: RuntimeProcess, model: str):
    answer = whole(server, model, SUM_TALK, format="json", think=False, options={**OPTIONS, "num_predict": 200})
    assert isinstance(json.loads(answer["message"]["content"]), dict) or answer["done_reason"] == "length"


@BOTH
def test_log_probabilities_come_with_thinking_and_text(server: RuntimeProcess, model: str):
    answer = whole(server, model, SUM_TALK, logprobs=True, top_logprobs=2)
    tokens = "".join(entry["token"] for entry in answer["logprobs"])
    assert "2 and 2 make 4." in tokens
    assert "The sum is 4." in tokens
    assert all(len(entry["top_logprobs"]) == 2 for entry in answer["logprobs"])
    assert all(list(entry["top_logprobs"][0]) == ["token", "logprob", "bytes"] for entry in answer["logprobs"])


def test_what_the_worker_refuses_is_told_in_its_words(server: RuntimeProcess):
    """llama.cpp has no log-probabilities for a stream with tools, and Ollama always streams from it."""
    reply = chat(server, "own", WEATHER_TALK, tools=[WEATHER], logprobs=True, stream=False)
    assert reply.status == 400
    assert json.loads(reply.json["error"])["error"]["message"] == "logprobs is not supported with tools + stream"


@BOTH
def test_a_client_that_leaves_frees_the_slot(server: RuntimeProcess, model: str):
    """There is one slot: the next answer would have to wait for two thousand tokens."""
    endless = {"messages": [{"role": "user", "content": "Count to ten thousand."}], "think": False}
    options = {**OPTIONS, "num_predict": 2000, "temperature": 1.5, "repeat_penalty": 1.3}
    connection, answer = server.open("/api/chat", {"model": model, **endless, "options": options})
    answer.readline()
    connection.close()
    began = time.monotonic()
    whole(server, model, [{"role": "user", "content": "Hi"}], options={**OPTIONS, "num_predict": 2}, think=False)
    assert time.monotonic() - began < 10


@BOTH
def test_the_official_client_calls_a_function_and_tells_the_answer(server: RuntimeProcess, model: str):
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Its name
        """
        return f"19 in {city}"

    talk: list[Any] = [*WEATHER_TALK]
    with ollama.Client(server.url) as client:
        parts = client.chat(model, talk, tools=[get_weather], think=False, options=OPTIONS, stream=True)
        (call,) = [call for part in parts for call in part.message.tool_calls or ()]
        assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
        found = get_weather(**call.function.arguments)
        talk += [ollama.Message(role="assistant", tool_calls=[call])]
        talk += [{"role": "tool", "tool_name": call.function.name, "content": found}]
        told = client.chat(model, talk, tools=[get_weather], think=False, options=OPTIONS).message
    assert "19" in (told.content or "")


@BOTH
def test_the_oldest_messages_are_left_out_where_they_do_not_fit(server: RuntimeProcess, model: str):
    talk = [{"role": "system", "content": "Be brief."}, *asked_before(*["Rome"] * 12), *SUM_TALK]
    prompt = rendered(server, model, talk)
    assert "Be brief." in prompt
    assert 0 < prompt.count("Weather in Rome?") < 12
    assert "What is 2+2?" in prompt
    short = {**OPTIONS, "num_predict": 2}
    assert 256 < whole(server, model, talk, options=short)["prompt_eval_count"] <= 512


def test_a_last_message_that_does_not_fit_is_cut_or_refused(server: RuntimeProcess):
    """Cut in the middle where the prompt is made here; refused by the worker where it makes it itself."""
    long = [{"role": "user", "content": "so " * 700}]
    short = {**OPTIONS, "num_predict": 2}
    assert 256 < whole(server, "go", long, options=short)["prompt_eval_count"] < 512
    refused = chat(server, "own", long, options=short)
    assert refused.status == 400
    assert json.loads(refused.json["error"])["error"]["type"] == "exceed_context_size_error"
    for model in ("go", "own"):
        assert chat(server, model, long, options=short, truncate=False).status == 400


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({"type": "function", "function": {"name": "f", "parameters": {"items": {"type": "nope"}}}}, "Unrecognized"),
        ({"type": "function", "function": {"name": "n" * 600}}, "at most 512 characters"),
    ],
)
def test_tools_that_no_worker_could_hold_to_are_refused(server: RuntimeProcess, tool: dict[str, Any], message: str):
    reply = chat(server, "own", [{"role": "user", "content": "Hi"}], tools=[tool])
    assert (reply.status, message in reply.json["error"]) == (400, True)


def test_a_tool_without_parameters_can_be_given(server: RuntimeProcess):
    tool = {"type": "function", "function": {"name": "now"}}
    for model in ("go", "own"):
        assert "now" in rendered(server, model, [{"role": "user", "content": "Hi"}], tools=[tool])
        whole(server, model, [{"role": "user", "content": "Hi"}], tools=[tool], options={**OPTIONS, "num_predict": 3})


def test_images_are_refused_by_the_worker_of_a_model_that_cannot_look(server: RuntimeProcess):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
    talk = [{"role": "user", "content": "What is this?", "images": [pixel]}]
    assert rendered(server, "go", talk).count("[img-0]What is this?") == 1
    assert chat(server, "go", talk).status == 400
    refused = chat(server, "own", talk)
    assert refused.status == 500
    assert "image input is not supported" in refused.json["error"]
