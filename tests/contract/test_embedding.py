"""Embeddings of the embedded runtime with a real model, all-MiniLM-L6-v2: plain HTTP and the official client."""

from __future__ import annotations

import asyncio
import json
import math
import operator
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ollama
import openai
import psutil
import pytest

from tests.minilm import CONTEXT, WIDTH, install, minilm_gguf, pooling_last, ranking, with_nan
from tests.runtime_process import ROOT, Connection, Reply, RuntimeProcess, runtime
from tests.served import wait_for
from tests.starter_cache import variant_gguf

pytestmark = [pytest.mark.model, pytest.mark.timeout(180), pytest.mark.xdist_group("embedding")]

MODEL = "all-minilm"
SKY, GRASS = "why is the sky blue?", "why is the grass green?"
KNOWN = json.loads((ROOT / "tests" / "data" / "embeddings" / "all-minilm.json").read_text())
NAN_WORD = 29145  # "zebra"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("embedding")
    with runtime(folder / "store", folder / "log", OLLAMA_NUM_PARALLEL="4") as server:
        install(server, MODEL, minilm_gguf())
        yield server


@pytest.fixture(scope="module")
def client(server: RuntimeProcess) -> Iterator[ollama.Client]:
    with ollama.Client(server.url) as client:
        yield client


def embed(server: RuntimeProcess, given: Any, **more: Any) -> Reply:
    return server.send("POST", "/api/embed", {"model": MODEL, "input": given, **more})


def vectors(reply: Reply) -> list[list[float]]:
    assert reply.status == 200, reply.body
    return reply.json["embeddings"]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(map(operator.mul, one, other)) / math.hypot(*one) / math.hypot(*other)


def same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and cosine(one, other) > 0.9999


# the numbers


@pytest.mark.parametrize("known", KNOWN["ollama"], ids=lambda known: known["text"])
def test_the_vectors_are_those_that_a_real_ollama_gives(server: RuntimeProcess, known: dict):
    (vector,) = vectors(embed(server, known["text"]))
    assert len(vector) == WIDTH and same(vector, known["vector"])


def test_they_are_those_of_the_published_weights_and_tokenizer(server: RuntimeProcess):
    reply = embed(server, [known["text"] for known in KNOWN["computed"]])
    assert all(map(same, vectors(reply), (known["vector"] for known in KNOWN["computed"])))
    assert reply.json["prompt_eval_count"] == sum(known["tokens"] for known in KNOWN["computed"])


def test_every_vector_has_length_one_and_numbers_of_nine_digits_at_most(server: RuntimeProcess):
    reply = embed(server, [SKY, "x", "A longer sentence about nothing in particular."])
    for vector in vectors(reply):
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)
    numbers = reply.body.split(b"[[")[1].split(b"]]")[0].replace(b"],[", b",").split(b",")
    digits = [number.split(b"e")[0].lstrip(b"-").replace(b".", b"").lstrip(b"0") for number in numbers]
    assert max(map(len, digits)) <= 9


def test_dimensions_cut_and_make_it_length_one_again(server: RuntimeProcess):
    (whole,), (short,) = vectors(embed(server, SKY)), vectors(embed(server, SKY, dimensions=32))
    assert len(short) == 32 and same(short, whole[:32])
    assert math.hypot(*short) == pytest.approx(1, abs=1e-6)
    for ignored in (WIDTH, 5000, 0, -1, None):
        assert vectors(embed(server, SKY, dimensions=ignored)) == [whole]


# the answers


def test_an_answer_has_ollamas_fields_in_its_order(server: RuntimeProcess):
    reply = embed(server, SKY)
    fields = ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert list(reply.json) == fields
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert (reply.json["model"], reply.json["prompt_eval_count"]) == (MODEL, 8)
    assert 0 < reply.json["load_duration"] < reply.json["total_duration"]


def test_a_batch_keeps_its_order_and_adds_up_its_tokens(server: RuntimeProcess):
    texts = [f"sentence number {number}" for number in range(120)] + ["", SKY, ""]
    reply = embed(server, texts)
    alone = [vectors(embed(server, texts[index]))[0] for index in (0, 7, 119, 121)]
    found = vectors(reply)
    assert len(found) == len(texts)
    assert [found[index] for index in (0, 7, 119, 121)] == alone
    assert found[120] == found[122] != alone[0]  # an empty text has a vector too
    one = embed(server, "sentence number 5").json["prompt_eval_count"]
    assert reply.json["prompt_eval_count"] == 120 * one + 8 + 2 * 2


