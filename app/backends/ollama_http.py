"""One Ollama host over HTTP: the port `core.ports.Backend`, with every timeout ours and every error translated.

aiohttp itself, one session per host: with httpx around it a request takes a third more CPU. The official `ollama`
package is not used here: its response models drop capabilities, remote hosts, context lengths and tensors, and it has
no timeouts and no raw answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp
from yarl import URL

from app.backends.connecting import session
from app.backends.patience import Patience
from app.backends.retry_after import retry_after
from app.backends.translation import CONNECT_SECONDS, translating
from app.core.errors import HostError, HostProtocolError, HostRefused, HostTimeout, HostUnreachable, ModelNotFound
from app.core.generation import Chunk, GenerationRequest
from app.core.hosts import HostAddress, LoadedModel, ModelDetail, ModelInfo, RawAnswer
from app.core.trace_context import HOST_HEADERS
from app.wire.answers import error_text, parse_chunk, parse_ps, parse_show, parse_tags, parse_version
from app.wire.framing import LineTooLong, line_batches

ANSWER_LIMIT = 256 << 20  # bytes of one short answer; `show` with `verbose` of a large vocabulary has tens of MB
ERROR_LIMIT = 1 << 20
PROGRESS = 1 << 16
DRAIN_SECONDS = 0.2  # after `done`: the end of the body usually follows at once, and then the connection is kept
SLOW_PATHS = ("/api/embed", "/api/embeddings")
_REDIRECTS = (301, 302, 303, 307, 308)
_TRACED = ("/api/chat", "/api/generate", *SLOW_PATHS)  # what a host does for a request; our looking after it is ours


@dataclass(frozen=True, slots=True)
class HostTimeouts:
    """Seconds. `first_token` covers the host's own queue and the load of a large model."""

    connect: float = CONNECT_SECONDS
    first_token: float = 600.0
    stall: float = 120.0
    short: float = 10.0
    management: float = 1800.0  # between two lines of a pull: verifying a digest is silent
    quantizing: float = 6 * 3600.0  # between two lines of a create: Ollama quantizes in silence


