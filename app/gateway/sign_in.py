"""Signing in with the token or a key, for browsers: a form, a cookie, and the way out.

The page stands alone: no script, no request to anywhere, readable in light and dark.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from app.core.errors import LoupeError
from app.gateway.bodies import read_body
from app.gateway.credentials import COOKIE, SESSION_SECONDS, Credentials, Guesses
from app.gateway.error_responses import handle_loupe_error, plain_error
from app.gateway.security_headers import OWN_PAGE_POLICY
from app.services.access_keys import KeyScope
from app.services.people import People

PATH = "/loupe/sign-in"
OUT_PATH = "/loupe/sign-out"
_FORM_BYTES = 8192
_FORM_SECONDS = 10.0
_WRONG_SECONDS = 0.5  # a wrong answer takes this long, whoever asks

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Loupe: sign in</title><meta name="color-scheme" content="light dark">{head}<style>
:root {{ --ground: #fcfcfb; --text: #1d1e20; --muted: #62656a; --line: #c9c9c4;
  --accent: #0b6670; --on: #fff; --bad: #b3261e }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #131416; --text: #e4e5e7; --muted: #9b9ea5; --line: #46494f;
  --accent: #5fc3cc; --on: #10201f; --bad: #f2847c }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }}
main {{ width: min(22rem, 100vw - 2rem) }}
h1 {{ font-size: 1.25rem; margin: 0 0 .25rem }} p {{ margin: 0 0 1rem; color: var(--muted) }}
p.bad {{ color: var(--bad) }}
p.account {{ margin: 1rem 0 0; text-align: center }} a {{ color: var(--accent) }}
label {{ display: block; margin-bottom: .25rem }}
input, button {{ width: 100%; font: inherit; padding: .55rem .7rem; border-radius: 6px }}
input {{ border: 1px solid var(--line); background: transparent; color: inherit; margin-bottom: .75rem }}
button {{ border: 0; background: var(--accent); color: var(--on); font-weight: 600; cursor: pointer }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px }}
</style></head><body><main>{content}</main></body></html>
"""
_FORM = """<h1>Sign in to Loupe</h1>
<p>This Loupe wants a key, or the token: the value of LOUPE_TOKEN where Loupe was started.</p>{problem}
<form method="post" action="{path}"><input type="hidden" name="next" value="{next}">
<label for="token">Key or token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Sign in</button></form>{other}"""
_ACCOUNT = f'<p class="account"><a href="{PATH}?account=1">Sign in with your account</a></p>'


def _page(content: str, status: int = 200, head: str = "") -> HTMLResponse:
    headers = {"content-security-policy": OWN_PAGE_POLICY, "cache-control": "no-store"}
    return HTMLResponse(_PAGE.format(content=content, head=head), status, headers)


def _form(next_path: str, problem: str = "", status: int = 200, other: str = "") -> HTMLResponse:
    shown = f'<p class="bad" role="alert">{html.escape(problem)}</p>' if problem else ""
    return _page(_FORM.format(problem=shown, path=PATH, next=html.escape(next_path, quote=True), other=other), status)


def second_look(here: str) -> Response:
    """For a visitor who followed a link from another site: a Strict cookie is not sent then, so ask again from here."""
    refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(here, quote=True)}">'
    return _page("<p>One moment.</p>", head=refresh)


def safe_next(target: str) -> str:
    """Only a path of ours: anything that could name another host becomes `/`."""
    parts = urlsplit(target) if target.isprintable() and "\\" not in target else None
    inside = parts is not None and not parts.scheme and not parts.netloc and target.startswith("/")
    return target if inside and not target.startswith("//") else "/"


@dataclass(frozen=True, slots=True)
class Login:
    """The way over an identity provider. `claims` reads what it said out of a browser's cookies, `path` is where a
    browser goes to sign in, `cookies` how the names of those cookies begin."""

    people: People
    claims: Callable[[Mapping[str, str]], Mapping[str, object]]
    path: Callable[[], str]
    cookies: str


class SignIn:
    """GET and POST of the sign-in page, and POST of sign-out."""

    def __init__(self, credentials: Credentials, guesses: Guesses, login: Login | None = None) -> None:
        self._credentials, self._guesses, self._login = credentials, guesses, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except LoupeError as error:
            response = handle_loupe_error(request, error)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method == "GET" and request.scope["path"] == PATH:
            return self._arrive(request)
        if request.method != "POST":
            return plain_error(405, "405 method not allowed")
        if request.scope["path"] == OUT_PATH:
            response = RedirectResponse(PATH, 303)
            response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
            if self._login is not None:
                for name in request.cookies:
                    if name.startswith(self._login.cookies):
                        response.delete_cookie(name, path="/", httponly=True, samesite="lax")
            return response
        return await self._check(request)

    def _arrive(self, request: Request) -> Response:
        wanted = safe_next(request.query_params.get("next", "/"))
        if request.state.known:
            return RedirectResponse(wanted, 303)
        if self._login is not None and "account" in request.query_params:
            return RedirectResponse(self._login.path(), 303)
        unwelcome = getattr(request.state, "unwelcome", "")
        problem = f"{unwelcome} may not come in here. Ask whoever runs this Loupe, or use another account."
        return self._form(wanted, problem if unwelcome else "")

    def _form(self, wanted: str, problem: str = "", status: int = 200) -> HTMLResponse:
        return _form(wanted, problem, status, _ACCOUNT if self._login is not None else "")

    async def _check(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        fields = parse_qs((await read_body(request, _FORM_BYTES, _FORM_SECONDS)).decode("utf-8", "replace"))
        wanted = safe_next(fields.get("next", ["/"])[0])
        given = fields.get("token", [""])[0].strip()
        guess = self._credentials.may_be_guess(given.encode())
        if guess and (wait := self._guesses.wait(address)):
            minutes = f"{max(1, round(wait / 60))} min"
            return self._form(wanted, f"Too many wrong tokens from your address. Try again in {minutes}.", 429)
        visitor = self._credentials.signs_in(given)
        if visitor is None:
            if guess:
                self._guesses.wrong(address)
            await asyncio.sleep(_WRONG_SECONDS)
            return self._form(wanted, "That is neither the token nor a key that is in force.", 401)
        if not visitor.scope.covers(KeyScope.INFER):
            return self._form(
                wanted, "This key may only read over HTTP; the pages want one of scope infer or admin.", 403
            )
        if guess:
            self._guesses.right(address)
        response = RedirectResponse(wanted, 303)
        secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
        response.set_cookie(
            COOKIE,
            self._credentials.new_cookie(visitor),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return response
