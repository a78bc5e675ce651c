"""Row 27: what is not allowed by name is not done: every route with every kind of key, unknown paths, injections."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.gateway import create_routes, credentials, guards
from app.gateway.paths import is_gateway_path
from app.gateway.policies import Policy, policy_of
from app.services.access_keys import KeyScope, KeyWish
from proving.promises import Run, promise
from proving.stand import Loupe, loupe
from tests.stub_ollama import MODEL, Reply, StubOllama, served

PASSED_ON = "unknown paths are passed on to the host"
NO_SCOPES = "the scope of a key is not looked at"
SHARED = "a-long-secret-token"
DIGEST = "sha256:" + "0" * 64
# Every route of Ollama 0.33, and what a key needs for it; "off" is off unless LOUPE_ALLOW_CREATE is set, "none" is not
# served at all.
OLLAMA = (
    ("HEAD", "/", "read"), ("GET", "/", "read"), ("HEAD", "/api/version", "read"), ("GET", "/api/version", "read"),
    ("GET", "/api/status", "read"), ("HEAD", "/api/tags", "read"), ("GET", "/api/tags", "read"),
    ("POST", "/api/show", "read"), ("GET", "/api/ps", "read"), ("GET", "/v1/models", "read"),
    ("GET", f"/v1/models/{MODEL}", "read"), ("POST", "/api/generate", "infer"), ("POST", "/api/chat", "infer"),
    ("POST", "/api/embed", "infer"), ("POST", "/api/embeddings", "infer"), ("POST", "/v1/chat/completions", "infer"),
    ("POST", "/v1/completions", "infer"), ("POST", "/v1/embeddings", "infer"), ("POST", "/v1/responses", "infer"),
    ("POST", "/v1/audio/transcriptions", "infer"), ("POST", "/v1/messages", "infer"), ("POST", "/api/pull", "admin"),
    ("DELETE", "/api/delete", "admin"), ("POST", "/api/copy", "admin"), ("POST", "/api/push", "off"),
    ("POST", "/api/create", "off"), ("POST", f"/api/blobs/{DIGEST}", "off"), ("HEAD", f"/api/blobs/{DIGEST}", "off"),
    ("POST", "/api/me", "none"), ("POST", "/api/signout", "none"), ("DELETE", "/api/user/keys/a2V5", "none"),
    ("POST", "/api/experimental/web_search", "none"), ("POST", "/api/experimental/web_fetch", "none"),
    ("GET", "/api/experimental/model-recommendations", "none"),
)  # fmt: skip
STRANGE = (
    "/api", "/api/", "/api/nothing", "/API/TAGS", "/api/Pull", "//api/tags", "/api//tags", "/api/tags/", "/api/./tags",
    "/api/x/../tags", "/api/../api/pull", "/api/pull/", "/api/pull;x", "/api/pull%00", "/api/%70ull/x", "/api%252fpull",
    "/api/pull%2f..", "/api\\pull", "/v1", "/v1/", "/v1/nothing", "/v1/files",
    "/v1/chat", "/v1/chat/completions/", "/v2/models", "/debug/pprof/", "/debug/vars", "/api/blobs", "/api/blobs/",
    f"/api/blobs/{DIGEST}/x", "/api/blobs/../../etc/passwd", "/loupe", "/loupe/", "/loupe/nothing",
    "/loupe/../api/pull",
    "/metrics/", "/healthz/x", "/openapi.json/x", "/api/tags%0d%0aX-Evil:%201", "/api/experimental/nothing",
)  # fmt: skip
WRONG: tuple[dict[str, str], ...] = (
    {}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": SHARED},
    {"Authorization": f"Basic {SHARED}"}, {"Authorization": f"Bearer {SHARED}x"}, {"x-api-key": "wrong"},
    {"x-api-key": SHARED[:-1]}, {"Cookie": f"loupe_session={SHARED}"}, {"Cookie": "loupe_session=99999999999.0"},
    {"Authorization": "Bearer ' OR 1=1--"}, {"x-api-key": "' OR '1'='1"},
)  # fmt: skip
INJECTIONS = (
    "' OR 1=1--", "'; DROP TABLE messages;--", '" OR ""="', "1) UNION SELECT * FROM conversations--", "%27%20OR%201=1",
    "../../../../etc/passwd", "..\\..\\windows", "{{7*7}}", "${jndi:ldap://x}", "$(id)", "`id`", "; id", "\x7f",
    "%0d%0aX-Evil: 1",
    "<script>", "\u2028", "a" * 9000, "-1", "1e999", "NaN", "null", "\u0000", "𝕏", "{}", "[]",
)  # fmt: skip
LEAKS = re.compile(rb"Traceback|File \"|site-packages|/proving/|/app/|\.py\b|sqlite|/tmp/", re.IGNORECASE)
RANKS = {"read": 0, "infer": 1, "admin": 2, "off": 2, "none": 3}


@dataclass(frozen=True, slots=True)
class Told:
    status: int
    head: bytes
    body: bytes

    @property
    def denied(self) -> bool:
        return self.status in (401, 403)

    @property
    def unknown(self) -> bool:
        """No such route; a model that is not there has an answer of another shape."""
        return self.status == 405 or (self.status == 404 and b"page not found" in self.body)


@promise(
    27, "Default-deny gateway", section="door",
    figure="every route of Ollama 0.33 and of our own has a policy and keeps it for nobody, wrong keys and keys of "
    "each scope; what is unknown is never passed on; strings that inject SQL or headers have no effect, and no body "
    "tells of our insides",
    controls=(PASSED_ON, NO_SCOPES),
)  # fmt: skip
async def default_deny_gateway(run: Run) -> None:
    stub = StubOllama()
    for path in ("/api/status", "/api/embed", "/api/embeddings", "/api/delete", "/api/copy"):
        stub.on(path, Reply([b"{}"], content_type="application/json"))
    async with _product(run, stub) as (product, keys):
        await _policies_of_ollama(run, product, stub, keys)
        await _unknown(run, product, stub, keys["admin"])
        if not run.off:
            await _own_routes(run, product, keys)
            await _injections(run, product, keys["admin"])


@contextlib.asynccontextmanager
async def _product(run: Run, stub: StubOllama) -> AsyncIterator[tuple[Loupe, dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(credentials, "GUESSES", 10**9))  # all of this is one address
        if run.off == NO_SCOPES:
            stack.enter_context(mock.patch.object(guards, "refusal", lambda *_: ""))
        async with served(stub) as host:
            wrap = (lambda app: _Careless(app, host)) if run.off == PASSED_ON else None
            async with loupe(run.folder, [host], wrap=wrap, token=SecretStr(SHARED)) as product:
                made = {str(scope): product.services.keys.create(KeyWish(scope, scope))[1] for scope in KeyScope}
                yield product, made


class _Careless:
    """A gateway that proxies what it does not know."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(path == scope["path"] for _, path, need in OLLAMA if need != "none"):
            await self._app(scope, receive, send)
            return
        async with httpx.AsyncClient() as client:
            answer = await client.request(scope["method"], self._host + scope["path"])
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})


