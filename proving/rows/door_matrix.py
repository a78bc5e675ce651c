"""Row 26: who may come in, tried with every pair of Host and Origin, on every route, by http and websocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock
from urllib.parse import urlsplit

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from app.gateway import create_routes
from app.gateway.guards import AccessRules, Guards
from app.gateway.origins import Authority, HostRules, OriginRules, parse_authority
from app.gateway.paths import is_gateway_path
from proving.promises import Run, promise
from proving.stand import Loupe, loupe
from tests.fakes import FakeClock

ANY_HOST = "any Host"
ANY_ORIGIN = "an Origin is enough that names the Host"
LAN = "loupe.lan"
OTHER = "https://chat.example:8443"  # an origin of LOUPE_ORIGINS
ALLOWED = ("localhost", "127.0.0.1", "[::1]", LAN, "pinned.lan:8501")
Hosts = bytes | tuple[bytes, ...]
PAGES = (
    "/",
    "/models",
    "/_stcore/health",
    "/_stcore/stream",
    "/_stcore/upload_file/a/b",
    "/static/x.js",
    "/nothing/here",
)

# Host headers, {port} being the port that is asked; two together are two headers.
OURS: tuple[Hosts, ...] = (
    b"localhost", b"localhost:{port}", b"LocalHost:{port}", b"127.0.0.1", b"127.0.0.1:{port}", b"[::1]",
    b"[::1]:{port}", b"loupe.lan", b"loupe.lan:{port}", b"LOUPE.LAN:80", b"localhost:1", b"pinned.lan:8501",
)  # fmt: skip
STRANGE: tuple[Hosts, ...] = (
    (), b"", b":{port}", b":", b".", b"*", b"evil.example", b"evil.example:{port}", b"localhost.evil.example",
    b"127.0.0.1.evil.example:{port}", b"evil-localhost", b"xlocalhost", b"localhostx", b"evil.localhost",
    b"loupe.lan.evil.example", b"evil.loupe.lan", b"evilloupe.lan", b"pinned.lan", b"pinned.lan:8502",
    b"localhost:", b"localhost:0", b"localhost:65536", b"localhost:999999", b"localhost:x", b"localhost:-1",
    b"localhost:80:80", b"localhost:{port}.evil.example", b"user@localhost", b"localhost@evil.example",
    b"user:word@localhost:{port}", b"localhost/", b"localhost/evil.example", b"evil.example/localhost",
    b"localhost?evil.example", b"localhost#evil.example", b"localhost\\evil.example",
    b"localhost,evil.example", b"localhost evil.example", b"evil.example localhost",
    b"localhost;evil.example", b"http://localhost", b"//localhost", b"localhost%00", b"%6cocalhost",
    b"localhost%2eevil.example", b"local\xffhost", b"\xef\xbd\x8cocalhost", b"loc\xc3\xa0lhost",
    b"localhost\x80", b"localhost.", b"127.0.0.1.", b"-localhost", b"127.1", b"2130706433", b"0x7f000001",
    b"0177.0.0.1", b"127.000.000.001", b"127.0.0.2", b"0.0.0.0", b"192.168.1.9", b"169.254.169.254", b"::1",
    b"[::1", b"::1]", b"[::1]x", b"[::1]evil.example", b"[0:0:0:0:0:0:0:1]", b"[::ffff:127.0.0.1]", b"[::]",
    b"[::1%25lo]", b"[fe80::1]", b"[]", b"[evil.example]", (b"localhost", b"localhost"), (b"localhost",
    b"evil.example"), (b"evil.example", b"localhost"), (b"", b"localhost"),
)  # fmt: skip
HOSTS = [(one, ours) for ones, ours in ((OURS, True), (STRANGE, False)) for one in ones]


@dataclass(frozen=True, slots=True)
class Sender:
    """Origin headers; `ours` says whether they come in beside a Host that is ours, `gateway` whether only on routes of
    the gateway over http."""

    values: tuple[bytes, ...]
    ours: bool
    gateway: bool = False


def senders(host: bytes) -> Iterator[Sender]:
    """Origins beside this Host (one of ours)."""
    name, colon, port = host.rpartition(b":") if not host.endswith(b"]") and b":" in host else (host, b"", b"")
    yield Sender((), True)
    for own in (b"http://" + host, b"HTTP://" + host.upper()):
        yield Sender((own,), True)
    if colon:
        yield Sender((b"https://" + host,), True)  # TLS in front of us
        yield Sender((b"http://" + name + b":%d" % (int(port) % 65535 + 1),), False)
    else:
        yield Sender((b"http://" + name + b":8080",), False)
    yield Sender((OTHER.encode(),), True, gateway=True)
    wrong = [
        b"", b"null", b"http://", b"http://evil.example", b"https://evil.example", b"http://" + host + b".evil.example",
        b"http://evil.example:80@" + host, b"http://" + host + b"@evil.example", b"http://" + host + b"/",
        b"http://" + host + b"#", b"//" + host, host, b"file://", b"app://" + host, b"ftp://" + host, b"ws://" + host,
        b"chrome-extension://" + host, b"http://" + host + b" http://evil.example", b"http://" + host + b",http://evil.example",
        b"http:/" + host, b"http://" + host + b"\xff", b"https://chat.example", b"https://chat.example:8443.evil.example",
        b"http://chat.example:8443", b"http://x" + host, b"http://evil." + host,
    ]  # fmt: skip
    yield from (Sender((one,), False) for one in wrong)
    yield Sender((b"http://" + host, b"http://" + host), False)
    yield Sender((b"http://" + host, b"http://evil.example"), False)
    yield Sender((b"http://evil.example", b"http://" + host), False)


@dataclass(slots=True)
class Inside:
    """What stands behind the door: it notes that somebody came in."""

    entered: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered = True


async def _nothing(message: Message) -> None:
    pass


async def _connect() -> Message:
    return {"type": "websocket.connect"}


class Door:
    """The guards alone, asked in memory: tens of thousands of heads in seconds."""

    def __init__(self) -> None:
        self._inside = Inside()
        self._guards = Guards(self._inside, AccessRules(ALLOWED, (OTHER,)), FakeClock())

    async def lets_in(
        self, kind: str, scheme: str, method: str, path: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> bool:
        self._inside.entered = False
        scope = {
            "type": kind, "scheme": scheme, "path": path, "query_string": b"", "headers": list(headers), "state": {},
            "client": ("127.0.0.1", 1), **({"method": method} if kind == "http" else {}),
        }  # fmt: skip
        await self._guards(scope, _connect, _nothing)
        return self._inside.entered


def _loosened(off: str) -> ExitStack:
    """One of the two checks taken out."""

    def any_host(self: HostRules, headers: list[str]) -> Authority | None:
        return parse_authority(headers[0]) if headers else None

    def any_origin(self: OriginRules, origin: str, host: Authority, scheme: str) -> bool:
        return host.name in origin.lower()

    stack = ExitStack()
    if off == ANY_HOST:
        stack.enter_context(mock.patch.object(HostRules, "accept", any_host))
    elif off == ANY_ORIGIN:
        stack.enter_context(mock.patch.object(OriginRules, "is_own", any_origin))
    return stack


@promise(
    26, "Rebinding and cross-site requests are refused", section="door",
    figure="every pair of Host and Origin, on every route, by http, https, ws and wss, is let in or refused as it has "
    "to be; 0 false refusals for localhost, 127.0.0.1, [::1] and a name of the network",
    controls=(ANY_HOST, ANY_ORIGIN),
)  # fmt: skip
async def rebinding_and_cross_site_are_refused(run: Run) -> None:
    with _loosened(run.off):
        async with loupe(
            run.folder, ["http://127.0.0.1:9"], pages=_page, allowed_hosts=ALLOWED, allow_create=True
        ) as product:
            routes = [*_routes(product), *(("GET", path) for path in PAGES)]
            await _in_memory(run, routes[:: run.scale(short=6, full=1)])
            await _on_the_wire(run, product, routes)
    run.figure("routes and methods", len(routes))


def _routes(product: Loupe) -> list[tuple[str, str]]:
    """Every method of every route that is served."""
    routes = [route for route in create_routes(product.services) if isinstance(route, Route)]
    filled = (
        (
            method,
            route.path.replace("{digest}", "sha256:" + "0" * 64)
            .replace(":path}", "}")
            .replace("{", "")
            .replace("}", ""),
        )
        for route in routes
        for method in sorted(route.methods or ())
    )
    return sorted(set(filled))


async def _in_memory(run: Run, routes: Sequence[tuple[str, str]]) -> None:
    door = Door()
    step = run.scale(short=7, full=1)
    for number, (method, path) in enumerate(routes):
        for kind, scheme in (("http", "http"), ("http", "https"), ("websocket", "ws"), ("websocket", "wss")):
            secure = scheme in ("https", "wss")
            for index, (one, ours) in enumerate(HOSTS):
                if (index + number) % step and not ours:
                    continue
                hosts = _filled(one, b"8501")
                for sender in senders(hosts[0]) if ours else _strangers(hosts):
                    wanted = ours and sender.ours and (not sender.gateway or (kind == "http" and is_gateway_path(path)))
                    if secure and sender.values[:1] and sender.values[0].lower().startswith(b"http://"):
                        wanted = False  # an http page that calls an https server is another site
                    headers = [*((b"host", one) for one in hosts), *((b"origin", one) for one in sender.values)]
                    headers += [(b"content-type", b"application/json")]
                    found = await door.lets_in(kind, scheme, method, path, headers)
                    run.trial(
                        found == wanted, f"{'let in' if found else 'refused'}: {scheme} {method} {path} {headers}"
                    )


def _filled(hosts: Hosts, port: bytes) -> tuple[bytes, ...]:
    return tuple(one.replace(b"{port}", port) for one in (hosts if isinstance(hosts, tuple) else (hosts,)))


def _strangers(hosts: tuple[bytes, ...]) -> Iterator[Sender]:
    """Beside a Host that is not ours, whatever the Origin is: none, the same, and ours."""
    yield Sender((), False)
    yield Sender((b"http://" + hosts[0] if hosts else b"http://",), False)
    yield Sender((b"http://localhost:8501",), False)
    yield Sender((OTHER.encode(),), False)


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for Streamlit."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"page"})


async def _on_the_wire(run: Run, product: Loupe, routes: Sequence[tuple[str, str]]) -> None:
    """The same by sockets, with the bytes as they are: each Host on some routes, as a request and as a handshake."""
    port = str(urlsplit(product.url).port).encode()
    every = run.scale(short=40, full=3)
    for number, (one, ours) in enumerate(HOSTS):
        hosts = _filled(one, port)
        chosen = [("GET", "/"), ("GET", "/healthz"), ("POST", "/api/chat"), *routes[number % every :: every]]
        for method, path in chosen:
            told = await _asked(product.url, method, path, hosts)
            refused = told.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")) and (
                told.endswith(b"\r\n\r\n") or b" 400 " in told[:16]
            )
            if ours and not refused:
                run.trial(True)
            elif ours:
                run.trial(b"\r\n\r\n{" in told, f"refused: {method} {path} {hosts} {told[:60]!r}")
            else:
                run.trial(refused, f"let in: {method} {path} {hosts} {told[:60]!r}")
        for origin, wanted in ((b"http://" + hosts[0] if hosts else b"http://", ours), (b"http://evil.example", False)):
            told = await _asked(product.url, "GET", "/_stcore/stream", hosts, origin)
            run.trial(told.startswith(b"HTTP/1.1 101 ") == wanted, f"websocket {hosts} {origin!r}: {told[:60]!r}")


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)  # fmt: skip


async def _asked(url: str, method: str, path: str, hosts: Sequence[bytes], origin: bytes = b"") -> bytes:
    """All that the server says. With an origin it is the handshake of a websocket."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = b"%s %s HTTP/1.1\r\n" % (method.encode(), path.encode())
    head += b"".join(b"Host: %s\r\n" % host for host in hosts)
    head += b"Origin: %s\r\n" % origin + UPGRADE if origin else b"Connection: close\r\nContent-Length: 0\r\n"
    writer.write(head + b"\r\n")
    try:
        async with asyncio.timeout(20):
            return await _told(reader, bool(origin))
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _told(reader: asyncio.StreamReader, handshake: bool) -> bytes:
    """To the end; of a handshake, and of a feed that has none, the beginning."""
    told = b""
    while piece := await reader.read(4096):
        told += piece
        if b"\r\n\r\n" in told and (handshake or b"text/event-stream" in told):
            break
    return told