@pytest.mark.parametrize("nothing", [None, "", []])
def test_a_request_without_input_loads_and_answers_no_vectors(server: RuntimeProcess, nothing: Any):
    assert embed(server, nothing).body == b'{"model":"all-minilm","embeddings":[]}'
    assert [row["name"] for row in server.send("GET", "/api/ps").json["models"]] == ["all-minilm:latest"]


@pytest.mark.parametrize("given", [7, True, {"text": "x"}, ["x", 7], [["x"]], [None]])
def test_an_input_of_another_type_is_refused(server: RuntimeProcess, given: Any):
    reply = embed(server, given)
    assert (reply.status, reply.body) == (400, b'{"error":"invalid input type"}')


def test_the_legacy_route_answers_one_vector_of_float64(server: RuntimeProcess):
    reply = server.send("POST", "/api/embeddings", {"model": MODEL, "prompt": SKY})
    assert list(reply.json) == ["embedding"] and same(reply.json["embedding"], KNOWN["ollama"][0]["vector"])
    assert max(len(number) for number in reply.body.split(b",")[1:-1]) > 15
    empty = server.send("POST", "/api/embeddings", {"model": MODEL, "prompt": ""})
    assert empty.body == b'{"embedding":[]}'


# too long


@pytest.mark.parametrize(
    ("num_ctx", "truncate", "error"),
    [
        (3, False, "the input length exceeds the context length"),
        (1, True, "input after truncation exceeds maximum context length"),
        (0, None, "input exceeds maximum context length and cannot be truncated further"),
        (0, False, "the input length exceeds the context length"),
    ],
)
def test_a_text_that_cannot_be_fitted_is_refused(server: RuntimeProcess, num_ctx: int, truncate: Any, error: str):
    reply = embed(server, SKY, truncate=truncate, options={"num_ctx": num_ctx})
    assert (reply.status, reply.json) == (400, {"error": error})


@pytest.mark.parametrize("truncate", [None, True])
def test_a_longer_text_is_cut_to_the_context(server: RuntimeProcess, truncate: Any):
    cut = embed(server, SKY, truncate=truncate, options={"num_ctx": 3})
    assert same(vectors(cut)[0], vectors(embed(server, "why"))[0])
    assert cut.json["prompt_eval_count"] == 3


def test_it_is_cut_to_the_models_own_context_and_to_the_batch(server: RuntimeProcess):
    assert embed(server, "word " * 3000).json["prompt_eval_count"] == CONTEXT
    assert embed(server, "word " * 3000, options={"num_batch": 16}).json["prompt_eval_count"] == 16
    reply = embed(server, ["short", "word " * 3000], truncate=False)
    assert (reply.status, reply.json) == (400, {"error": "the input length exceeds the context length"})
    legacy = server.send("POST", "/api/embeddings", {"model": MODEL, "prompt": "word " * 3000})
    assert (legacy.status, legacy.json) == (500, {"error": "the input length exceeds the context length"})


def test_a_text_of_forty_megabytes_and_too_many_texts_have_an_answer(server: RuntimeProcess):
    assert embed(server, "word " * 8_000_000).json["prompt_eval_count"] == CONTEXT
    legacy = server.send("POST", "/api/embeddings", {"model": MODEL, "prompt": "word " * 8_000_000})
    assert (legacy.status, legacy.json) == (500, {"error": "the input length exceeds the context length"})
    many = embed(server, ["a"] * 200_000)
    assert many.status == 400 and "200000 inputs are too many for one request; send at most" in many.json["error"]


# the model


