"""Dashboard > Requests over scripted services: the list and its filters, one request, and asking it again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

from app.core.errors import HostUnreachable
from app.services.chat import Caller
from app.services.telemetry import CacheDecision
from app.ui import request_actions
from tests.screenshots import served
from tests.ui import request_scenes as scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., AppTest]
SECONDS = 30_000  # ms; a deadline


def listed(page: AppTest) -> int:
    return html_of(calm(page)).count('<tr role="row" data-lp-request=')


def test_the_list_is_filtered_and_each_filter_stands_in_the_address(services: FakeServices, open_screen: Open) -> None:
    scenes.requests(services)
    page = open_screen("dashboard", view="Requests")
    assert listed(page) == 100 and "of the last 161 requests" in text_of(page)
    page.selectbox(key="requests-status").select("failed").run()
    failed = listed(page)
    assert 0 < failed < 20 and html_of(page).count(">host unreachable</span>") == failed
    assert page.query_params["status"] in ("failed", ["failed"])
    page.selectbox(key="requests-status").select("").run()
    page.selectbox(key="requests-variant").select("smollm2").run()
    assert listed(page) == 100 and "4b-instruct" not in html_of(page)
    page.selectbox(key="requests-user").select("ada").run()
    theirs = [one for one in services.telemetry.log.recent(200) if one.principal == "ada" and "smollm2" in one.model]
    assert listed(page) == len(theirs) > 10
    page.text_input(key="requests-q").set_value("xyzzy").run()
    assert listed(page) == 0 and "None of the last 161 requests fits." in text_of(page)
    page.button(key="requests-all").click().run()
    assert listed(page) == 100
    page.button(key="requests-more").click().run()
    assert listed(page) == 161


def test_a_link_brings_its_filters_with_it_and_the_slow_ones_stand_first(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.requests(services)
    page = open_screen("dashboard", view="Requests", order="slow", variant=scenes.Q8, cache="bypass")
    assert page.selectbox(key="requests-order").value == "slow"
    asked = request_actions.RequestFilter(model=scenes.Q8, cache="bypass", slow_first=True)
    wanted = [record.id for record in services.telemetry.log.select(asked)]
    shown = [part.partition('"')[0] for part in html_of(calm(page)).split('<tr role="row" data-lp-request="')[1:]]
    assert shown == wanted and len(wanted) > 20


def test_an_empty_list_says_what_will_be_told_here(services: FakeServices, open_screen: Open) -> None:
    assert "No request has ended yet." in text_of(calm(open_screen("dashboard", view="Requests")))


def test_a_request_is_told_whole(services: FakeServices, open_screen: Open) -> None:
    scenes.request(services)
    page = calm(open_screen("dashboard", view="Requests", request="a1b2c3d4e5f60718"))
    words, drawn = text_of(page), html_of(page)
    for expected in (
        "6.20 s", "the model ended it", "queue 1.10 s, load 1.20 s, prefill 400 ms", "38.1 tok/s", "412 → 118",
        "bench: failed", "built-in: ok, attempt 2", "built-in, after 1 failed attempt", "build-7/step:3",
        "small, choice 2: bench was away", "Looked for it: not there.", "num_ctx", "8192", scenes.QUESTION, "seed",
    ):  # fmt: skip
        assert expected in words, expected
    assert drawn.count('class="lp-in-1"') == 3 and "clip-path:polygon(" in drawn and "115 pieces" in words
    assert "curl -sN http://" in words and '"temperature": 0' in words


def test_one_that_is_not_kept_any_more_is_said_to_be_so(services: FakeServices, open_screen: Open) -> None:
    scenes.request_gone(services)
    page = calm(open_screen("dashboard", view="Requests", request="0123456789abcdef"))
    assert "This request is not kept any more" in text_of(page) and "1 request now" in text_of(page)
    page.button(key="requests-back").click().run()
    assert listed(page) == 1


def test_a_failed_one_says_what_to_do(services: FakeServices, open_screen: Open) -> None:
    address = scenes.request_failed(services)
    page = calm(open_screen("dashboard", view="Requests", request=address.rpartition("=")[2]))
    assert "The model host does not answer" in text_of(page) and "connection refused" in text_of(page)


def test_asked_again_it_stands_beside_the_first(services: FakeServices, open_screen: Open) -> None:
    first = scenes.moved(services)
    page = open_screen("dashboard", view="Requests", request=first.id)
    page.button(key="request-again").click().run()
    new = request_actions_id(page)
    assert new != first.id
    record = services.telemetry.find(new)
    assert record is not None
    [asked] = services.model.asked
    assert asked == {
        "model": "small", "messages": [{"role": "user", "content": scenes.QUESTION}],
        "options": {"temperature": 0, "seed": 7, "num_ctx": 8192},
    }  # fmt: skip
    assert services.model.callers[0].cache_mode == "refresh"
    services.run(ended(services, new))
    page.run()
    assert "Asked again" in text_of(calm(page)) and "Paris is the capital" in text_of(page)
    page.button(key="request-again").click().run()
    services.run(ended(services, request_actions_id(page)))
    assert "again 2" in text_of(calm(page.run())), "what was asked again is asked again as the first was"
    page.query_params["request"] = first.id
    assert "again 2" in text_of(calm(page.run()))


def request_actions_id(page: AppTest) -> str:
    value = page.query_params["request"]
    return value if isinstance(value, str) else value[0]


async def ended(services: FakeServices, name: str) -> None:
    again = services.asking_again.told(name, "local")
    assert again is not None and again.task is not None
    await again.task


def test_one_that_runs_is_shown_as_far_as_it_is_and_stopped(services: FakeServices, open_screen: Open) -> None:
    address = scenes.request_running(services)
    page = calm(open_screen("dashboard", view="Requests", request=address.rpartition("=")[2]))
    assert "running" in text_of(page) and "request-again" not in {button.key for button in page.button}
    page.button(key="request-stop").click().run()
    assert "cancelled" in text_of(calm(page.run())) and "Ask again" in labels_of(page)


def test_a_chats_answer_is_asked_again_from_its_chat_though_no_words_are_kept(
    services: FakeServices, open_screen: Open
) -> None:
    chat_id = services.ask("What is the capital of France?")
    chat = services.run(services.history.get(chat_id, "local"))
    record = scenes.ended(services, chat=chat_id, message=chat.messages[-1].id)
    page = calm(open_screen("dashboard", view="Requests", request=record.id))
    assert "What is the capital of France?" in text_of(page), "the command has the whole question"
    page.button(key="request-again").click().run()
    assert services.model.asked[-1]["messages"] == [{"role": "user", "content": "What is the capital of France?"}]
    assert services.model.asked[-1]["options"] == record.options


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "its words are not kept"), ({"question": "And then?"}, "only that is kept"),
        ({"endpoint": "embed"}, "it asked for no text"), ({"chat": "0" * 32, "message": "1"}, "its chat was deleted"),
    ],
)  # fmt: skip
def test_why_one_cannot_be_asked_again_is_said(
    fields: dict[str, Any], why: str, services: FakeServices, open_screen: Open
) -> None:
    record = scenes.ended(services, **fields)
    page = calm(open_screen("dashboard", view="Requests", request=record.id))
    button = page.button(key="request-again")
    assert button.disabled and why in button.help
    assert "put the question where" in text_of(page)


def test_a_key_sees_its_own_requests_alone(
    services: FakeServices, open_screen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = scenes.ended(services, principal="somebody")
    scenes.ended(services, principal="me")
    monkeypatch.setattr(request_actions, "seen_by", lambda: "me")
    assert listed(open_screen("dashboard", view="Requests", user="somebody")) == 1
    page = calm(open_screen("dashboard", view="Requests", request=theirs.id))
    assert "not kept any more" in text_of(page)


def test_a_click_on_a_row_goes_to_that_request(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        session_state={request_actions.LINKS: {"act": {"what": "open", "id": "abc"}}}, query_params={"view": "Requests"}
    )
    monkeypatch.setattr(request_actions, "st", fake)
    monkeypatch.setattr("app.ui.state.st", fake)
    request_actions.heard()
    assert fake.query_params == {"view": "Requests", "request": "abc"}
    fake.session_state[request_actions.LINKS] = {"act": {"what": "newer", "id": "1"}}
    request_actions.open_request("")
    request_actions.heard()
    assert fake.query_params == {"view": "Requests"}


def test_what_came_of_hosts_that_fail_is_told_of_one_asked_again(services: FakeServices) -> None:
    first = scenes.moved(services)
    services.model.script = lambda _: [HostUnreachable("built-in", "refused")]

    async def ask() -> str:
        new = await services.asking_again.ask(first.id, Caller(trace=services.telemetry.trace()))
        await ended(services, new)
        return new

    again = services.asking_again.told(services.run(ask()), "local")
    assert again is not None and "refused" in again.error and not again.running
    assert services.asking_again.told(again.id, "somebody else") is None
    record = services.telemetry.find(again.id)
    assert record is not None and record.status == "host_unreachable"


def test_what_ended_since_is_asked_for_with_the_same_filters(services: FakeServices, open_screen: Open) -> None:
    last = scenes.ended(services, cache=CacheDecision("hit"))
    page = calm(open_screen("dashboard", view="Requests", cache="hit", q="a b"))
    [links] = [
        one for one in page.get("bidi_component") if "cache%3Dhit" in str(one.proto) or "cache=hit" in str(one.proto)
    ]
    told = links.proto.mixed.json if links.proto.HasField("mixed") else links.proto.json
    query = json.loads(told)["query"]
    assert "cache=hit" in query and "q=a+b" in query
    since = float(query.partition("since=")[2].partition("&")[0])
    assert since > last.started_at + last.seconds >= since - 1e-6


def test_a_row_opens_without_a_new_page_and_what_ended_since_is_told(page: Page) -> None:
    with served("requests") as address:
        page.goto(address)
        row, search = page.locator("tr[data-lp-request]"), page.get_by_label("Search")
        expect(row).to_have_count(100, timeout=SECONDS)
        page.evaluate("window.same = 1")
        search.fill("step:3")
        search.press("Enter")
        expect(row).to_have_count(1, timeout=SECONDS)
        row.locator(".lp-what").click()
        expect(page.locator(".lp-axis")).to_be_visible(timeout=SECONDS)
        expect(page).to_have_url(re.compile("q=step%3A3&request=a1b2c3d4e5f60718"), timeout=SECONDS)
        other = page.context.new_page()
        other.goto(page.url)
        page.get_by_role("button", name="All requests").click()
        expect(row).to_have_count(1, timeout=SECONDS)
        assert search.input_value() == "step:3"
        search.fill("")
        search.press("Enter")
        expect(row).to_have_count(100, timeout=SECONDS)
        other.get_by_role("button", name="Ask again").click(timeout=SECONDS)
        page.get_by_role("button", name="1 newer one: show").click(timeout=SECONDS)
        expect(row.first).to_contain_text("small", timeout=SECONDS)
        assert page.evaluate("window.same") == 1