class OllamaHttp:
    """Made anywhere, used in one event loop: the connection pool belongs to the loop of the first request."""

    def __init__(self, address: HostAddress, *, timeouts: HostTimeouts = HostTimeouts()) -> None:
        self._address, self._timeouts = address, timeouts
        self._client: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def address(self) -> HostAddress:
        return self._address

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        path, body = f"/api/{request.endpoint}", json.dumps({**request.body, "stream": True}).encode()
        first = self._timeouts.first_token
        patience = Patience(self._address.name, first, self._timeouts.stall)
        async with self._sent("POST", path, body, seconds=first, phase="first token") as response:
            if response.status != 200:
                raise await self._refusal(response, request.model)
            if _is_one_object(response):
                yield parse_chunk(request.endpoint, await _read(response, patience), self._address.name, whole=True)
                return
            async with aclosing(patience.chunks(response)) as chunks:
                async for lines in _lines(chunks, self._address.name):
                    for left, line in zip(range(len(lines) - 1, -1, -1), lines, strict=True):
                        chunk = parse_chunk(request.endpoint, line, self._address.name, more=left > 0)
                        yield chunk
                        if chunk.done:
                            await _drain(chunks)
                            return
                    patience.heard()
        raise HostProtocolError(self._address.name, "the answer ended before it was done")

    async def version(self) -> tuple[str, str]:
        async with self._sent("GET", "/api/version", b"", seconds=self._timeouts.short) as response:
            body = await _read(response, self._patience(self._timeouts.short))
            if response.status != 200:
                raise self._refused(response, body)
            return parse_version(body, self._address.name), ", ".join(response.headers.getall("server", ()))

    async def models(self) -> Sequence[ModelInfo]:
        return parse_tags(await self._get("/api/tags"), self._address.name)

    async def loaded(self) -> Sequence[LoadedModel]:
        return parse_ps(await self._get("/api/ps"), self._address.name)

    async def show(self, model: str) -> ModelDetail:
        body = json.dumps({"model": model}).encode()
        async with self._sent("POST", "/api/show", body, seconds=self._timeouts.short) as response:
            if response.status != 200:
                raise await self._refusal(response, model)
            shown = await _read(response, self._patience(self._timeouts.short))
            return parse_show(shown, self._address.name)

    async def forward(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        seconds = self._timeouts.first_token if path in SLOW_PATHS else self._timeouts.short
        async with self._sent(method, path, body, seconds=seconds) as response:
            content = await _read(response, self._patience(seconds))
            return RawAnswer(response.status, response.headers.get("content-type", ""), content)

    async def forward_stream(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        seconds = self._timeouts.quantizing if path == "/api/create" else self._timeouts.management
        async with self._sent(method, path, body, seconds=seconds, phase="first line") as response:
            if response.status >= 300:
                raise self._refused(response, await _read(response, self._patience(seconds), ERROR_LIMIT))
            patience = self._patience(seconds)
            async with aclosing(patience.chunks(response)) as chunks:
                async for lines in _lines(chunks, self._address.name):
                    for line in lines:
                        yield line
                    patience.heard()

    async def close(self) -> None:
        self._closed = True
        if self._client is not None:
            await self._client.close()

    # Inside

    @contextlib.asynccontextmanager
    async def _sent(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes], *, seconds: float, phase: str = "answer"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response's head within `seconds`; leaving closes the connection unless the body was read to its end.

        A body that comes in pieces has that time for each of them: an upload may take hours, but not stand still.
        """
        name = self._address.name
        client = self._ready_client()
        with translating(name, self._timeouts.connect):
            try:
                async with asyncio.timeout(seconds) as limit:
                    content = body if isinstance(body, bytes) else _extending(body, limit, seconds)
                    told = HOST_HEADERS.get() if path in _TRACED else ()
                    response = await client.request(
                        method, self._url(path), data=content or None, headers=told or None, allow_redirects=False
                    )
            except TimeoutError as error:
                raise HostTimeout(name, phase, seconds) from error
            try:
                if response.status in _REDIRECTS:
                    raise HostProtocolError(name, f"it redirects to {response.headers.get('location', 'nowhere')}")
                yield response
            finally:
                response.release()
                await response.wait_for_close()

    def _url(self, path: str) -> URL:
        return URL(self._address.url.rstrip("/") + path)

    def _ready_client(self) -> aiohttp.ClientSession:
        if self._closed:
            raise HostUnreachable(self._address.name, "the connection is closed")
        if self._client is None:
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "loupe"}
            if self._address.key:
                headers["Authorization"] = f"Bearer {self._address.key}"
            self._client = session(headers, self._timeouts.connect)
        return self._client

    async def _get(self, path: str) -> bytes:
        answer = await self.forward("GET", path)
        if answer.status != 200:
            raise HostRefused(self._address.name, answer.status, _sentence(answer.status, answer.body), answer.body)
        return answer.body

    def _patience(self, seconds: float) -> Patience:
        return Patience(self._address.name, seconds, seconds)

    async def _refusal(self, response: aiohttp.ClientResponse, model: str) -> HostError | ModelNotFound:
        """An error status about a model: the host's own words go on to the client."""
        body = await _read(response, self._patience(self._timeouts.short), ERROR_LIMIT)
        text = error_text(body)
        if response.status == 404 and text is not None:
            return ModelNotFound(model, text)
        return self._refused(response, body)

    def _refused(self, response: aiohttp.ClientResponse, body: bytes) -> HostError:
        if response.status in (404, 405) and error_text(body) is None:
            return HostProtocolError(self._address.name, f"{response.url.path} is unknown to it")
        if response.status < 400:
            return HostProtocolError(self._address.name, f"status {response.status}")
        own = b"" if error_text(body) is None else body  # goes on to the client; a proxy's page does not
        return HostRefused(
            self._address.name, response.status, _sentence(response.status, body), own,
            retry_after(response.headers), response.headers.get("content-type", ""),
        )  # fmt: skip


async def _read(response: aiohttp.ClientResponse, patience: Patience, limit: int = ANSWER_LIMIT) -> bytes:
    """A short answer, whole. The host has to send a part of it (`PROGRESS` bytes) within each span of the patience."""
    body, heard = bytearray(), 0
    async with aclosing(patience.chunks(response)) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise HostProtocolError(patience.host, f"its answer is larger than {limit} bytes")
            if len(body) - heard >= PROGRESS:
                heard = len(body)
                patience.heard()
    return bytes(body)


async def _extending(body: AsyncIterator[bytes], limit: asyncio.Timeout, seconds: float) -> AsyncIterator[bytes]:
    async for piece in body:
        yield piece
        limit.reschedule(asyncio.get_running_loop().time() + seconds)


def _is_one_object(response: aiohttp.ClientResponse) -> bool:
    """Load, unload and render answers are one JSON object, also when a stream was asked for (protocol 1.4)."""
    return str(response.headers.get("content-type", "")).startswith("application/json")


async def _lines(chunks: AsyncIterator[bytes], host: str) -> AsyncGenerator[list[bytes], None]:
    try:
        async for batch in line_batches(chunks):
            yield batch
    except LineTooLong as error:
        raise HostProtocolError(host, str(error)) from error


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """The answer is complete: how its connection ends concerns nobody any more."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, HostError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await anext(chunks, None)


def _sentence(status: int, body: bytes) -> str:
    text = error_text(body)
    if text is not None:
        return text
    plain = body[:300].decode("utf-8", "replace").strip()
    return plain if plain and not plain.startswith("<") else f"the model host answered with status {status}"
