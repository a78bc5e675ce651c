"""A registry of models on loopback, for pulls: serves what is published, or lies as it is told.

async with StubRegistry().running() as registry:
    model = registry.publish("library/ok", "q8_0")
    registry.tell(f"storage {digest}", Answer(cut=4096))
    … pull registry.name("library/ok:q8_0")

As a real registry does, it redirects a request for a blob to a storage, by default at another path of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.runtime.manifests import CONFIG_TYPE, MANIFEST_TYPE, MODEL, PARAMS, TEMPLATE, Layer, encode_manifest
from tests.stub_ollama import Receive, Scope, Send, served

_PIECE = 16384
_MANIFEST = re.compile(r"/v2/(?P<model>[^/]+/[^/]+)/manifests/(?P<tag>[^/]+)")
_BLOB = re.compile(r"/v2/[^/]+/[^/]+/blobs/(?P<digest>[^/]+)")
_STORAGE = re.compile(r"/storage/(?P<digest>[^/]+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is not the usual one. What is None is as usual.

    `cut` breaks the connection after so many bytes of body, `hold` waits there for `gate` (and sets `reached`);
    `endless` goes on sending after the body; `ranges` False ignores Range.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    hold: int | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # set when the client hung up while it was held
    endless: bool = False
    ranges: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """A request: `what` is "manifest", "blob DIGEST" or "storage DIGEST"; `range` its first byte and last one."""

    what: str
    path: str
    headers: dict[str, str]
    range: tuple[int, int] | None
    query: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A model as it was published: its layers and config with their contents."""

    config: Layer
    layers: tuple[Layer, ...]
    contents: dict[str, bytes]
    raw: bytes

    @property
    def weights(self) -> Layer:
        return self.layers[0]