def _worked(stub: StubOllama) -> list[tuple[str, str]]:
    """What the host was asked beyond what its health and catalog are watched by."""
    watched = {"/api/version", "/api/tags", "/api/ps", "/api/show"}
    return [(asked.method, asked.path) for asked in stub.asked if asked.path not in watched]


async def _policies_of_ollama(run: Run, product: Loupe, stub: StubOllama, keys: Mapping[str, str]) -> None:
    for method, path, need in OLLAMA[:: 3 if run.off else 1]:
        for wrong in () if run.off else WRONG[:: run.scale(short=5, full=1)]:
            before = _worked(stub)
            told = await ask_raw(product.url, method, path, wrong)
            run.trial(told.status == 401 and _worked(stub) == before, f"{method} {path} with {wrong}: {told.status}")
        for scope, key in keys.items():
            for form in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key})[: run.scale(short=1, full=2)]:
                before = _worked(stub)
                told = await ask_raw(product.url, method, path, form)
                ok = _fits(told, need, scope) and (RANKS[scope] >= RANKS[need] != 3 or _worked(stub) == before)
                run.trial(ok, f"{method} {path} ({need}) with a key for {scope}: {told.status} {told.body[:80]!r}")


def _fits(told: Told, need: str, scope: str) -> bool:
    if need == "none":
        return told.unknown or told.denied
    if need == "off" or RANKS[scope] < RANKS[need]:
        return told.status == 403
    return not (told.denied or told.unknown)


