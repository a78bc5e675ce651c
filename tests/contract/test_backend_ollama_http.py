"""One Ollama host over a real socket: recordings replayed byte for byte, faults told as ours, hanging up noticed."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import pytest

from app.backends.ollama_http import HostTimeouts, OllamaHttp
from app.backends.translation import FROM_AIOHTTP, translated
from app.core.errors import (
    GenerationFailed,
    HostError,
    HostProtocolError,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    ModelNotFound,
)
from app.core.generation import Chunk, GenerationRequest, Usage
from app.core.hosts import HostAddress
from tests.faultproxy import Bandwidth, LimitData, faulty
from tests.recordings import recording
from tests.stub_ollama import MODEL, Cut, Reply, StubOllama, error, lines, served

pytestmark = pytest.mark.anyio
CHAT = GenerationRequest("chat", {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
GENERATE = GenerationRequest("generate", {"model": MODEL, "prompt": "Hi"})


@pytest.fixture
async def stub() -> StubOllama:
    return StubOllama()


@pytest.fixture
async def host(stub: StubOllama) -> AsyncIterator[OllamaHttp]:
    async with served(stub) as url:
        backend = OllamaHttp(HostAddress("stub", url, key="secret"))
        yield backend
        await backend.close()


async def collect(backend: OllamaHttp, request: GenerationRequest = CHAT) -> list[Chunk]:
    async with aclosing(backend.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize("name", ["chat_stream", "chat_logprobs", "chat_q4_K_M"])
async def test_a_chat_stream_comes_out_byte_for_byte(stub, host, name):
    stub.on("/api/chat", lines(name))
    chunks = await collect(host)
    assert [chunk.line.decode() for chunk in chunks] == list(recording(name).lines)
    assert chunks[-1].done
    assert "".join(chunk.text for chunk in chunks) == "".join(r["message"]["content"] for r in recording(name).chunks)


async def test_counts_of_the_last_record_become_usage(stub, host):
    chunks = await collect(host)
    last = recording("chat_stream").chunks[-1]
    assert chunks[-1].done_reason == "stop"
    assert chunks[-1].usage == Usage(
        last["total_duration"], last["load_duration"], 18, last["prompt_eval_duration"], 8, last["eval_duration"]
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_load_and_render_answers_are_one_whole_chunk(stub, host):
    [load] = await collect(host, GenerationRequest("chat", {"model": MODEL, "messages": []}))
    assert load.whole
    assert load.line.decode() == recording("chat_load").text
    stub.on("/api/generate", lines("generate_render"))
    [rendered] = await collect(host, GENERATE)
    assert rendered.whole
    assert not rendered.done


async def test_the_request_is_always_streamed_and_carries_the_key(stub, host):
    await collect(host, CHAT.with_body(stream=False, unknown_field=[1]))
    [asked] = stub.asked_for("/api/chat")
    assert asked.json == {**CHAT.body, "stream": True, "unknown_field": [1]}
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("cut_at", [1, 2, 7, 1000])
async def test_unicode_line_separators_do_not_split_a_record(stub, host, cut_at):
    text = "a\u0085b\u2028c\u2029d\u000b"
    line = (
        '{"model":"m","message":{"role":"assistant","content":"' + text.replace("\x0b", "\\u000b") + '"},"done":false}'
    ).encode()
    body = line + b"\r\n\n" + b'{"model":"m","message":{"content":""},"done":true,"done_reason":"stop"}'
    stub.on("/api/chat", Reply([body[at : at + cut_at] for at in range(0, len(body), cut_at)]))
    chunks = await collect(host)
    assert [chunk.text for chunk in chunks] == [text, ""]
    assert chunks[0].line == line


async def test_an_error_record_in_the_stream_is_a_failed_generation(stub, host):
    first = recording("chat_stream").lines[0].encode() + b"\n"
    stub.on("/api/chat", Reply([first, b'{"error":"an error was encountered while running the model"}\n']))
    seen = []
    with pytest.raises(GenerationFailed, match="while running the model"):
        async for chunk in host.stream(CHAT):
            seen.append(chunk.text)
    assert seen == ["The"]


@pytest.mark.parametrize("keep", range(8))
async def test_a_stream_without_its_end_is_a_protocol_error(stub, host, keep):
    parts = [line.encode() + b"\n" for line in recording("chat_stream").lines[:keep]]
    stub.on("/api/chat", Reply(parts))
    with pytest.raises(HostProtocolError, match="before it was done"):
        await collect(host)


@pytest.mark.parametrize("keep", range(1, 8))
async def test_a_broken_connection_is_a_protocol_error(stub, host, keep):
    parts = [line.encode() + b"\n" for line in recording("chat_stream").lines[:keep]]
    stub.on("/api/chat", Reply([*parts, Cut()]))
    with pytest.raises(HostProtocolError):
        await collect(host)


@pytest.mark.parametrize("body", [b"<html>\n", b"[1]\n", b'"text"\n', b"\xff\xfe\n", b"[" * 5000 + b"\n"])
async def test_nonsense_in_the_stream_is_a_protocol_error(stub, host, body):
    stub.on("/api/chat", Reply([body]))
    with pytest.raises(HostProtocolError):
        await collect(host)


async def test_a_line_without_end_is_given_up_at_eight_megabytes(stub, host):
    stub.on("/api/chat", Reply([b"x" * (1 << 20)] * 9))
    with pytest.raises(HostProtocolError, match="longer than 8388608 bytes"):
        await collect(host)


async def test_data_after_the_end_is_ignored(stub, host):
    stub.on(
        "/api/chat", Reply([line.encode() + b"\n" for line in recording("chat_stream").lines] + [b"garbage\n", Cut()])
    )
    assert (await collect(host))[-1].done


async def test_a_missing_model_keeps_the_hosts_words(stub, host):
    stub.on("/api/generate", lines("missing_generate"))
    with pytest.raises(ModelNotFound) as caught:
        await collect(host, GENERATE)
    assert caught.value.message == recording("missing_generate").body["error"]


@pytest.mark.parametrize("name", ["busy_queue_full", "generate_bad_schema", "generate_bad_option", "chat_tools"])
async def test_an_error_status_is_passed_on_word_for_word(stub, host, name):
    told = recording(name)
    stub.on("/api/generate", lines(name))
    with pytest.raises(HostRefused) as caught:
        await collect(host, GENERATE)
    assert (caught.value.status, caught.value.body.decode()) == (told.status, told.text)
    assert caught.value.message == told.body["error"]
    assert caught.value.busy is (told.status == 503)


async def test_a_server_that_is_no_ollama_is_a_protocol_error(stub, host):
    stub.on("/api/chat", Reply([b"404 page not found"], 404, "text/plain"))
    with pytest.raises(HostProtocolError):
        await collect(host)
    stub.on("/api/version", Reply([b"<html>hello</html>"], 200, "text/html"))
    with pytest.raises(HostProtocolError):
        await host.version()


async def test_redirects_are_not_followed(stub, host):
    stub.on("/api/tags", Reply([], 302, headers={"location": "http://169.254.169.254/latest"}))
    with pytest.raises(HostProtocolError, match="redirects"):
        await host.models()
    assert [asked.path for asked in stub.asked] == ["/api/tags"]


async def test_closing_the_iterator_hangs_up_at_once(stub, host):
    stub.on("/api/chat", Reply([recording("chat_stream").lines[0].encode() + b"\n", asyncio.Event()]))
    chunks = host.stream(CHAT)
    assert (await anext(chunks)).text == "The"
    await chunks.aclose()
    await asyncio.wait_for(stub.hung_up.wait(), 1)


async def test_cancelling_the_reader_hangs_up_at_once_also_before_the_first_byte(stub, host):
    stub.on("/api/chat", Reply([asyncio.Event()]))
    reading = asyncio.create_task(collect(host))
    async with asyncio.timeout(5):
        while not stub.asked_for("/api/chat"):
            await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait_for(stub.hung_up.wait(), 1)
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_the_connection_is_used_again_after_a_complete_answer(stub):
    async with served(stub) as url, faulty(url) as (proxy, address):
        backend = OllamaHttp(HostAddress("stub", address))
        for _ in range(3):
            await collect(backend)
        assert proxy.connections == 1
        await backend.close()


async def test_silence_before_the_first_token_and_in_mid_answer_are_told_apart(stub):
    impatient = HostTimeouts(first_token=0.05, stall=0.05, short=0.05)
    async with served(stub) as url:
        backend = OllamaHttp(HostAddress("stub", url), timeouts=impatient)
        stub.on("/api/chat", Reply([asyncio.Event()]))
        with pytest.raises(HostTimeout) as caught:
            await collect(backend)
        assert caught.value.phase == "first token"
        stub.on("/api/chat", Reply([recording("chat_stream").lines[0].encode() + b"\n", asyncio.Event()]))
        with pytest.raises(HostTimeout) as caught:
            await collect(backend)
        assert caught.value.phase == "stall"
        stub.on("/api/ps", Reply([asyncio.Event()]))
        with pytest.raises(HostTimeout):
            await backend.loaded()
        await backend.close()


async def test_a_byte_now_and_then_is_no_answer(stub):
    impatient = HostTimeouts(first_token=0.3, stall=0.3, short=0.3)
    async with served(stub) as url, faulty(url) as (proxy, address):
        backend = OllamaHttp(HostAddress("stub", address), timeouts=impatient)
        drip = await proxy.add(Bandwidth(100))
        with pytest.raises(HostTimeout):
            await collect(backend)
        with pytest.raises(HostTimeout):
            await backend.models()
        await proxy.remove(drip)
        go_on, told = asyncio.Event(), [line.encode() + b"\n" for line in recording("chat_stream").lines]
        stub.on("/api/chat", Reply([told[0], go_on, *told[1:]]))
        chunks = backend.stream(CHAT)
        assert (await anext(chunks)).text == "The"
        await proxy.add(Bandwidth(100))
        go_on.set()
        with pytest.raises(HostTimeout) as caught:
            async for _ in chunks:
                continue
        assert caught.value.phase == "stall"
        await backend.close()


async def test_nobody_listening_is_unreachable(free_port):
    backend = OllamaHttp(HostAddress("gone", f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(HostUnreachable):
        await collect(backend)
    with pytest.raises(HostUnreachable):
        await backend.version()
    await backend.close()
    with pytest.raises(HostUnreachable):
        await backend.version()


@pytest.mark.parametrize("then", ["reset", "close"])
@pytest.mark.parametrize("after", [0, 1, 40, 200, 500])
async def test_a_connection_that_breaks_at_any_byte_is_a_protocol_error(stub, then, after):
    async with served(stub) as url, faulty(url) as (proxy, address):
        await proxy.add(LimitData(after, then))
        backend = OllamaHttp(HostAddress("stub", address))
        with pytest.raises(HostProtocolError):
            await collect(backend)
        await backend.close()


async def test_lists_are_read_whole(stub, host):
    stub.on("/api/tags", lines("tags"))
    rows = recording("tags").body["models"]
    models = await host.models()
    assert [model.name for model in models] == [row["name"] for row in rows]
    assert models[0].details.context_length == 8192
    assert models[0].capabilities == ("completion",)
    assert models[0].digest == rows[0]["digest"]
    [loaded] = await host.loaded()
    assert (loaded.context_length, loaded.size_vram, loaded.size) == (512, 0, 295782316)
    shown = await host.show(MODEL)
    assert shown.info["general.architecture"] == "llama"
    assert shown.tensors


async def test_version_tells_the_server_header_too(stub, host):
    stub.on("/api/version", Reply([b'{"version":"0.33.0"}'], 200, "application/json", {"server": "loupe-runtime/1"}))
    version, server = await host.version()
    assert version == "0.33.0"
    assert "loupe-runtime/1" in server


async def test_forward_passes_error_statuses_through(stub, host):
    stub.on("/api/copy", lines("missing_copy"))
    answer = await host.forward("POST", "/api/copy", b'{"source":"a","destination":"b"}')
    assert (answer.status, answer.body.decode()) == (404, recording("missing_copy").text)
    assert answer.content_type.startswith("application/json")


async def test_forward_stream_gives_lines_and_refuses_before_the_first(stub, host):
    stub.on("/api/pull", lines("pull_missing"))
    got = [line.decode() async for line in host.forward_stream("POST", "/api/pull", b'{"model":"x"}')]
    assert got == list(recording("pull_missing").lines)
    stub.on("/api/pull", error(400, "invalid model name"))
    with pytest.raises(HostRefused) as caught:
        async for _ in host.forward_stream("POST", "/api/pull", b"{}"):
            pass
    assert (caught.value.status, caught.value.message) == (400, "invalid model name")


async def test_an_upload_streams_its_body(stub, host):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"12345"

    stub.on("/api/blobs/sha256:ab", Reply([], 201))
    assert [line async for line in host.forward_stream("POST", "/api/blobs/sha256:ab", pieces())] == []
    [asked] = stub.asked_for("/api/blobs/sha256:ab")
    assert asked.body == b"12345" * 3


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_port_where_nobody_listens_is_told_in_words_of_the_system(name):
    """And not in those of the event loop, which name what they called."""
    host = OllamaHttp(HostAddress("away", f"http://{name}:9"))
    with pytest.raises(HostUnreachable, match=r"away does not answer: connection refused$"):
        await host.version()
    await host.close()


def test_every_exception_class_of_the_client_library_has_its_translation():
    classes = {value for value in vars(aiohttp).values() if inspect.isclass(value) and issubclass(value, Exception)}
    known = (OSError, *(kind for kind, _ in FROM_AIOHTTP))
    others = {one.__name__ for one in classes if not issubclass(one, known)}
    of_websockets = {"WebSocketError", "WSMessageTypeError"}
    of_forms = {"BadContentDispositionHeader", "BadContentDispositionParam", "EofStream"}
    assert len(classes) > 20 and others == of_websockets | of_forms


@pytest.mark.parametrize("foreign", [OSError("disk"), socket.gaierror(-2, "Name or service not known")])
def test_errors_of_the_system_are_translated_and_bugs_are_not(foreign):
    assert isinstance(translated("h", foreign), HostError)
    assert translated("h", ValueError("bug")) is None
