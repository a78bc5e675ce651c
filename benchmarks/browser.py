"""A headless Chromium for the benchmarks, and the clock inside its pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import CHROMIUM_FLAGS
from tooling.system_packages import find_chromium

CLOCK = Path(__file__).with_name("page_clock.js")
WAIT_MS = 60_000
COMPOSER = '[data-testid="stChatInputTextArea"]:not([disabled])'
RESTING = '.stApp[data-test-script-state="notRunning"]'


@contextmanager
def chromium() -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None, "no Chromium on this machine: install chromium or Google Chrome"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, url: str, drawn: str) -> Page:
    """A page of a profile of its own, with the clock in it; returns when the selector `drawn` is visible."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.add_init_script(path=CLOCK)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.locator(drawn).first.wait_for()
    return page


def ask(page: Page, question: str, answer: str, last: str | None) -> dict[str, float]:
    """Type, press Enter, and wait for the answer.

    `answer` is the selector of what an answer's text is drawn in; the newest counts. `last` is the text of its last
    token; without it the answer is over when the script has ended. Returns, in ms since Enter went down: "first"
    (first text in the DOM) and, with `last`, "whole"; and "bytes", what came over websockets, and "updates", how often
    the text changed.
    """
    box = page.locator(COMPOSER)
    box.fill(question)
    page.evaluate("([answer, last]) => loupeClock.arm(answer, last)", [answer, last])
    box.press("Enter")
    page.evaluate("([limit]) => loupeClock.answered(limit)", [WAIT_MS])
    page.locator(RESTING).wait_for()
    found: dict[str, Any] = page.evaluate("loupeClock.read()")
    return {name: float(value) for name, value in found.items() if value is not None}