class StubRegistry:
    """See the module. `requests` holds what was asked, `sent` how many bytes of each digest went out."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.requests: list[Seen] = []
        self.sent: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.storage = ""  # base URL of the storage; "" is this server itself
        self.host = ""
        self._told: dict[str, deque[Answer]] = {}
        self._always: dict[str, Answer] = {}
        self._gates: list[asyncio.Event] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[StubRegistry]:
        async with served(self) as url:
            self.host = url.removeprefix("http://")
            try:
                yield self
            finally:
                for gate in self._gates:
                    gate.set()

    def name(self, model: str) -> str:
        return f"{self.host}/{model}"

    def publish(self, model: str, tag: str, weights: bytes | int = 300_000, **changes: bytes) -> Published:
        """A model with weights (bytes, or so many random ones), a template, parameters and a config.

        The three small ones are as long as those of the recording pull_ok. `changes` replaces contents by kind:
        template, params, config.
        """
        if isinstance(weights, int):
            weights = random.Random(f"{model}:{tag}").randbytes(weights)
        kinds = {
            "template": changes.get("template", b"{{ .Prompt }}".ljust(102)),
            "params": changes.get("params", b'{"stop":["<|im_end|>"]}'.ljust(59)),
        }
        contents = {MODEL: weights, TEMPLATE: kinds["template"], PARAMS: kinds["params"]}
        config = self.add_blob(changes.get("config", b'{"model_format":"gguf"}'.ljust(152)), CONFIG_TYPE)
        layers = tuple(self.add_blob(content, kind) for kind, content in contents.items())
        raw = encode_manifest(config, layers)
        self.manifests[model, tag] = raw
        kept = {layer.digest: self.blobs[layer.digest] for layer in (config, *layers)}
        return Published(config, layers, kept, raw)

    def publish_manifest(self, model: str, tag: str, manifest: dict[str, Any] | bytes) -> None:
        self.manifests[model, tag] = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()

    def add_blob(self, content: bytes, media_type: str) -> Layer:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return Layer(digest, len(content), media_type)

    def tell(self, what: str, *answers: Answer, always: Answer | None = None) -> None:
        """The next answers to `what` ("manifest", "blob DIGEST", "storage DIGEST"); `always` for all after them."""
        self._told.setdefault(what, deque()).extend(answers)
        if always is not None:
            self._always[what] = always
        self._gates += [answer.gate for answer in (*answers, *([always] if always else ()))]

    def asked(self, what: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.what == what]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        what, usual = self._usual(scope["path"])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        span = (int(wanted[1]), int(wanted[2])) if wanted else None
        self.requests.append(Seen(what, scope["path"], headers, span, scope["query_string"].decode()))
        told = self._told.get(what)
        answer = told.popleft() if told else self._always.get(what, Answer())
        self.at_once += what.startswith("storage")
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._send(what, usual, answer, span, receive, send)
        finally:
            self.at_once -= what.startswith("storage")

    def _usual(self, path: str) -> tuple[str, tuple[int, dict[str, str], bytes]]:
        if found := _MANIFEST.fullmatch(path):
            raw = self.manifests.get((found["model"], found["tag"]))
            kind = {"content-type": MANIFEST_TYPE}
            return "manifest", (404, {}, b'{"errors":[]}') if raw is None else (200, kind, raw)
        if found := _BLOB.fullmatch(path):
            location = f"{self.storage or f'http://{self.host}'}/storage/{found['digest']}?signature=a%2Fb%3D+c"
            known = found["digest"] in self.blobs
            return f"blob {found['digest']}", (307, {"location": location}, b"") if known else (404, {}, b"")
        if found := _STORAGE.fullmatch(path):
            content = self.blobs.get(found["digest"])
            return f"storage {found['digest']}", (404, {}, b"") if content is None else (200, {}, content)
        return path, (404, {}, b"no such route")

    async def _send(
        self, what: str, usual: tuple[int, dict[str, str], bytes], answer: Answer, span: tuple[int, int] | None,
        receive: Receive, send: Send,
    ) -> None:  # fmt: skip
        status, headers, body = usual
        if answer.body is not None:
            body = answer.body
        if status == 200 and what.startswith("storage") and span and answer.ranges and answer.status is None:
            start, last = span
            status, headers = 206, {"content-range": f"bytes {start}-{min(last, len(body) - 1)}/{len(body)}"}
            body = body[start : last + 1]
        length = {} if answer.endless else {"content-length": str(len(body))}
        headers = {**headers, **length, **answer.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status or status, "headers": raw})
        if await self._send_body(what, body, answer, receive, send):
            await send({"type": "http.response.body", "body": b""})

    async def _send_body(self, what: str, body: bytes, answer: Answer, receive: Receive, send: Send) -> bool:
        """Whether the body was sent to its end; uvicorn breaks the connection of an answer without one."""
        stops = sorted({min(stop, len(body)) for stop in (answer.cut, answer.hold, len(body)) if stop is not None})
        begin = 0
        for stop in stops:
            for offset in range(begin, stop, _PIECE):
                piece = body[offset : min(offset + _PIECE, stop)]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self.sent[what.partition(" ")[2]] += len(piece)
            begin = stop
            if stop == answer.hold and not await self._held(answer, receive):
                return False
            if stop == answer.cut:
                return False
        while answer.endless:
            await send({"type": "http.response.body", "body": b"\0" * _PIECE, "more_body": True})
            self.sent[what.partition(" ")[2]] += _PIECE
            if await _hung_up(receive):
                return False
        return True

    async def _held(self, answer: Answer, receive: Receive) -> bool:
        """Whether the gate opened before the client hung up."""
        answer.reached.set()
        gate = asyncio.create_task(answer.gate.wait())
        gone = asyncio.create_task(_wait_for_hang_up(receive))
        await asyncio.wait({gate, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            answer.left.set()
        for task in (gate, gone):
            task.cancel()
        return not gone.done()


async def _wait_for_hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _hung_up(receive: Receive) -> bool:
    try:
        async with asyncio.timeout(0):
            await _wait_for_hang_up(receive)
    except TimeoutError:
        return False
    return True


def small_parts(count: int = 4) -> dict[str, Any]:
    """Numbers of a pace at which a few hundred kilobytes are many parts and nothing waits."""

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    return {"smallest_part": 1000, "parts": count, "sleep": at_once, "tick": 0.01}


def statuses(records: Sequence[dict[str, Any]]) -> list[str]:
    """The statuses of a stream, each run of equal ones once."""
    told = [str(record["status"]) for record in records]
    return [status for index, status in enumerate(told) if index == 0 or told[index - 1] != status]
