"""Hostile requests to the real runtime over real sockets: one clear answer each, and the others never notice.

While each case runs, another client keeps asking for the version and for a token of another model.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.runtime_process import RuntimeProcess, runtime
from tests.served import wait_for
from tests.starter_cache import linked_store

pytestmark = pytest.mark.model

Q4, OTHER = "smollm2:135m-instruct-q4_0", "smollm2:135m-instruct-q2_K"
OPTIONS = {"num_predict": 2, "num_ctx": 512, "temperature": 0}
GENERATE: dict[str, Any] = {"model": Q4, "prompt": "Hi", "stream": False, "options": OPTIONS}
PATIENCE = 60.0  # seconds for any answer on a busy machine
VERSION_PATIENCE, TOKEN_PATIENCE = 5.0, 30.0  # for the other client
MEGABYTE = 1 << 20


class Watcher:
    """The other client: what it asks is answered, and soon."""

    def __init__(self, server: RuntimeProcess) -> None:
        self._server, self._stop = server, threading.Event()
        self.wrong: list[str] = []
        self.rounds = 0
        self._thread = threading.Thread(target=self._run, name="other client")

    def _run(self) -> None:
        asked = {**GENERATE, "model": OTHER, "options": {**OPTIONS, "num_predict": 1}}
        while not self._stop.is_set():
            self._timed("GET", "/api/version", None, VERSION_PATIENCE)
            self._timed("POST", "/api/generate", asked, TOKEN_PATIENCE)
            self.rounds += 1
            self._stop.wait(0.05)

    def _timed(self, method: str, path: str, body: Any, patience: float) -> None:
        began = time.monotonic()
        try:
            status = self._server.send(method, path, body).status
        except OSError as error:
            status = repr(error)
        if status != 200 or time.monotonic() - began > patience:
            self.wrong.append(f"{path}: {status} after {time.monotonic() - began:.1f} s")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    store = linked_store(folder / "store", ("q4_0", "q2_K"))
    with runtime(store, folder / "log", OLLAMA_MAX_LOADED_MODELS="2") as process:
        for model in (Q4, OTHER):
            assert process.send("POST", "/api/generate", {**GENERATE, "model": model}).status == 200
        yield process


@pytest.fixture
def others_go_on(server: RuntimeProcess) -> Iterator[Watcher]:
    watcher = Watcher(server)
    watcher.start()
    yield watcher
    rounds = watcher.rounds
    wait_for("the other client to be answered once more", lambda: watcher.rounds > rounds or watcher.wrong, PATIENCE)
    watcher.end()
    assert not watcher.wrong


@contextmanager
def same_workers(server: RuntimeProcess) -> Iterator[None]:
    still_answers(server)  # a case before may have left the model loaded in its own way
    before = {worker.pid for worker in server.workers()}
    yield
    assert {worker.pid for worker in server.workers()} == before


def still_answers(server: RuntimeProcess) -> None:
    assert server.send("POST", "/api/generate", GENERATE).json["done"] is True


def memory(server: RuntimeProcess) -> int:
    return psutil.Process(server.pid).memory_info().rss


def body(**fields: Any) -> bytes:
    return json.dumps({**GENERATE, **fields}).encode()


def raw(prompt: bytes, more: bytes = b"") -> bytes:
    return b'{"model":"' + Q4.encode() + b'","stream":false,' + more + b'"prompt":"' + prompt + b'"}'


ANSWERED = b',"options":' + json.dumps(OPTIONS).encode() + b","
BODIES: dict[str, tuple[bytes, int, str]] = {
    "lists in lists": (b'{"model":"x","options":' + b"[" * 100_000, 400, "exceeded max depth"),
    "objects in objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "exceeded max depth"),
    "NaN": (raw(b"Hi", b'"options":{"temperature":NaN},'), 400, "invalid character 'N' looking for"),
    "infinity": (raw(b"Hi", b'"options":{"temperature":Infinity},'), 400, "invalid character 'I' looking for"),
    "minus infinity": (raw(b"Hi", b'"options":{"temperature":-Infinity},'), 400, "invalid character 'I' in numeric"),
    "a number past every float": (raw(b"Hi", b'"options":{"seed":1e999},'), 400, "cannot unmarshal number"),
    "a number of a million digits": (raw(b"Hi", b'"top_logprobs":' + b"9" * MEGABYTE + b","), 400, "cannot unmarshal"),
    "a huge whole number": (raw(b"Hi", b'"context":[' + b"9" * 30 + b"],"), 400, "cannot unmarshal number"),
    "numbers by the million": (raw(b"Hi", b'"context":[' + b"1," * 9_000_000 + b"1],"), 400, "more than 300000 values"),
    "lists by the million": (b"[" + b"[]," * 10_000_000 + b"[]]", 400, "more than 300000 values"),
    "keys by the million": (b"{" + b'"k":1,' * 5_000_000 + b'"k":1}', 400, "more than 300000 values"),
    "40 MB of prompt": (raw(b"word " * (8 * MEGABYTE), ANSWERED[1:]), 400, "longer than 1048576 characters"),
    "40 MB of a string that does not end": (b'{"a":"' + b"x" * (40 * MEGABYTE), 400, "unexpected EOF"),
    "40 MB of escapes": (raw(b"\\ud800" * (6 * MEGABYTE), ANSWERED[1:]), 400, "longer than 1048576 characters"),
    "40 MB of spaces": (b" " * (40 * MEGABYTE), 400, "missing request body"),
    "40 MB of an unknown key": (raw(b"Hi", b'"else":"' + b"x" * (40 * MEGABYTE) + b'"' + ANSWERED), 200, ""),
    "65 MB": (b"x" * (65 * MEGABYTE), 413, "larger than 67108864 bytes"),
    "bytes that are no text": (raw(b"\xff\xfe\x80 Hi", ANSWERED[1:]), 200, ""),
    "half a surrogate": (raw(b"\\ud800 Hi \\udc00", ANSWERED[1:]), 200, ""),
    "a NUL": (raw(b"Hi\\u0000Hi", ANSWERED[1:]), 200, ""),
    "a bare NUL": (raw(b"Hi\0Hi"), 400, "in string literal"),
    "a key twice": (b'{"model":"absent",' + raw(b"Hi", ANSWERED[1:])[1:], 200, ""),
    "a byte order mark": (b"\xef\xbb\xbf" + raw(b"Hi"), 400, "looking for beginning of value"),
    "another encoding": (raw(b"Hi").decode().encode("utf-16"), 400, "looking for beginning of value"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_gets_one_clear_answer(server: RuntimeProcess, others_go_on: Watcher, name: str):
    content, status, said = BODIES[name]
    with same_workers(server):
        reply = server.send("POST", "/api/generate", content)
    assert reply.status == status
    if status == 200:
        assert reply.json["done"] is True
    else:
        assert list(reply.json) == ["error"]
        assert said in reply.json["error"]
    still_answers(server)


def test_large_bodies_one_after_the_other_leave_no_memory_behind(server: RuntimeProcess):
    content = raw(b"word " * (8 * MEGABYTE), ANSWERED[1:])
    assert server.send("POST", "/api/generate", content).status == 400
    before = memory(server)
    for _ in range(5):
        assert server.send("POST", "/api/generate", content).status == 400
    assert memory(server) < before + 200 * MEGABYTE


def test_bodies_that_are_only_half_sent_hold_no_more_than_their_share(server: RuntimeProcess, others_go_on: Watcher):
    before = memory(server)
    refused: list[socket.socket] = []
    kept = [begun(server, 60 * MEGABYTE, b"x" * (50 * MEGABYTE)) for _ in range(5)]
    for each in kept:
        each.sendall(b"y" * MEGABYTE)
    sixth = begun(server, 60 * MEGABYTE, b"x" * (60 * MEGABYTE))
    refused = [each for each in (*kept, sixth) if first_bytes(each).startswith(b"HTTP/1.1 503")]
    assert refused
    assert memory(server) < before + 500 * MEGABYTE
    for each in (*kept, sixth):
        each.close()
    wait_for("the next large body to be read", lambda: server.send("POST", "/api/show", b" " * MEGABYTE).status == 400)


def begun(server: RuntimeProcess, length: int | str, sent: bytes, more: str = "") -> socket.socket:
    """A request whose head is there, and `sent` of its body."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{more}\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def first_bytes(connection: socket.socket, patience: float = 0.5) -> bytes:
    """What has come within `patience` seconds."""
    connection.settimeout(patience)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return b""


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    connection.close()
    return received


