"""People who sign in at an identity provider, by Streamlit's own login: real sockets, a provider of the tests' own."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.oidc_provider import CLIENT, SECRET, Provider, provider
from tests.served import Served, free_port, served_app

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("people")]
TOKEN = "a-token-of-the-owner"
ANA, BEN, EVE = "ana@example.org", "ben@team.example", "eve@example.net"
PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def idp() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def app(idp: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_port()
    settings = {
        "OLLAMA_HOST": "127.0.0.1:9", "LOUPE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "LOUPE_OIDC_METADATA_URL": idp.metadata_url, "LOUPE_OIDC_CLIENT_ID": CLIENT, "LOUPE_OIDC_CLIENT_SECRET": SECRET,
        "LOUPE_OIDC_ADMINS": ANA, "LOUPE_OIDC_USERS": "@team.example",
    }  # fmt: skip
    with served_app(tmp_path_factory.mktemp("people") / "data", port, **settings) as served:
        served.wait_ready("/healthz")
        yield served


class Browser:
    """Cookies and redirects as a browser has them."""

    def __init__(self, app: Served) -> None:
        self._app, self.jar = app, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str, headers: dict[str, str] = PAGE, data: bytes | None = None) -> tuple[int, str, str]:
        """Status, address in the end, text."""
        try:
            with self._opener.open(urllib.request.Request(self._app.url + path, data, headers), timeout=60) as answer:
                return answer.status, answer.url, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.url or "", error.read().decode("utf-8", "replace")

    def sign_in(self) -> tuple[int, str, str]:
        return self.get("/loupe/sign-in?account=1")

    def who(self) -> dict[str, Any]:
        status, _, text = self.get("/loupe/whoami", {})
        return json.loads(text) if status == 200 else {"status": status}

    def socket(self) -> int:
        """What the page's websocket answers: 101, or the status of a refusal."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.jar)
        address = self._app.url.replace("http", "ws", 1) + "/_stcore/stream"
        try:
            with connect(address, additional_headers={"Cookie": cookies}, subprotocols=["streamlit"], open_timeout=30):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


def test_who_is_not_signed_in_is_asked_to_and_offered_the_account(app: Served) -> None:
    browser = Browser(app)
    status, address, text = browser.get("/")
    assert status == 200 and "/loupe/sign-in" in address and "Sign in with your account" in text
    assert browser.who() == {"status": 401} and browser.socket() == 403


@pytest.mark.parametrize(("email", "scope"), [(ANA, "admin"), ("Ana@Example.org", "admin"), (BEN, "infer")])
def test_who_is_named_in_the_settings_signs_in_and_is_a_principal_of_that_scope(
    email: str, scope: str, app: Served, idp: Provider
) -> None:
    idp.claims = {"sub": "1", "email": email, "email_verified": True}
    browser = Browser(app)
    status, address, _ = browser.sign_in()
    assert status == 200 and address == f"{app.url}/"
    told = browser.who()
    assert told["name"] == email.lower() and told["scope"] == scope and not told["owner"]
    assert browser.socket() == 101
    hosts, _, _ = browser.get("/loupe/history/backups", {})
    assert hosts == (200 if scope == "admin" else 403)
    browser.get("/loupe/sign-out", {"Origin": app.url}, b"")
    assert browser.who() == {"status": 401} and browser.socket() == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"email": EVE, "email_verified": True}, {"email": ANA, "email_verified": False}, {"name": "no address"},
        {"email": f"{ANA}@team.example", "email_verified": True}, {"email": "ben@evil.team.example"},
    ],
)  # fmt: skip
def test_any_other_account_is_nobody_here_and_told_so(claims: dict[str, Any], app: Served, idp: Provider) -> None:
    idp.claims = {"sub": "1", **claims}
    browser = Browser(app)
    _, address, text = browser.sign_in()
    assert "/loupe/sign-in" in address and "may not come in here" in text
    assert browser.who() == {"status": 401} and browser.socket() == 403


def test_a_forged_cookie_and_an_answer_to_another_question_let_nobody_in(app: Served, idp: Provider) -> None:
    idp.claims = {"sub": "1", "email": ANA, "email_verified": True}
    idp.nonce_lies = True
    browser = Browser(app)
    try:
        assert "/loupe/sign-in" in browser.sign_in()[1]
    finally:
        idp.nonce_lies = False
    assert browser.who() == {"status": 401}
    browser.sign_in()
    [cookie] = [cookie for cookie in browser.jar if cookie.name == "_streamlit_user"]
    assert browser.who()["name"] == ANA and cookie.value
    cookie.value = cookie.value[:-3] + "AAA"
    assert browser.who() == {"status": 401} and browser.socket() == 403
    assert browser.get("/oauth2callback?code=x&state=y")[0] == 200  # a stale way back leads to the sign-in