def test_it_is_an_embedding_model_to_show_and_tags(server: RuntimeProcess):
    shown = server.send("POST", "/api/show", {"model": MODEL}).json
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["bert.pooling_type"] == 1
    (listed,) = server.send("GET", "/api/tags").json["models"]
    assert listed["capabilities"] == ["embedding"]
    assert (listed["details"]["embedding_length"], listed["details"]["context_length"]) == (WIDTH, CONTEXT)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/api/generate", {"prompt": "hi"}, '"all-minilm" does not support generate'),
        ("/api/generate", {}, '"all-minilm" does not support generate'),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}, '"all-minilm" does not support chat'),
    ],
)
def test_it_completes_nothing(server: RuntimeProcess, path: str, body: dict, error: str):
    reply = server.send("POST", path, {"model": MODEL, **body})
    assert (reply.status, reply.json) == (400, {"error": error})


def test_it_has_one_slot_whatever_the_setting_and_its_memory_is_in_ps(server: RuntimeProcess):
    embed(server, SKY)
    (row,) = server.send("GET", "/api/ps").json["models"]
    assert row["context_length"] == CONTEXT
    assert minilm_gguf().stat().st_size < row["size"] < 2 * minilm_gguf().stat().st_size
    loads = [line for line in server.log.read_text().splitlines() if "loading all-minilm:latest" in line]
    assert loads and all("1 slots" in line for line in loads)


def test_it_is_unloaded_by_generate_and_by_a_keep_alive_of_zero(server: RuntimeProcess):
    embed(server, SKY)
    unloaded = server.send("POST", "/api/generate", {"model": MODEL, "keep_alive": 0})
    assert unloaded.json["done_reason"] == "unload"
    assert server.send("GET", "/api/ps").json == {"models": []}
    assert len(vectors(embed(server, SKY, keep_alive=0))) == 1
    wait_for("the model to go", lambda: server.send("GET", "/api/ps").json == {"models": []})
    embed(server, SKY, keep_alive="1h")
    assert len(server.send("GET", "/api/ps").json["models"]) == 1


# other models


@contextmanager
def installed(server: RuntimeProcess, name: str, gguf: Path) -> Iterator[None]:
    """A model for one test; afterwards neither it nor its worker is there."""
    install(server, name, gguf)
    try:
        yield
    finally:
        server.send("POST", "/api/generate", {"model": name, "keep_alive": 0})
        server.send("DELETE", "/api/delete", {"model": name})


def test_numbers_that_are_none_are_an_error_and_others_go_on(server: RuntimeProcess, tmp_path: Path):
    with installed(server, "broken", with_nan(tmp_path / "broken.gguf", NAN_WORD)):
        asked = {"model": "broken", "input": ["a horse", "a zebra"]}
        reply = server.send("POST", "/api/embed", asked)
        assert (reply.status, reply.json) == (400, {"error": "embedding contains NaN or Inf values"})
        assert server.send("POST", "/api/embed", asked | {"input": "a horse"}).status == 200
        legacy = server.send("POST", "/api/embeddings", {"model": "broken", "prompt": "a zebra"})
        assert (legacy.status, legacy.json) == (500, {"error": "embedding contains NaN or Inf values"})


def test_a_model_that_ranks_gives_no_vectors_and_says_so(server: RuntimeProcess, tmp_path: Path):
    with installed(server, "ranker", ranking(tmp_path / "ranker.gguf")):
        reply = server.send("POST", "/api/embed", {"model": "ranker", "input": SKY})
        assert reply.status == 501 and "ranker:latest ranks pairs of texts" in reply.json["error"]
        legacy = server.send("POST", "/api/embeddings", {"model": "ranker", "prompt": SKY})
        assert (legacy.status, legacy.json) == (500, reply.json)


def test_a_model_whose_last_token_speaks_takes_long_input_in_parts(server: RuntimeProcess, tmp_path: Path):
    with installed(server, "last", pooling_last(variant_gguf("q4_0"), tmp_path / "last.gguf")):
        text = "The quick brown fox jumps over the lazy dog. " * 20  # two batches
        asked = {"model": "last", "input": [text + "It is a red fox.", text + "It was a red fox.", "Stocks fell."]}
        reply = server.send("POST", "/api/embed", asked)
        alike, other, far = vectors(reply)
        assert reply.json["prompt_eval_count"] > 400
        assert cosine(alike, other) > cosine(alike, far)
        assert server.send("POST", "/api/show", {"model": "last"}).json["capabilities"] == ["embedding"]


# leaving, dying, together


