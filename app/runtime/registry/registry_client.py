"""Requests to one registry: the manifest of a model, stretches of its blobs. What is sent there is in uploads.py.

Nothing is trusted: no cookie, no credential and no compression is taken or sent, bodies are read up to a bound,
redirects are followed by hand, each with its address checked. Errors are `RegistryError` in Ollama's words.
Source: pullModelManifest, makeRequestWithRetry and downloadChunk of Ollama 0.33, and the recordings pull_*.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
from collections.abc import AsyncIterator, Mapping
from types import TracebackType

import aiohttp
from yarl import URL

from app import __version__
from app.core.errors import BadRequest
from app.runtime.manifests import MANIFEST_TYPE
from app.runtime.registry.addresses import AddressPolicy, CheckedResolver, Lookup, is_address, look_up
from app.runtime.registry.errors import RegistryError, RegistryUnavailable
from app.runtime.registry.failures import Stalled, registry_failures
from app.runtime.registry.pace import Pace
from app.runtime.registry.pulled_manifest import LARGEST_MANIFEST
from app.wire.model_names import ModelName

_MOST_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_LARGEST_REFUSAL = 1024  # bytes of an error's body that are passed on
_READ_AHEAD = 1 << 20  # bytes a connection may hold while the disk is busy
# A registry asks which Ollama is coming, and refuses models that a too old one could not run (412).
_AGENT = f"ollama/0.33.0 ({platform.machine()} {platform.system().lower()}) Loupe/{__version__}"
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_PRINTABLE = re.compile(r"[!-~]{1,8000}")
Content = bytes | AsyncIterator[bytes]


class Absent(RegistryError):
    """The registry does not have what was asked for."""

    def __init__(self) -> None:
        super().__init__("file does not exist")


class BlobBody:
    """The answer to a request for a stretch of a blob; its first byte is byte `start` of the blob."""

    def __init__(self, response: aiohttp.ClientResponse, start: int) -> None:
        self._response, self.start = response, start

    async def read(self) -> bytes:
        """Some bytes, at least one. Raises `Stalled`, or `RegistryUnavailable` where the body breaks off or ends."""
        with registry_failures(self._response.url):
            content = await self._response.content.readany()
        if not content:
            raise RegistryUnavailable("unexpected EOF")
        return content


class RegistryClient:
    """One registry, for one model. An async context manager: inside it there is a connection pool."""

    def __init__(self, name: ModelName, *, insecure: bool, pace: Pace, lookup: Lookup = look_up) -> None:
        """`insecure` asks over http, whatever the name says. Raises `BadRequest` for a host that is no address."""
        self._name, self._pace = name, pace
        try:
            self.base = URL(f"{'http' if insecure else 'https'}://{name.host}") / "v2" / name.namespace / name.model
        except ValueError:
            raise BadRequest("invalid model name", "model") from None
        self._policy = AddressPolicy()
        if is_address(self.base.host or ""):
            self._policy.learn([str(self.base.host)])  # no name will be looked up
        self._resolver = CheckedResolver(self._policy, lookup)
        self._session: aiohttp.ClientSession | None = None
        self._direct: dict[str, URL] = {}  # digest -> where the registry sent us last time

    async def __aenter__(self) -> RegistryClient:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,  # the policy sees every look-up
            socket_factory=self._policy.make_socket,
            limit=self._pace.parts,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # neither a proxy, which would undo the check of addresses, nor passwords of ~/.netrc
            headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._pace.connect, sock_read=self._pace.stall),
            read_bufsize=_READ_AHEAD,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self) -> bytes:
        """The manifest as it was sent, at most 1 MiB. Raises `RegistryError`."""
        url = self.base / "manifests" / self._name.tag
        try:
            async with (
                asyncio.timeout(self._pace.manifest),
                self.exchange("GET", url, {"Accept": MANIFEST_TYPE}) as response,
            ):
                if response.status != 200:
                    raise RegistryError(f"unexpected status code {response.status}")
                return await _bounded(response)
        except (TimeoutError, Stalled) as error:
            raise RegistryUnavailable(f'Get "{url}": context deadline exceeded') from error

    @contextlib.asynccontextmanager
    async def blob(self, digest: str, start: int, stop: int, size: int) -> AsyncIterator[BlobBody]:
        """Bytes `start` up to `stop` of a blob of `size` bytes; from 0 on where the registry knows no ranges.

        Raises `RegistryError`; `RegistryUnavailable` where another try may help.
        """
        known = self._direct.pop(digest, None)
        try:
            asked = {"Range": f"bytes={start}-{stop - 1}"}
            async with self.exchange("GET", known or self.base / "blobs" / digest, asked) as response:
                body = BlobBody(response, _first_byte(response, start, stop, size))
                self._direct[digest] = response.url
                yield body
        except RegistryUnavailable:
            self._direct.pop(digest, None)
            raise
        except RegistryError as error:
            if known is None:
                raise
            # What the registry had signed for us may have run out: it is asked again.
            raise RegistryUnavailable(error.message) from error

    @contextlib.asynccontextmanager
    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], data: Content = b""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer at the end of the redirects; a refusal is raised. What is left of a body is never read.

        `data` that comes piece by piece can be sent once only: its redirect is a refusal.
        """
        if self._session is None:
            raise RuntimeError("the registry client is used outside its context")
        for _ in range(_MOST_REDIRECTS + 1):
            with registry_failures(url, method):
                response = await self._session.request(
                    method, url, headers=headers, data=data or None, allow_redirects=False
                )
            try:
                if response.status not in _REDIRECTS or not isinstance(data, bytes):
                    await _check(response)
                    yield response
                    return
                url = redirected(url, response.headers.get("Location"))
            finally:
                response.close()
        raise RegistryError(f"maximum redirects exceeded ({_MOST_REDIRECTS})")


