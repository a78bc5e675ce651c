"""A bind that others reach, as a browser meets it: first the sign-in, then the page, over http and the websocket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS, ChatPage
from tests.served import Served, http, served_app
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(300)
TOKEN = "a-long-secret-token"


def test_bound_to_every_interface_the_page_wants_the_token_and_then_answers(tmp_path: Path, page: Page) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("q8_0",))
    closed = {"LOUPE_BIND": "0.0.0.0", "LOUPE_TOKEN": TOKEN, "LOUPE_ALLOWED_HOSTS": "127.0.0.1"}
    with served_app(data, LOUPE_STARTER="off", **closed) as app:
        app.wait_ready("/healthz")
        page.goto(app.url)
        token = page.locator("#token")
        token.fill("not the token")
        token.press("Enter")
        expect(page.get_by_role("alert").or_(page.get_by_text("token", exact=False)).first).to_be_visible(
            timeout=SECONDS
        )
        expect(page.get_by_placeholder("Ask something")).to_have_count(0)
        page.locator("#token").fill(TOKEN)
        page.locator("#token").press("Enter")
        chat = ChatPage(page, app.url)
        expect(chat.composer).to_be_enabled(timeout=SECONDS)
        chat.set_parameter("Temperature", "0")
        chat.ask("What is the capital of France?")
        assert "Paris" in chat.read()
        (cookie,) = (cookie for cookie in page.context.cookies() if cookie["name"] == "loupe_session")
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and TOKEN not in cookie["value"]
        _with_a_key(app, page)


def _with_a_key(app: Served, page: Page) -> None:
    """Somebody else in the same browser: the chat alone, none of the owner's, and out as soon as the key is revoked."""
    owner = {"Authorization": f"Bearer {TOKEN}"}
    made = json.loads(http(f"{app.url}/loupe/keys", {"name": "guest"}, headers=owner)[1])
    expect(page.get_by_role("link", name="Models")).to_be_visible(timeout=SECONDS)
    page.context.clear_cookies()
    page.goto(app.url)
    page.locator("#token").fill(made["secret"])
    page.locator("#token").press("Enter")
    expect(page.get_by_placeholder("Ask something")).to_be_enabled(timeout=SECONDS)
    expect(page.get_by_role("link", name="Models")).to_have_count(0)
    expect(page.get_by_text("What is the capital of France?", exact=True)).to_have_count(0)
    assert http(f"{app.url}/loupe/keys/guest", method="DELETE", headers=owner)[0] == 200
    page.reload()
    expect(page.locator("#token")).to_be_visible(timeout=SECONDS)