CLOSE = "Connection: close\r\n"


def test_a_body_shorter_than_announced_is_dropped_with_its_connection(server: RuntimeProcess, others_go_on: Watcher):
    for length in (1000, 10**9, 2**63 - 1):
        connection = begun(server, length, body()[:50])
        connection.shutdown(socket.SHUT_WR)
        assert b"200 OK" not in everything(connection)
    still_answers(server)


def test_a_body_longer_than_announced_is_cut_there(server: RuntimeProcess, others_go_on: Watcher):
    answer = everything(begun(server, 10, body(), CLOSE))
    assert answer.startswith(b"HTTP/1.1 400") and b"unexpected EOF" in answer
    still_answers(server)


@pytest.mark.parametrize("length", ["-1", "12x", "0x10", "99999999999999999999999", "5, 6", ""])
def test_a_length_that_is_none_is_refused(server: RuntimeProcess, others_go_on: Watcher, length: str):
    connection = begun(server, length, body())
    assert first_bytes(connection, PATIENCE).startswith(b"HTTP/1.1 400")
    connection.close()
    still_answers(server)


@pytest.mark.parametrize("chunks", [b"zz\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nabc", b"-5\r\nabc\r\n0\r\n\r\n"])
def test_chunks_that_lie_are_refused(server: RuntimeProcess, others_go_on: Watcher, chunks: bytes):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    head = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + chunks)
    assert first_bytes(connection, PATIENCE).startswith(b"HTTP/1.1 400")
    connection.close()
    still_answers(server)