def redirected(url: URL, location: str | None) -> URL:
    """Where a redirect from `url` leads. Raises `RegistryError` for what no registry needs."""
    if not location or not _PRINTABLE.fullmatch(location):
        raise RegistryError("the registry redirects to nowhere")
    try:
        target = url.join(URL(location, encoded=True))  # as it is: a signature may cover each character
        port = target.port
    except ValueError:
        raise RegistryError("the registry redirects to nowhere") from None
    if target.scheme not in ("http", "https") or not target.host or not port:
        raise RegistryError(f"the registry redirects to something that is not the web: {target.scheme or 'nothing'}")
    if (url.scheme, target.scheme) == ("https", "http"):
        raise RegistryError(f"the registry redirects from https to http: {target.host}")
    return target.with_user(None).with_fragment(None)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.headers.get("Content-Encoding", "identity").casefold() != "identity":
        raise RegistryError("the registry compresses what was asked for as it is")
    if response.status < 400:
        return
    if response.status == 401:  # we have no key that the registry could know
        raise RegistryError("unauthorized: access denied")
    if response.status == 404:
        raise Absent
    message = f"{response.status}: {await _refusal(response)}"
    if response.status in (408, 429) or response.status >= 500:
        unavailable = RegistryUnavailable(message)
        unavailable.retry_after = _seconds(response.headers.get("Retry-After"))
        raise unavailable
    raise RegistryError(message)


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """The body of an error on one line, cut; empty if it does not come."""
    content = b""
    try:
        with registry_failures(response.url):
            while len(content) < _LARGEST_REFUSAL and (piece := await response.content.read(_LARGEST_REFUSAL)):
                content += piece
    except RegistryError:  # the status says enough
        return ""
    text = content[:_LARGEST_REFUSAL].decode("utf-8", "replace")
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    with registry_failures(response.url):
        while piece := await response.content.readany():
            content += piece
            if len(content) > LARGEST_MANIFEST:
                raise RegistryError(f"the manifest is larger than {LARGEST_MANIFEST} bytes")
    return bytes(content)


def _first_byte(response: aiohttp.ClientResponse, start: int, stop: int, size: int) -> int:
    """Which byte of the blob the body begins with. Raises `RegistryError` where it is not the one asked for."""
    if response.status == 200:
        length = response.content_length
        if length is not None and length != size:
            raise RegistryError(f"the registry has {length} bytes of a layer that its manifest gives {size}")
        return 0
    if response.status != 206:
        raise RegistryError(f"unexpected status code {response.status}")
    sent = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if sent is None or int(sent[1]) != start or int(sent[2]) >= stop:
        raise RegistryError(f"the registry sends another part than bytes {start}-{stop - 1}")
    if sent[3] != "*" and int(sent[3]) != size:
        raise RegistryError(f"the registry has {sent[3]} bytes of a layer that its manifest gives {size}")
    return start
