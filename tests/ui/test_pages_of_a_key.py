"""The pages as somebody sees them who signed in with a key: none that changes things, own models, own chats alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.services.access_keys import OWNER, KeyScope, Visitor
from app.ui import access, actions
from app.ui.state import chat_state
from tests.ui.fake_services import FakeServices

OpenScreen = Callable[..., AppTest]
ALLOWED = "smollm2:135m-instruct-q4_0"


def signed_in(monkeypatch: pytest.MonkeyPatch, scope: KeyScope, *models: str) -> None:
    visitor = Visitor("key:0001", "ci", scope, models)
    monkeypatch.setattr(access, "visitor", lambda: visitor)


def keys_of(page: AppTest) -> list[str]:
    return [button.key for button in page.button if button.key]


@pytest.mark.parametrize("screen", ["compare", "models", "service"])
def test_a_key_that_only_asks_models_opens_the_chat_whatever_page_it_wants(
    open_screen: OpenScreen, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    signed_in(monkeypatch, KeyScope.INFER)
    page = open_screen(screen)
    assert not page.exception and [box.placeholder for box in page.chat_input] == ["Ask something"]


def test_a_key_of_an_administrator_opens_every_page(open_screen: OpenScreen, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, KeyScope.ADMIN)
    page = open_screen("service")
    assert not page.exception and not page.chat_input


def test_the_picker_has_only_the_models_of_the_key(open_screen: OpenScreen, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, KeyScope.INFER, ALLOWED)
    page = open_screen("chat")
    assert not page.exception
    page.session_state["variant"] = True
    page.run()
    assert not page.exception
    assert [key for key in keys_of(page) if key.startswith("pick-")] == [f"pick-{ALLOWED}"]


def test_a_key_without_a_model_at_hand_is_told_so(open_screen: OpenScreen, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, KeyScope.INFER, "no-such-model")
    page = open_screen("chat")
    assert not page.exception and any("None is here that your key may use" in one.body for one in page.get("html"))


def test_nobody_changes_a_chat_of_somebody_else(
    open_screen: OpenScreen, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = services.run(services.history.create(OWNER.principal, model=ALLOWED, system="Be kind.", options={}))
    signed_in(monkeypatch, KeyScope.INFER)
    page = open_screen("chat", chat=theirs.id)
    assert not page.exception and any("does not exist" in one.body for one in page.get("html"))
    monkeypatch.setattr(actions, "open_chat_id", lambda: theirs.id)
    for change in (
        lambda: actions.set_system("Be rude."), lambda: actions.set_options({"seed": 1}),
        lambda: actions.choose_variant("other"), actions.stop,
    ):  # fmt: skip
        change()
        assert "does not exist" in str(chat_state().notices[""])
    found = services.run(services.history.get(theirs.id, OWNER.principal))
    assert (found.system, dict(found.options), found.model) == ("Be kind.", {}, ALLOWED)