def test_a_body_in_single_bytes_is_read(server: RuntimeProcess, others_go_on: Watcher):
    content = body()
    connection = begun(server, len(content), b"", CLOSE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in content:
        connection.sendall(bytes([byte]))
    assert everything(connection).startswith(b"HTTP/1.1 200")


def test_requests_sent_in_one_breath_are_answered_in_order(server: RuntimeProcess, others_go_on: Watcher):
    content = body()
    head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"
    bad = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n{"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(f"{head}\r\n".encode() + content + bad + f"{head}{CLOSE}\r\n".encode() + content)
    answers = everything(connection)
    assert [answers.count(status) for status in (b"HTTP/1.1 200", b"HTTP/1.1 400")] == [2, 1]
    assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 400") < answers.rindex(b"HTTP/1.1 200")
    still_answers(server)


def test_a_head_without_end_is_refused(server: RuntimeProcess, others_go_on: Watcher):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    try:
        for _ in range(100):
            connection.sendall(b"X: " + b"a" * MEGABYTE + b"\r\n")
    except OSError:
        pass  # it was refused while it was being sent
    connection.close()
    assert memory(server) < 700 * MEGABYTE
    still_answers(server)


OPTION_CASES: dict[str, dict[str, Any]] = {
    "top_k -1": {"top_k": -1},
    "top_k past every integer": {"top_k": 10**18},
    "num_predict -5": {"num_predict": -5, "stop": ["e", " ", ","]},
    "num_predict past every integer": {"num_predict": 2**63 - 1, "stop": ["e", " ", ","]},
    "10,000 stops": {"stop": [f"stop {number}" for number in range(10_000)]},
    "a stop of a megabyte": {"stop": ["x" * MEGABYTE]},
    "empty stops": {"stop": ["", ""]},
    "temperatures": {"temperature": 1e308},
    "a negative temperature": {"temperature": -1e308},
    "nothing but zeros": dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "top_k"), 0),
    "shares out of range": {"top_p": -7, "min_p": 1e30, "typical_p": -1e30, "repeat_penalty": -1e30},
    "penalties out of range": {"presence_penalty": 1e300, "frequency_penalty": -1e300},
    "num_keep and repeat_last_n": {"num_keep": 10**9, "repeat_last_n": 10**9},
    "the same below zero": {"num_keep": -9, "repeat_last_n": -9},
    "seeds": {"seed": -(2**63)},
}


