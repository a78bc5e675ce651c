"""Side by side as people meet it: four variants of a real model in a real browser, a reload in the middle, one kept.

The process is killed in the middle of a second round: what was asked is there, and goes on. At last a blind vote.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS, ChatPage
from tests.served import gone, served_app, wait_for
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.timeout(400)
TAGS = ("fp16", "q8_0", "q4_K_M", "q2_K")
LABELS = ("F16", "Q8_0", "Q4_K_M", "Q2_K")
QUESTION = "What is the capital of France?"
STORY = "Tell me a long story about a lighthouse keeper and his dog."


class SidePage:
    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, path: str = "/compare?view=Side+by+side") -> None:
        self.page.goto(self.url + path)

    def choose(self, label: str) -> None:
        box = self.page.get_by_test_id("stMultiSelect").get_by_role("combobox")
        box.fill(label)
        self.page.get_by_role("option", name=re.compile(rf"^{label} ")).click()
        expect(self.page.locator("[data-tag]").filter(has_text=label)).to_be_visible(timeout=SECONDS)

    def at_most(self, tokens: int) -> None:
        self.page.locator(".st-key-side-parameters button").first.click()
        field = self.page.get_by_role("spinbutton", name="Longest answer")
        field.fill(str(tokens))
        field.press("Enter")
        self.page.keyboard.press("Escape")

    def ask(self, text: str) -> None:
        box = self.page.get_by_placeholder("Ask 4 variants the same")
        expect(box).to_be_enabled(timeout=SECONDS)
        box.fill(text)
        box.press("Enter")
        expect(self.page.locator(".lp-side-ask")).to_contain_text(text, timeout=SECONDS)

    def pane(self, index: int) -> Locator:
        return self.page.locator(f".st-key-side-pane-0-{index}")

    @property
    def figures(self) -> Locator:
        return self.page.locator(".lp-pane-facts")

    @property
    def address(self) -> str:
        return self.page.url.removeprefix(self.url)


def test_four_variants_beside_each_other_a_reload_in_the_middle_and_one_kept(tmp_path: Path, page: Page) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", TAGS)
    with served_app(data, LOUPE_STARTER="off") as app:
        app.wait_ready()
        side = SidePage(page, app.url)
        side.open()
        expect(page.locator("[data-tag]")).to_have_count(3, timeout=SECONDS)
        side.choose("Q8_0")
        side.at_most(48)
        side.ask(QUESTION)
        expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=SECONDS)
        expect(side.pane(0)).to_contain_text("Paris", timeout=SECONDS)
        page.reload()
        expect(side.pane(0)).to_contain_text("Paris", timeout=SECONDS)
        expect(side.figures).to_have_count(4, timeout=4 * SECONDS)
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        for index in range(4):
            expect(side.pane(index)).to_contain_text("tok/s")
            expect(side.pane(index)).to_contain_text("MiB")
        heads = page.locator(".lp-pane-head h3").all_inner_texts()
        assert sorted(heads) == sorted(LABELS)
        compared = [text for text in page.locator(".lp-pane-foot").all_inner_texts() if "F16" in text]
        assert len(compared) == 3, "each pane but the reference says how it differs"

        page.get_by_role("button", name="Measure speed fairly").click()
        expect(page.get_by_text("Measured alone, warmed up, n 2.")).to_have_count(4, timeout=4 * SECONDS)

        page.set_viewport_size({"width": 390, "height": 844})
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), "no sideways scroll"
        places = [side.pane(index).bounding_box() for index in range(4)]
        tops = [place["y"] for place in places if place]
        assert tops == sorted(set(tops)) and len(tops) == 4, "one under the other"
        page.set_viewport_size({"width": 1280, "height": 800})

        kept = heads.index("Q4_K_M")
        side.pane(kept).get_by_role("button", name="Go on with this one").click()
        chat = ChatPage(page, app.url)
        expect(chat.composer).to_be_enabled(timeout=SECONDS)
        expect(page.locator(".st-key-variant")).to_contain_text("Q4_K_M", timeout=SECONDS)
        expect(chat.questions).to_have_count(1, timeout=SECONDS)
        chat.ask("And of Italy? Answer in one word.")
        assert chat.read() and "Q4_K_M" in chat.footer()

        side.open()
        expect(page.get_by_role("button", name=QUESTION)).to_be_visible(timeout=SECONDS)
        side.choose("Q8_0")
        side.at_most(120)
        side.ask(STORY)
        wait_for("the first words", lambda: len(side.pane(0).inner_text()) > 60, 60)
        address = side.address
        own = app.kill()
        wait_for("every process to end", lambda: gone(own), 20)
    with served_app(data, LOUPE_STARTER="off") as app:
        app.wait_ready()
        side = SidePage(page, app.url)
        side.open(address)
        expect(page.locator(".lp-side-ask")).to_contain_text(STORY, timeout=SECONDS)
        expect(page.get_by_text("interrupted").first).to_be_visible(timeout=SECONDS)
        page.get_by_role("button", name="Ask what is missing").click()
        expect(side.figures).to_have_count(4, timeout=6 * SECONDS)
        vote(side)


def vote(side: SidePage) -> None:
    """One vote by the keyboard: no name before it, both after it, and no verdict yet."""
    page = side.page
    side.open("/compare?view=Votes")
    page.get_by_role("button", name="Begin to vote").click()
    expect(page.get_by_role("button", name="B is better")).to_be_visible(timeout=4 * SECONDS)
    shown = page.get_by_test_id("stMain").inner_text()
    assert not [label for label in LABELS if label in shown]
    page.keyboard.press("t")
    expect(page.get_by_text("You called it a tie.")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("not separable yet")).to_be_visible(timeout=SECONDS)
