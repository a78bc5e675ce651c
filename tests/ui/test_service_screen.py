"""The Service screen over scripted services: what its live part begins with, what its buttons do, and the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import BadRequest, NoHealthyHost
from app.core.hosts import HostState, HostStatus
from app.services.queueing.views import QueueSnapshot
from app.ui import service_actions
from app.ui.components.service_live import JS
from tests.ui import scenes
from tests.ui.fake_services import OLLAMA, FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]


def begins_with(page: AppTest) -> dict[str, Any]:
    """What the live part is given to draw at first."""
    [live] = page.get("bidi_component")
    view: dict[str, Any] = json.loads(live.proto.mixed.json if live.proto.HasField("mixed") else live.proto.json)
    return dict(view["view"])


@pytest.mark.parametrize("number", [0, 1, 60])
def test_everyone_who_waits_is_told_with_position_eta_and_why(
    number: int, services: FakeServices, open_screen: Open
) -> None:
    waiting = tuple(scenes.ticket(place) for place in range(1, number + 1))
    services.queue.view = QueueSnapshot(waiting)
    told = begins_with(calm(open_screen("service")))["queue"]["waiting"]
    assert [row["position"] for row in told] == list(range(1, number + 1))
    assert all(row["why"] and row["eta"][0] < row["eta"][1] and row["priority"] for row in told)


@pytest.mark.parametrize("state", list(HostState))
def test_a_host_in_any_state_is_told_in_words(state: HostState, services: FakeServices, open_screen: Open) -> None:
    services.pool.hosts = (HostStatus(OLLAMA, state, error="why it is so"),)
    [host] = begins_with(calm(open_screen("service")))["hosts"]
    assert host["state"] == str(state)
    assert f'"{state}"' in JS or f"{state}:" in JS


def test_a_request_in_flight_is_told_with_its_phase_and_what_ended_with_its_way(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.service(services)
    view = begins_with(calm(open_screen("service")))
    assert [(row["host"], row["phase"]) for row in view["queue"]["running"]] == [
        ("built-in", "decode"), ("bench", "prefill"), ("bench", "loading"),
    ]  # fmt: skip
    assert {"hit", "miss", "bypass", "refresh"} <= {row["cache"] for row in view["recent"]}
    assert view["cache"]["hits"] == 3 and view["cache"]["entries"] == 2


@pytest.mark.parametrize(
    ("asked", "calls"),
    [
        (("pause", "", ""), [("queue", "pause")]), (("resume", "", ""), [("queue", "resume")]),
        (("drain-queue", "", ""), [("queue", "drain")]),
        (("cancel", "t7", ""), [("queue", "cancel", "t7")]),
        (("move", "t7", "batch"), [("queue", "move", "t7", "batch")]),
        (("drain", "bench", ""), [("host", "drain", "bench")]),
        (("undrain", "bench", ""), [("host", "undrain", "bench")]),
        (("nonsense", "", ""), []),
    ],
)  # fmt: skip
def test_each_button_of_the_live_part_does_what_it_says(
    asked: tuple[str, str, str], calls: list[tuple[str, ...]], services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    press(monkeypatch, *asked)
    done = [("queue", *call) for call in services.queue.calls] + [("host", *call) for call in services.hosts.calls]
    assert done == calls


def press(monkeypatch: pytest.MonkeyPatch, what: str, name: str, value: str = "") -> dict[str, Any]:
    """A click in the live part, as the page hears of it; the page's state after it."""
    state: dict[str, Any] = {service_actions.LIVE: {"act": {"what": what, "id": name, "value": value}}}
    fake = SimpleNamespace(session_state=state)
    monkeypatch.setattr(service_actions, "st", fake)
    monkeypatch.setattr("app.ui.state.st", fake)
    service_actions.acted()
    return state