@pytest.mark.parametrize("name", OPTION_CASES)
def test_an_absurd_option_is_brought_within_its_range(server: RuntimeProcess, others_go_on: Watcher, name: str):
    with same_workers(server):
        reply = server.send("POST", "/api/generate", body(options={**OPTIONS, **OPTION_CASES[name]}))
    assert (reply.status, reply.json.get("done")) == (200, True), reply.body


RELOADING: dict[str, dict[str, Any]] = {
    "num_ctx of a billion": {"num_ctx": 10**9},
    "num_ctx -5": {"num_ctx": -5},
    "a million threads": {"num_thread": 10**6},
    "threads below zero": {"num_thread": -(10**6)},
    "num_batch of a billion": {"num_batch": 10**9},
    "num_batch -5": {"num_batch": -5},
    "num_gpu and main_gpu": {"num_gpu": 10**9, "main_gpu": -7},
}


@pytest.mark.parametrize("name", RELOADING)
def test_an_absurd_option_that_reloads_is_brought_within_its_range(
    server: RuntimeProcess, others_go_on: Watcher, name: str
):
    reply = server.send("POST", "/api/generate", body(options={**OPTIONS, "num_predict": 1, **RELOADING[name]}))
    assert (reply.status, reply.json.get("done")) == (200, True), reply.body


LONG: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat of a thousand messages": ("/api/chat", {"messages": [{"role": "user", "content": "one two three"}] * 1000}),
    "a thousand system messages": ("/api/chat", {"messages": [{"role": "system", "content": "one two"}] * 1000}),
    "a megabyte": ("/api/generate", {"prompt": "word " * 200_000}),
    "a megabyte, raw": ("/api/generate", {"prompt": "a" * MEGABYTE, "raw": True}),
    "special tokens": ("/api/generate", {"prompt": "<|im_start|>" * 60_000}),
    "special tokens, raw": ("/api/generate", {"prompt": "<|im_start|>" * 80_000, "raw": True}),
    "a context of special tokens": ("/api/generate", {"prompt": "Hi", "context": [1] * 250_000}),
    "a context of words": ("/api/generate", {"prompt": "Hi", "context": [28120] * 250_000}),
}


@pytest.mark.parametrize("name", LONG)
def test_a_prompt_far_beyond_the_context_is_cut_in_bounded_time(
    server: RuntimeProcess, others_go_on: Watcher, name: str
):
    path, fields = LONG[name]
    asked = {"model": Q4, "stream": False, "options": OPTIONS, **fields}
    with same_workers(server):
        reply = server.send("POST", path, asked)
    assert (reply.status, reply.json.get("done")) == (200, True), reply.body
    assert reply.json["prompt_eval_count"] <= OPTIONS["num_ctx"]


@pytest.mark.parametrize("name", ["a megabyte, raw", "special tokens, raw", "a context of words"])
def test_the_same_prompt_is_refused_at_once_where_it_must_not_be_cut(
    server: RuntimeProcess, others_go_on: Watcher, name: str
):
    path, fields = LONG[name]
    reply = server.send("POST", path, {**GENERATE, **fields, "truncate": False})
    assert reply.status == 400
    assert "longer than the context length" in reply.json["error"]


@pytest.mark.parametrize("token", [-1, 49_152, 10**9, 2**31, -(2**63)])
def test_a_token_that_the_model_does_not_have_is_one_clear_error(server: RuntimeProcess, token: int):
    with same_workers(server):
        reply = server.send("POST", "/api/generate", body(context=[token]))
    assert reply.status in (400, 500)
    assert list(reply.json) == ["error"]


def nested(depth: int, make: Any, last: Any) -> Any:
    for _ in range(depth):
        last = make(last)
    return last