@contextmanager
def long_work(server: RuntimeProcess) -> Iterator[Connection]:
    """A request of minutes, under way; left at the end."""
    embed(server, SKY)
    connection = server.start("/api/embed", {"model": MODEL, "input": ["a few words and a few more " * 70] * 2000})
    try:
        wait_for("the worker to compute", lambda: busy(server.one_worker()))
        yield connection
    finally:
        connection.close()


def busy(process: psutil.Process) -> bool:
    """Whether it uses the processor at all, be there little of it; an idle worker uses none."""
    try:
        return process.cpu_percent(interval=0.5) > 0
    except psutil.NoSuchProcess:
        return False


def test_a_client_that_leaves_takes_its_inputs_along(server: RuntimeProcess):
    with long_work(server):
        pass
    wait_for("the worker to rest", lambda: not busy(server.one_worker()))
    assert len(vectors(embed(server, SKY))) == 1


def test_another_clients_short_text_does_not_wait_for_a_long_batch(server: RuntimeProcess):
    with long_work(server):
        assert len(vectors(embed(server, SKY))) == 1
        wait_for("the long one to go on", lambda: busy(server.one_worker()))
    wait_for("the worker to rest", lambda: not busy(server.one_worker()))


def test_a_worker_that_dies_is_one_clear_error_and_the_next_request_is_answered(server: RuntimeProcess):
    with long_work(server) as connection:
        server.one_worker().kill()
        answer = connection.getresponse()
        said = json.loads(answer.read())["error"]
    assert answer.status == 500 and "unexpectedly stopped" in said
    assert len(vectors(embed(server, SKY))) == 1


def test_clients_at_once_get_their_own_vectors(server: RuntimeProcess):
    texts = [f"client {number} asks about {number * number}" for number in range(8)]
    expected = [vectors(embed(server, text))[0] for text in texts]

    async def all_at_once() -> list[list[list[float]]]:
        async with ollama.AsyncClient(server.url) as client:
            answers = await asyncio.gather(*(client.embed(MODEL, [text, SKY]) for text in texts))
        return [[list(vector) for vector in answer.embeddings] for answer in answers]

    for wanted, (own, sky) in zip(expected, asyncio.run(all_at_once()), strict=True):
        assert same(own, wanted) and same(sky, KNOWN["ollama"][0]["vector"])


def test_the_official_client_embeds_on_both_routes_and_reads_the_errors(client: ollama.Client):
    answer = client.embed(MODEL, [SKY, GRASS], dimensions=64, keep_alive="5m")
    assert [len(vector) for vector in answer.embeddings] == [64, 64]
    assert answer.prompt_eval_count == 16 and (answer.total_duration or 0) > 0
    assert same(client.embeddings(MODEL, SKY).embedding, KNOWN["ollama"][0]["vector"])
    with pytest.raises(ollama.ResponseError) as long:
        client.embed(MODEL, "word " * 3000, truncate=False)
    assert (long.value.status_code, long.value.error) == (400, "the input length exceeds the context length")
    with pytest.raises(ollama.ResponseError) as missing:
        client.embed("nope", SKY)
    assert (missing.value.status_code, missing.value.error) == (404, 'model "nope" not found, try pulling it first')
    with pytest.raises(ollama.ResponseError) as chat:
        client.chat(MODEL, [{"role": "user", "content": "hi"}])
    assert (chat.value.status_code, chat.value.error) == (400, '"all-minilm" does not support chat')


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}], ids=["as it comes, in base64", "float"])
def test_openais_client_gets_the_same_vectors_in_either_form(server: RuntimeProcess, form: Any):
    texts = [f"text number {number}" for number in range(60)] + [""]  # an answer of 400 kilobytes
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        answer = client.embeddings.create(model=MODEL, input=texts, **form)
        short = client.embeddings.create(model=MODEL, input=SKY, dimensions=8)
    native = embed(server, texts)
    assert [row.index for row in answer.data] == list(range(61))
    assert [array("f", row.embedding) for row in answer.data] == [array("f", vector) for vector in vectors(native)]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == native.json["prompt_eval_count"]
    assert (answer.object, answer.model, len(short.data[0].embedding)) == ("list", MODEL, 8)
