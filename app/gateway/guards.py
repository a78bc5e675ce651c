"""The outermost middleware: Host, Origin, Sec-Fetch-Site, Content-Type and token, on every http and websocket scope.

Pure ASGI, because BaseHTTPMiddleware hides disconnects. Refusals of Host and Origin have an empty body, as Ollama's
have. Streamlit's own checks do not cover our routes and do not stop DNS rebinding; these stand before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Settings
from app.core.ports import Clock
from app.gateway import sign_in
from app.gateway.credentials import COOKIE, Credentials, Guesses, Refused, read_seal, shown_in
from app.gateway.error_responses import error_at, plain_error
from app.gateway.origins import Authority, HostRules, OriginRules
from app.gateway.paths import is_gateway_path
from app.gateway.policies import Policy, policy_of, refusal
from app.gateway.response_headers import Marks
from app.services.access_keys import OWNER, STRANGER, AccessKeys, KeyScope, Visitor

VISITOR_HEADER = b"x-loupe-visitor"  # who has come in, for the pages; what a client sends under that name is dropped
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
UPLOAD_BYTES = 21 << 20  # of a body for a page; Streamlit itself takes files of 20 MB (asgi)
HEADS, HEAD_BYTES = 512, 4 << 10  # heads that have passed, and how large one of them may be to be remembered
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, DELETE, HEAD",
    "access-control-allow-headers": "Authorization, X-Api-Key, Anthropic-Version, Content-Type, Accept, "
    "X-Requested-With, X-Loupe-Cache, X-Loupe-Host, X-Loupe-Priority, X-Request-Id, Traceparent, Tracestate",
    "access-control-max-age": "600",
}


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What the operator allows. `private` is the token of `instance.json`; `seal` signs the sessions of keys;
    `loopback`: only this machine reaches us; `login`: people sign in at an identity provider."""

    allowed_hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()
    token: str | None = None
    private: str | None = None
    keys: AccessKeys | None = None
    seal: bytes = b""
    loopback: bool = True
    login: sign_in.Login | None = None


def access_rules(
    settings: Settings, keys: AccessKeys, private: str | None = None, login: sign_in.Login | None = None
) -> AccessRules:
    """What the settings say. Raises `StoreError` where the data folder cannot be used. Blocks."""
    token = settings.token.get_secret_value() if settings.token else None
    return AccessRules(
        settings.allowed_hosts, settings.origins, token, private, keys, read_seal(settings.data), settings.loopback,
        login,
    )  # fmt: skip


class Guards:
    """Wraps the whole application. `inline` are the CSP hashes of the page's own inline scripts."""

    def __init__(self, app: ASGIApp, rules: AccessRules, clock: Clock, inline: str = "") -> None:
        self._app = app
        self._hosts = HostRules(rules.allowed_hosts)
        self._origins = OriginRules(rules.origins)
        self._credentials = Credentials(
            rules.token, rules.private, clock, rules.keys, seal=rules.seal, loopback=rules.loopback
        )
        self._guesses = Guesses(clock)
        self._login = rules.login
        self._sign_in = sign_in.SignIn(self._credentials, self._guesses, rules.login)
        self._inline = inline
        self._passed: dict[object, Marks] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refusal: Response | None
        marks = self._look(scope)
        if isinstance(marks, Marks):
            if scope["type"] == "http":
                send = marks.on(scope, send)
            refusal = self._identify(scope)
        else:
            refusal = marks
        if refusal is None and scope["type"] == "http" and scope["path"] in (sign_in.PATH, sign_in.OUT_PATH):
            return await self._sign_in(scope, receive, send)
        if refusal is None:
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            await receive()  # the connect event; closing before accepting answers 403
            return await send({"type": "websocket.close", "code": 1008})
        return await refusal(scope, receive, send)

    def _look(self, scope: Scope) -> Marks | Response:
        """What marks the answers to a head that may pass, whoever sends it; else the refusal.

        Both follow from the head and the settings alone: one that passed may pass again byte for byte.
        """
        head = (scope["type"], scope.get("method"), scope["scheme"], scope["path"], tuple(scope["headers"]))
        if (passed := self._passed.get(head)) is not None:
            return passed
        headers = Headers(scope=scope)
        host = self._hosts.accept(headers.getlist("host"))
        refusal = Response(status_code=403) if host is None else self._refuse(scope, headers, host)
        if refusal is not None:
            return refusal
        marks = Marks(scope, headers, self._inline, self._foreign(headers))
        if sum(len(name) + len(value) for name, value in headers.raw) <= HEAD_BYTES:
            if len(self._passed) >= HEADS:
                self._passed.clear()
            self._passed[head] = marks
        return marks

    def _foreign(self, headers: Headers) -> str | None:
        """The Origin, if it is one of LOUPE_ORIGINS, for the CORS headers."""
        origin = headers.get("origin")
        return origin if origin and self._origins.is_other(origin) else None

    def _refuse(self, scope: Scope, headers: Headers, host: Authority) -> Response | None:
        """Cross-site requests, and bodies a page could send without asking first."""
        ours = is_gateway_path(scope["path"])
        origins = headers.getlist("origin")
        if origins:
            foreign = len(origins) == 1 and self._origins.is_other(origins[0]) and ours and scope["type"] == "http"
            own = len(origins) == 1 and self._origins.is_own(origins[0], host, scope["scheme"])
            if not (own or foreign):
                return Response(status_code=403)
            if foreign and scope["method"] == "OPTIONS":
                return Response(status_code=204, headers=_PREFLIGHT | _cors(origins[0]))
        elif not _fetched_by_us(scope, headers, ours):
            return Response(status_code=403)
        return _body_problem(scope, headers) if ours else _upload_problem(scope, headers)

    def _identify(self, scope: Scope) -> Response | None:
        """Let in whoever shows the token, a key, or a session made from one; tell the others how to come in."""
        visitor: Visitor | None = OWNER
        if self._credentials.required or self._login is not None:
            try:
                visitor = self._recognise(scope)
            except _TooManyGuesses as error:
                return error_at(scope["path"], 429, str(error), retry_after=error.wait)
            except Refused as error:
                return _unauthorized(scope, str(error))
        state = scope.setdefault("state", {})
        state["known"], state["visitor"] = visitor is not None, visitor or STRANGER
        if visitor is None:
            is_open = scope["type"] == "http" and policy_of(scope["method"], scope["path"]) is Policy.OPEN
            return None if is_open else _ask_to_sign_in(scope)
        if scope["type"] == "websocket":
            kept = [pair for pair in scope["headers"] if pair[0] != VISITOR_HEADER]
            scope["headers"] = [*kept, (VISITOR_HEADER, visitor.principal.encode())]
        if visitor.scope is KeyScope.ADMIN:
            return None
        why = refusal(visitor, scope.get("method", ""), scope["path"])
        return error_at(scope["path"], 403, why) if why else None

    def _recognise(self, scope: Scope) -> Visitor | None:
        """None where nothing is shown. Raises `Refused` and `_TooManyGuesses`."""
        secret = shown_in(scope["headers"])
        if secret is None:
            found = self._credentials.visitor_of_cookie(_cookie(Headers(scope=scope)))
            return self._of_login(scope) if found is None and self._login is not None else found
        if not self._credentials.may_be_guess(secret):
            return self._credentials.visitor(secret)
        address = scope["client"][0] if scope.get("client") else ""
        if wait := self._guesses.wait(address):
            raise _TooManyGuesses(wait)
        try:
            visitor = self._credentials.visitor(secret)
        except Refused:
            self._guesses.wrong(address)
            raise
        self._guesses.right(address)
        return visitor

    def _of_login(self, scope: Scope) -> Visitor | None:
        """Who signed in at the provider; who may not come in all the same is told so by the sign-in page."""
        assert self._login is not None  # noqa: S101
        claims = self._login.claims(cookie_parser("; ".join(Headers(scope=scope).getlist("cookie"))))
        visitor = self._login.people.of_claims(claims) if claims else None
        if claims and visitor is None:
            scope.setdefault("state", {})["unwelcome"] = str(claims.get("email") or claims.get("name") or "somebody")
        return visitor