async def _unknown(run: Run, product: Loupe, stub: StubOllama, key: str) -> None:
    """For an admin, by every method: nothing of it reaches the host."""
    for path in STRANGE[:: run.scale(short=2, full=1)]:
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")[:: run.scale(short=3, full=1)]:
            before = _worked(stub)
            told = await ask_raw(product.url, method, path, {"Authorization": f"Bearer {key}"})
            quiet = _worked(stub) == before and b"x-evil" not in told.head.lower()
            run.trial(
                quiet and 400 <= told.status < 500, f"{method} {path}: {told.status}, the host was asked: {not quiet}"
            )


async def _own_routes(run: Run, product: Loupe, keys: Mapping[str, str]) -> None:
    """The table of what is served, walked: open to nobody but by name, and to each scope as its policy says."""
    for method, path in _served(product)[:: run.scale(short=2, full=1)]:
        policy = policy_of(method, path)
        told = await ask_raw(product.url, method, path, {})
        run.trial((told.status == 401) != (policy is Policy.OPEN), f"{method} {path} for nobody: {told.status}")
        for scope in (KeyScope.READ, KeyScope.INFER):
            told = await ask_raw(product.url, method, path, {"x-api-key": keys[scope]})
            may = scope.covers(policy.scope) and policy is not Policy.CREATE
            run.trial(told.status != 401 and (told.status != 403) == may, f"{method} {path}, {scope}: {told.status}")


def _served(product: Loupe) -> list[tuple[str, str]]:
    routes = [route for route in create_routes(product.services) if isinstance(route, Route)]
    pairs = {
        (method, re.sub(r"\{\w+(:path)?\}", "0", route.path)) for route in routes for method in route.methods or ()
    }
    return sorted(pair for pair in pairs if is_gateway_path(pair[1]))


async def _injections(run: Run, product: Loupe, key: str) -> None:
    for text in INJECTIONS[:: run.scale(short=13, full=1)]:
        for told in await _injected(product, key, text):
            clean = told.status < 500 and not LEAKS.search(told.body) and b"x-evil" not in told.head.lower()
            run.trial(clean, f"{text[:30]!r}: {told.status} {told.body[:120]!r}")


async def _injected(product: Loupe, key: str, text: str) -> list[Told]:
    """The answers where the string stands in a header, in a path, in a query, and in each field of a body."""
    plain = "".join(letter for letter in text[:2000] if " " <= letter < "\x7f")
    names = ("X-Loupe-Cache", "X-Loupe-Host", "X-Loupe-Priority", "X-Loupe-Patience", "traceparent", "Cookie", "Accept",
             "User-Agent", "Content-Encoding", "X-Forwarded-For", "X-Forwarded-Host", "anthropic-version")  # fmt: skip
    owner, found = {"Authorization": f"Bearer {key}"}, list[Told]()
    for name in names:
        found.append(await ask_raw(product.url, "POST", "/api/chat", owner | {name: plain}, _json(model=MODEL)))
    quoted = httpx.QueryParams({"q": text[:2000]})
    for path in ("/loupe/cache/entries", "/loupe/requests", "/loupe/queue", "/api/tags", "/v1/models"):
        found.append(await ask_raw(product.url, "GET", f"{path}?{quoted}&limit={quoted['q'] and 'x'}", owner))
        found.append(await ask_raw(product.url, "GET", f"{path}/{str(quoted)[2:]}", owner))
    for field in ("model", "name", "source", "destination", "messages", "options", "format", "keep_alive", "prompt"):
        for method, path in (("POST", "/api/chat"), ("POST", "/v1/chat/completions"), ("POST", "/api/show"),
                             ("POST", "/api/copy"), ("DELETE", "/api/delete")):  # fmt: skip
            body = _json(**{"model": MODEL, "messages": [{"role": "user", "content": "hi"}], field: text})
            found.append(await ask_raw(product.url, method, path, owner, body))
    return found


def _json(**fields: Any) -> bytes:
    return httpx.Request("POST", "http://localhost", json=fields).content


async def ask_raw(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"{}") -> Told:
    """One request with exactly this path, and the whole answer; of a feed its beginning."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    fields: Sequence[str] = [
        f"Host: {where.netloc}", "Connection: close", f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *fields, "\r\n"]).encode("latin-1") + body)
    found = b""
    try:
        async with asyncio.timeout(30):
            while piece := await reader.read(65536):
                found += piece
                if b"text/event-stream" in found:
                    break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    head, _, rest = found.partition(b"\r\n\r\n")
    return Told(int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0, head, rest)