def chain(length: int, link: Any, last: Any) -> dict[str, Any]:
    """Definitions each of which names the next one as often as `link` does: two to the power of `length` in all."""
    definitions = {f"d{at}": link({"$ref": f"#/$defs/d{at + 1}"}) for at in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": last}}


def pattern(text: str) -> dict[str, Any]:
    return {"type": "string", "pattern": text}


TEXT = {"type": "string"}
HELD_TO: dict[str, Any] = {
    "quantifiers inside quantifiers": pattern("^((a+)+)+$"),
    "ambiguous alternatives": pattern("^(a|a)*b$"),
    "a billion repetitions": pattern("^a{1,1000000000}$"),
    "repetitions of repetitions": pattern("^(((a{0,50}){0,50}){0,50}){0,50}$"),
    "states without number": pattern("^(.*a.{15}){3}$"),
    "a long way back": pattern("^(.*a.{400})$"),
    "many optional letters": pattern("^" + "b?" * 100 + "c" * 20 + "$"),
    "parentheses": pattern("^" + "(" * 200 + "a" + ")" * 200 + "$"),
    "a text of exact length": {**TEXT, "minLength": 10_000, "maxLength": 10_000},
    "lists of lists of lists": nested(5, lambda s: {"type": "array", "items": s, "minItems": 10_000}, TEXT),
    "2,000 choices": {"enum": [f"choice {number}" for number in range(2000)]},
    "3,000 optional keys": {"type": "object", "properties": {f"p{number}": TEXT for number in range(3000)}},
    "names twice a thousand million": chain(30, lambda s: {"type": "object", "properties": {"a": s, "b": s}}, TEXT),
    "alternatives twice a thousand million": chain(30, lambda s: {"anyOf": [s, s]}, TEXT),
    "a list of itself": {"type": "array", "items": {"$ref": "#"}},
    "a key of 100 KB": {"type": "object", "properties": {"k" * 100_000: TEXT}},
}


@pytest.mark.parametrize("name", HELD_TO)
def test_a_heavy_schema_is_held_to_in_bounded_time(server: RuntimeProcess, others_go_on: Watcher, name: str):
    with same_workers(server):
        reply = server.send("POST", "/api/generate", body(format=HELD_TO[name], options={**OPTIONS, "num_predict": 8}))
    assert reply.status == 200, reply.body
    assert reply.json["response"].startswith(('"', "{", "["))


REFUSED: dict[str, tuple[Any, str]] = {
    "objects in objects": (nested(60, lambda s: {"type": "object", "properties": {"a": s}}, TEXT), "nested too deeply"),
    "5,000 parts": ({"anyOf": [TEXT] * 5000}, "too large"),
    "5,000 choices": ({"enum": list(range(5000))}, "enum must be a list of 1 to 2000 values"),
    "a reference to itself": ({"$ref": "#"}, "it refers to itself"),
    "alternatives of itself": ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "it refers to itself"),
    "another machine": ({"$ref": "http://127.0.0.1:1/schema"}, "Fetching remote schemas is not supported"),
    "a negative count": ({**TEXT, "minLength": -5}, "minLength must be a whole number"),
    "a huge count": ({"type": "array", "maxItems": 10**30}, "maxItems must be a whole number"),
    "a pattern of 10 KB": (pattern("^" + "a" * 10_000 + "$"), "at most 512 characters"),
    "no known type": ({"type": "nope"}, "Unrecognized schema"),
    "a pattern that looks ahead": (pattern("^(?=a)b$"), "look-ahead"),
    "a pattern that looks back at itself": (pattern(r"^(a)\1$"), "backreferences are not supported"),
    "a pattern that does not end": (pattern("^[a$"), "unclosed character class"),
    "a pattern that repeats nothing": (pattern("^*$"), "in regex /^*$/"),
    "repetitions the wrong way round": (pattern("^a{5,2}$"), "invalid repetition count range"),
    "a format that nobody knows": ({**TEXT, "format": "nope"}, "Unknown format: nope"),
    "what must not be": ({"not": TEXT}, "Unimplemented keys"),
    "bounds the wrong way round": ({"type": "integer", "minimum": 10, "maximum": 1}, "minimum (10) is greater"),
    "references in a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "it refers to itself",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_cannot_be_held_to_is_refused(server: RuntimeProcess, others_go_on: Watcher, name: str):
    schema, said = REFUSED[name]
    with same_workers(server):
        reply = server.send("POST", "/api/generate", body(format=schema))
    assert reply.status == 400
    assert said in reply.json["error"]
