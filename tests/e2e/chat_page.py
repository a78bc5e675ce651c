"""The chat page as a user sees it, in words: for the browser tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.served import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SECONDS = 30_000  # ms; deadlines, not measurements: two cores, a real model


class ChatPage:
    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, path: str = "/") -> None:
        self.page.goto(self.url + path)
        expect(self.composer).to_be_enabled(timeout=SECONDS)

    @property
    def composer(self) -> Locator:
        return self.page.get_by_placeholder("Ask something")

    @property
    def answers(self) -> Locator:
        return self.page.locator("[class*='st-key-answer-']")

    @property
    def questions(self) -> Locator:
        return self.page.locator(".lp-ask")

    @property
    def answer(self) -> Locator:
        """The newest one."""
        return self.answers.last

    @property
    def stop_button(self) -> Locator:
        return self.page.get_by_role("button", name=re.compile("Stop"))

    def ask(self, text: str) -> None:
        """Types a question, sends it, and returns when it stands in the conversation."""
        before = self.questions.count()
        self.composer.fill(text)
        self.composer.press("Enter")
        expect(self.questions).to_have_count(before + 1, timeout=SECONDS)
        expect(self.answers).to_have_count(before + 1, timeout=SECONDS)

    def read(self) -> str:
        """The newest answer's text, when it is complete."""
        expect(self.answer.get_by_role("button", name="Regenerate")).to_be_visible(timeout=3 * SECONDS)
        return self.answer.inner_text()

    def footer(self) -> str:
        return self.page.locator(".lp-foot").last.inner_text()

    def wait_for_text(self, length: int) -> str:
        """The newest answer's text so far, when it has at least `length` characters."""
        wait_for(f"{length} characters", lambda: len(self.answer.inner_text()) >= length, 60)
        return self.answer.inner_text()

    def choose_variant(self, label: str) -> None:
        self.page.locator(".st-key-variant button").first.click()
        row = self.page.locator("[class*='st-key-pick-']").filter(has_text=re.compile(rf"\b{label}\b"))
        row.first.get_by_role("button").click()
        expect(self.page.locator(".st-key-variant")).to_contain_text(label, timeout=SECONDS)

    def set_parameter(self, label: str, value: str) -> None:
        self.page.locator(".st-key-parameters button").first.click()
        field = self.page.get_by_role("spinbutton", name=label)
        field.fill(value)
        field.press("Enter")
        reset = self.page.get_by_role("button", name="Back to the model's own")
        expect(reset).to_be_enabled(timeout=SECONDS)  # the page has taken the value
        self.page.keyboard.press("Escape")

    def chat_id(self) -> str:
        found: Any = re.search(r"chat=([0-9a-f]+)", self.page.url)
        assert found, f"the address names no chat: {self.page.url}"
        return str(found[1])
