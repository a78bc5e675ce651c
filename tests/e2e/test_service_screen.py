"""Cache, queue and hosts as people meet them: eight tabs at once on a real model in a real browser.

Each tab sees its place fall and when its turn comes; Stop frees a place in the queue and a slot at once; an answer
whose tab was closed or reloaded is written to its end; a repeated question comes out of the cache; the host dies and
comes back. The Service screen stands open all the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS, ChatPage
from tests.served import Served, free_port, http, served_app, served_runtime, wait_for
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.timeout(600)
STARTER, STORY = "smollm2:135m-instruct-q8_0", "story"
TALE = "Tell me a long story about a lighthouse keeper and his dog, number"
QUESTION = "What is the capital of France?"
TABS = 8
# Keeps what the page said while it waited, from before the question is sent.
LISTEN = """() => { window.waits = []
  new MutationObserver(() => { const told = document.querySelector(".lp-wait")?.textContent ?? ""
    if (told && told !== waits.at(-1)) waits.push(told) }).observe(document.body,
    {childList: true, subtree: true, characterData: true}) }"""
ORDINALS = ("next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@contextmanager
def story_teller(folder: Path, port: int) -> Iterator[Served]:
    """An Ollama that is not the app's own."""
    with served_runtime(folder / "store", folder / "runtime.log", port) as runtime:
        runtime.wait_ready("/api/version")
        yield runtime


def make_story_teller(runtime: Served) -> None:
    wanted = {"model": STORY, "from": STARTER, "parameters": {"num_predict": 200}, "stream": False}
    assert http(f"{runtime.url}/api/create", wanted)[0] == 200
    assert http(f"{runtime.url}/api/delete", {"model": STARTER}, method="DELETE")[0] == 200


class Queue:
    """What the gateway tells of the queue."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _rows(self, which: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(http(f"{self._url}/loupe/queue")[1])[which]
        return rows

    @property
    def waiting(self) -> list[str]:
        return [str(row["id"]) for row in self._rows("waiting")]

    @property
    def running(self) -> list[str]:
        return [str(row["id"]) for row in self._rows("running")]


expect.set_options(timeout=SECONDS)


@pytest.fixture
def tabs(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(SECONDS)
    yield context
    context.close()


def within(seconds: float, what: str, check: Callable[[], bool]) -> None:
    wait_for(f"{what} within {seconds:g} s", check, seconds, every=0.02)


def place(told: str) -> int | None:
    """The position that a waiting line tells; 1 is next."""
    found = re.match(r"(\w+) in the queue", told)
    return ORDINALS.index(found[1]) + 1 if found and found[1] in ORDINALS else None


def send(chat: ChatPage, text: str) -> None:
    """Without waiting for an answer."""
    chat.page.bring_to_front()
    expect(chat.composer).to_be_visible()
    chat.composer.fill(text)
    chat.composer.press("Enter")


def test_eight_tabs_one_slot_a_cache_and_a_host_that_dies(tmp_path: Path, tabs: BrowserContext) -> None:
    port = free_port()
    linked_store(tmp_path / "store", ("q8_0",))
    with served_app(
        tmp_path / "data", OLLAMA_HOST=f"127.0.0.1:{port}", LOUPE_QUEUE_WAIT_SECONDS="600", LOUPE_STARTER="off"
    ) as app:
        with story_teller(tmp_path, port) as runtime:
            make_story_teller(runtime)
            app.wait_ready()
            service = Service(tabs.new_page(), app.url)
            chats = [ChatPage(tabs.new_page(), app.url) for _ in range(TABS)]
            for chat in chats:
                chat.open()
            learnt_from = ChatPage(service.page.context.new_page(), app.url)
            learnt_from.open()
            learnt_from.ask(QUESTION)  # from this the queue learns how fast the host is
            learnt_from.read()
            learnt_from.page.close()
            eight_ask(chats, Queue(app.url), service)
            answered_from_the_cache(chats[3])
            runtime.kill()
            the_page_says_that_the_host_is_away(chats[4], service)
        with story_teller(tmp_path, port):
            the_page_says_that_it_is_back(chats[4], service)


class Service:
    """The Service screen in a tab of its own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(f"{url}/service")
        expect(page.get_by_text("Up to date", exact=True)).to_be_visible(timeout=SECONDS)

    def press(self, label: str, told: str) -> None:
        self.page.get_by_role("button", name=label, exact=True).click()
        expect(self.page.locator("[data-lp=queue-facts]")).to_contain_text(told)

    @property
    def waiting(self) -> Any:
        return self.page.locator(".lp-rows[data-lp=waiting] > li")