def test_what_cannot_be_done_is_told_on_the_page(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    services.queue.refusal = BadRequest("the request has ended")
    state = press(monkeypatch, "cancel", "t1")
    assert state["loupe.service"].notices["live"].what_to_do == "The request has ended."


def test_a_host_is_removed_after_a_dialog_that_names_it(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("service")
    page.session_state["loupe.service"].confirming = ("remove", "bench")
    page.run()
    assert "what it is answering now ends first" in text_of(calm(page)).lower()
    page.button(key="confirm-cancel").click().run()
    assert services.hosts.calls == []
    page.session_state["loupe.service"].confirming = ("remove", "bench")
    page.run().button(key="confirm-go").click().run()
    assert services.hosts.calls == [("remove", "bench")]
    assert not page.get("dialog")


def test_a_host_is_added(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("service")
    page.session_state[service_actions.ADD] = True
    page.run()
    page.text_input(key=service_actions.ADDRESS).set_value("192.168.1.20:11434")
    page.number_input(key=service_actions.SLOTS).set_value(2)
    page.button[-1].click().run()
    assert services.hosts.calls == [("add", "192.168.1.20-11434", "192.168.1.20:11434", "2", "None")]
    services.hosts.refusal = BadRequest("that is no address")
    page.session_state[service_actions.ADD] = True
    page.run()
    page.text_input(key=service_actions.ADDRESS).set_value("nonsense")
    page.button[-1].click().run()
    assert "That is no address" in text_of(calm(page))


def test_the_cache_is_shown_searched_and_lightened(services: FakeServices, open_screen: Open) -> None:
    scenes.cache(services)
    page = calm(open_screen("service", view="Cache"))
    words = text_of(page)
    for expected in ("Hit rate", "100 %", "27", "up to 1 minute", "Show 20 more"):
        assert expected in words or expected in labels_of(page)
    page.text_input(key="cache-search").set_value("median").run()
    assert "median" in html_of(calm(page)) and "capital" not in html_of(page)
    first = next(button for button in page.button if (button.key or "").startswith("drop-"))
    first.click().run()
    assert services.run(services.cache.stats()).entries == 26


def test_a_kept_answer_is_read_in_a_dialog_and_one_that_went_meanwhile_is_told(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.kept(services, "What is the capital of France?")
    page = open_screen("service", view="Cache")
    page.button(key=f"read-{0:064x}").click().run()
    assert "What is the capital of France?" in text_of(calm(page)) and "Paris." in text_of(page)
    services.run(services.cache.clear())
    page.session_state["loupe.service"].confirming = ("answer", f"{0:064x}")
    assert "not in the cache any more" in text_of(calm(page.run()))


def test_what_is_kept_is_shown_while_no_host_answers(
    services: FakeServices, open_screen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*, stale_ok: bool = False) -> None:
        raise NoHealthyHost({"ollama": "refused"})

    scenes.cache(services)
    monkeypatch.setattr(services.catalog, "snapshot", away)
    page = open_screen("service", view="Cache")
    assert "No model host answers" not in text_of(calm(page))
    chosen = page.selectbox(key="cache-model").set_value(scenes.Q4).run()
    assert f"/loupe/cache/export?model={quote(scenes.Q4, safe='')}" in html_of(calm(chosen))


def test_all_answers_of_a_model_and_then_all_are_deleted_after_a_dialog(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.cache(services)
    page = open_screen("service", view="Cache")
    page.selectbox(key="cache-model").select(scenes.Q4).run()
    page.button(key="purge").click().run()
    page.button(key="confirm-go").click().run()
    left = services.run(services.cache.entries("local", limit=50)).entries
    assert left and all(entry.model != scenes.Q4 for entry in left)
    page.selectbox(key="cache-model").select("").run()
    page.button(key="clear").click().run()
    page.button(key="confirm-go").click().run()
    assert services.run(services.cache.stats()).entries == 0
    assert "Nothing is kept yet" in text_of(calm(page))


def test_a_cache_that_is_off_says_why_and_when_it_tries_again(services: FakeServices, open_screen: Open) -> None:
    scenes.cache_off(services)
    words = text_of(calm(open_screen("service", view="Cache")))
    assert "The cache is off for a moment" in words and "tries again in" in words


def test_the_feed_tells_what_changed_and_is_silent_where_nothing_did(services: FakeServices) -> None:
    async def look() -> list[int]:
        views = services.overview.watch()
        told = [await anext(views)]
        services.queue.view = replace(services.queue.view, waiting=(scenes.ticket(1),))
        told.append(await anext(views))
        await views.aclose()
        return [len(view["queue"]["waiting"]) for view in told]  # type: ignore[arg-type,call-overload,index]

    assert services.run(look()) == [0, 1]