class _TooManyGuesses(Exception):
    """`wait` in seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__("too many wrong tokens from your address; try again later")
        self.wait = wait


def _cors(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, "vary": "Origin"}


def _fetched_by_us(scope: Scope, headers: Headers, ours: bool) -> bool:
    """Without an Origin: no browser at all, our own page, the address bar, or a link that opens one of our pages.

    `same-site` is refused with `cross-site`: another port of localhost is same-site.
    """
    site = headers.get("sec-fetch-site")
    if site in (None, "same-origin", "none"):
        return True
    opens_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return scope["type"] == "http" and scope["method"] == "GET" and opens_page and not ours


def _body_problem(scope: Scope, headers: Headers) -> Response | None:
    """A browser must send JSON as JSON: other types need no preflight, so any page could send them."""
    if scope["type"] != "http" or scope["method"] not in _BODY_METHODS or scope["path"] == sign_in.PATH:
        return None
    # A browser names the site with every Sec-Fetch header; Node's own fetch, which is no page, sends a mode alone.
    from_browser = "origin" in headers or "sec-fetch-site" in headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if from_browser and has_body and kind != "application/json":
        return plain_error(415, "a request from a web page must have Content-Type application/json")
    return None


def _upload_problem(scope: Scope, headers: Headers) -> Response | None:
    """What pages are sent is bounded here: Streamlit's own routes read a body before they look how long it is."""
    if scope["type"] != "http" or scope["method"] not in _BODY_METHODS:
        return None
    if "transfer-encoding" in headers:
        return plain_error(411, "say how long the body is (Content-Length)")
    length = headers.get("content-length", "0")
    return None if length.isdigit() and int(length) <= UPLOAD_BYTES else plain_error(413, "the body is too large")


def _cookie(headers: Headers) -> str:
    for part in "; ".join(headers.getlist("cookie")).split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


_NOTHING_SHOWN = (
    "a key is needed here: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`; whoever runs this Loupe makes "
    "one with: python -m app keys create NAME"
)


def _unauthorized(scope: Scope, why: str) -> Response:
    response = error_at(scope["path"], 401, f"unauthorized: {why}")
    response.headers["www-authenticate"] = "Bearer"
    return response


def _ask_to_sign_in(scope: Scope) -> Response:
    wants_page = scope["type"] == "http" and "text/html" in Headers(scope=scope).get("accept", "")
    if not wants_page or scope["method"] != "GET":
        return _unauthorized(scope, _NOTHING_SHOWN)
    here = quote(scope["path"]) + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
    if Headers(scope=scope).get("sec-fetch-site") in ("cross-site", "same-site"):
        return sign_in.second_look(sign_in.safe_next(here))
    return RedirectResponse(f"{sign_in.PATH}?next={quote(here, safe='')}", 303)
