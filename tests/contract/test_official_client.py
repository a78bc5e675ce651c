"""The official `ollama` client, unmodified, against Loupe's own port with a real model behind it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from tests.recordings import recording
from tests.served import Served, http, served_app, wait_for
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("official client")]
MODEL = "smollm2:135m-instruct-q8_0"
QUESTION = "What is the capital of France?"
GREEDY = {"temperature": 0, "num_predict": 24}
MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("official") / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("q8_0", "q4_0"))
    with served_app(data, LOUPE_STARTER="off") as served:
        served.wait_ready()
        yield served


@pytest.fixture(scope="module")
def client(app: Served) -> Iterator[ollama.Client]:
    with ollama.Client(app.url) as client:
        yield client


def test_list_and_show_tell_what_is_there(client: ollama.Client) -> None:
    listed = client.list().models
    assert {model.model for model in listed} == {MODEL, MODEL.replace("q8_0", "q4_0")}
    shown = client.show(MODEL)
    assert shown.details is not None and shown.details.quantization_level == "Q8_0"
    assert shown.modelinfo is not None and shown.modelinfo["general.architecture"] == "llama"
    assert "completion" in (shown.capabilities or [])


def test_chat_and_generate_answer_paris_streamed_and_whole(client: ollama.Client) -> None:
    whole = client.chat(MODEL, MESSAGES, options=GREEDY)
    assert "Paris" in (whole.message.content or "") and whole.done and (whole.eval_count or 0) > 0
    pieces = list(client.chat(MODEL, MESSAGES, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert len(pieces) > 3 and [piece.done for piece in pieces][-2:] == [False, True]
    assert "Paris" in client.generate(MODEL, QUESTION, options=GREEDY).response
    streamed = client.generate(MODEL, QUESTION, options=GREEDY, stream=True)
    assert "Paris" in "".join(piece.response for piece in streamed)


def test_the_async_client_streams_too_and_two_at_once_both_end(app: Served) -> None:
    async def ask(client: ollama.AsyncClient) -> str:
        stream = await client.chat(MODEL, MESSAGES, options=GREEDY, stream=True)
        return "".join([piece.message.content or "" async for piece in stream])

    async def both() -> list[str]:
        async with ollama.AsyncClient(app.url) as client:
            return await asyncio.gather(ask(client), ask(client))

    assert all("Paris" in text for text in asyncio.run(both()))


def test_load_shows_in_ps_and_unload_takes_it_out(client: ollama.Client) -> None:
    assert client.generate(MODEL, keep_alive="5m").done_reason == "load"
    loaded = [model for model in client.ps().models if model.model == MODEL]
    assert len(loaded) == 1 and (loaded[0].size or 0) > 100 << 20
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert MODEL not in [model.model for model in client.ps().models]


def test_errors_have_ollamas_status_and_words(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("nope:latest", MESSAGES)
    assert (missing.value.status_code, missing.value.error) == (404, "model 'nope:latest' not found")
    with pytest.raises(ollama.ResponseError) as option:
        client.generate(MODEL, QUESTION, options={"num_ctx": "many"})
    assert (option.value.status_code, option.value.error) == (500, 'option "num_ctx" must be of type integer')
    with pytest.raises(ollama.ResponseError) as name:
        client.show("no//thing")
    assert (name.value.status_code, name.value.error) == (400, "invalid model name")


def test_copy_and_delete_are_the_local_users_and_create_is_not(client: ollama.Client) -> None:
    client.copy(MODEL, "a-copy")
    assert "a-copy:latest" in [model.model for model in client.list().models]
    client.delete("a-copy")
    assert "a-copy:latest" not in [model.model for model in client.list().models]
    with pytest.raises(ollama.ResponseError) as refused:
        client.create("mine", from_=MODEL, system="Be brief.")
    assert refused.value.status_code == 403 and "LOUPE_ALLOW_CREATE" in refused.value.error


def test_where_it_is_allowed_create_quantizes_and_the_new_variant_answers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("fp16",))
    with served_app(data, LOUPE_STARTER="off", LOUPE_ALLOW_CREATE="on") as app, ollama.Client(app.url) as client:
        app.wait_ready()
        made = "smollm2:135m-instruct-q4_K_S"
        steps = [step.status for step in client.create(made, from_=f"{MODEL[:-4]}fp16", quantize="q4_K_S", stream=True)]
        assert steps[-1] == "success"
        assert client.show(made).details.quantization_level == "Q4_K_S"  # type: ignore[union-attr]
        assert "Paris" in (client.chat(made, MESSAGES, options=GREEDY).message.content or "")


def test_a_deterministic_question_asked_again_is_answered_from_the_cache_and_says_so(app: Served) -> None:
    def ask(**more: object) -> tuple[str, str]:
        body = {"model": MODEL, "messages": MESSAGES, "stream": False, "options": {**GREEDY, "num_ctx": 1024}, **more}
        with urllib.request.urlopen(f"{app.url}/api/chat", json.dumps(body).encode(), timeout=60) as answer:
            return answer.headers["X-Loupe-Cache"], json.loads(answer.read())["message"]["content"]

    def stored() -> int:
        return int(json.loads(http(f"{app.url}/loupe/cache")[1])["stored"])

    before = stored()
    first, text = ask()
    wait_for("the answer to be kept", lambda: stored() > before)
    again, same = ask()
    assert (first.split(";")[0], again.split(";")[0], text) == ("miss", "hit", same)


def test_curl_d_sends_a_forms_content_type_and_is_understood(app: Served) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "stream": False, "options": GREEDY}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = http(f"{app.url}/api/chat", body, headers=form)
    assert status == 200 and "Paris" in json.loads(answer)["message"]["content"]
    from_a_page = {**form, "Origin": app.url}
    assert http(f"{app.url}/api/chat", body, headers=from_a_page)[0] in (400, 403, 415)


@pytest.mark.parametrize("case", ["unknown_path", "wrong_method", "version", "root_head", "root_get"])
def test_plain_routes_answer_as_recorded(app: Served, case: str) -> None:
    recorded = recording(case)
    status, body = http(app.url + recorded.request.path, method=recorded.request.method)
    assert status == recorded.status
    if recorded.text is not None and recorded.request.method != "HEAD":
        assert body.decode() == recorded.text