def written(chat: ChatPage, length: int = 20) -> int:
    """How many characters the model has written, when it is at least that many."""
    text = chat.answer.get_by_test_id("stMarkdown")
    return int(wait_for("the answer to grow", lambda: (n := sum(map(len, text.all_inner_texts()))) >= length and n, 60))


def eight_ask(chats: list[ChatPage], queue: Queue, service: Service) -> None:
    first, closed, reloaded, *others, last = chats
    for chat in chats:
        chat.page.evaluate(LISTEN)
    service.press("Pause", "Paused")  # so that all eight are there when the first one begins
    for number, chat in enumerate(chats):
        send(chat, f"{TALE} {number}")
        within(30, f"{number + 1} to wait", lambda many=number + 1: len(queue.waiting) == many)  # type: ignore[misc]
    expect(service.waiting).to_have_count(TABS)
    service.press("Resume", "1 runs")

    written(first)
    [running] = queue.running
    first.stop_button.click()
    within(1, "the slot to be somebody else's", lambda: running not in queue.running)

    written(closed)
    address = closed.page.url
    closed.page.close()

    expect(last.page.locator(".lp-wait")).to_contain_text("in the queue, begins in")
    waited = queue.waiting
    last.stop_button.click()
    within(1, "the place in the queue to be free", lambda: len(queue.waiting) < len(waited))
    expect(last.page.get_by_text("stopped")).to_be_visible()

    part = written(reloaded)
    reloaded.page.reload()
    written(reloaded, part)
    for chat in (reloaded, *others):
        chat.read()
    for chat in (reloaded, *others):
        if chat is not reloaded:  # whose page began anew
            its_place_fell(chat.page.evaluate("waits"))
    first.page.goto(address)
    assert len(first.read()) > 100  # nobody read it, and it is whole
    assert "stopped" not in first.footer() and "page closed" not in first.footer()
    expect(service.waiting).to_have_count(0)


def its_place_fell(told: list[str]) -> None:
    places = [found for line in told if (found := place(line)) is not None]
    assert len(set(places)) >= 2 and places == sorted(places, reverse=True), told
    assert any("begins in" in line for line in told), told


def answered_from_the_cache(chat: ChatPage) -> None:
    for _ in range(2):
        chat.page.get_by_role("button", name="New chat").click()
        expect(chat.answers).to_have_count(0)
        chat.set_parameter("Temperature", "0")
        chat.ask(QUESTION)
        expect(chat.page.locator(".lp-foot")).to_be_visible(timeout=SECONDS)
    expect(chat.page.locator(".lp-foot")).to_contain_text("cached,")
    chat.page.get_by_role("button", name="Ask again").click()
    expect(chat.page.locator(".lp-foot")).not_to_contain_text("cached")
    chat.read()


def the_page_says_that_the_host_is_away(chat: ChatPage, service: Service) -> None:
    expect(chat.page.get_by_text("does not answer").first).to_be_visible()
    expect(service.page.locator(".lp-host-box")).to_contain_text("does not answer")
    send(chat, QUESTION)
    expect(chat.answer.get_by_text("No model host answers", exact=True)).to_be_visible()


def the_page_says_that_it_is_back(chat: ChatPage, service: Service) -> None:
    expect(service.page.locator(".lp-host-box")).not_to_contain_text("does not answer")
    expect(chat.page.locator(".lp-host")).to_have_count(0)
    chat.page.get_by_role("button", name="Try again").click()
    chat.read()
