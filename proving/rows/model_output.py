"""Row 28: what a model writes makes the page ask nobody for anything, and runs no script. In a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

from proving.promises import Run, promise
from tests.conftest import CHROMIUM_FLAGS
from tests.hostile_outputs import EVIL, texts
from tests.screenshots import served
from tooling.system_packages import find_chromium

RAW = "raw st.markdown"
SECONDS = 60_000  # ms; a deadline of what is waited for
_WATCH = """window.violations = []
document.addEventListener("securitypolicyviolation", event => window.violations.push(event.blockedURI))"""
_LINKS = """() => [...document.querySelectorAll("a, area, form")].map(one => one.href ?? one.action)
  .filter(where => /^(javascript|vbscript):/i.test(where))"""
_SETTLED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


class Watch:
    """What one page tried: requests to another machine, dialogs, scripts of the texts, links that are scripts."""

    def __init__(self, page: Page) -> None:
        self.page, self.asked, self.other = page, set[int](), list[str]()
        page.add_init_script(_WATCH)
        page.context.on("request", lambda request: self._note(request.url))
        page.on("dialog", self._dialog)
        page.context.route(re.compile(rf"^\w+:/+{EVIL}", re.IGNORECASE), lambda route: route.abort())

    def _note(self, url: str) -> None:
        host = urlsplit(url).hostname
        if host is None or host == "127.0.0.1":  # data: and blob: have none
            return
        number = re.search(r"/(\d+)", urlsplit(url).path)
        self.asked.add(int(number[1])) if number else self.other.append(url)

    def _dialog(self, dialog: Any) -> None:
        self.other.append("a dialog")
        dialog.dismiss()

    def look(self) -> None:
        """Note what the page itself can tell."""
        self.page.evaluate(_SETTLED)
        self.page.wait_for_timeout(300)  # a picture's request needs no layout, but a turn or two of the page
        for where in self.page.evaluate("() => window.violations.splice(0)"):
            if where == "wasm-eval":  # a library of the page tries whether it may, and does without
                continue
            self._note(where) if EVIL in where else self.other.append(f"against the policy: {where}")
        self.other += [f"a link to {where[:60]}" for where in self.page.evaluate(_LINKS)]
        if self.page.evaluate("() => window.ran"):
            self.other.append("a script ran")


@promise(
    28, "Model output causes no network request and no script", section="page",
    figure="0 requests leave the page and 0 scripts run over 244 hostile texts, whole and in pieces, with the "
    "content policy and without it",
    controls=(RAW,), browser=True,
    untested="a link that is clicked: it opens what it says; one to a data: address is refused by the browser itself",
)  # fmt: skip
def model_output_causes_nothing(run: Run) -> None:
    options = {"SCENE_STEP": str(run.scale(short=16, full=1))} | ({"SCENE_RAW": "on"} if run.off else {})
    with chromium() as browser:
        for policy in ("off",) if run.short or run.off else ("off", "on"):
            with served("hostile_texts", SCENE_POLICY=policy, **options) as address:
                _whole(run, browser, address, int(options["SCENE_STEP"]))
                if not run.off and policy == "off":
                    _in_pieces(run, browser, address)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS, headless=True)
        yield browser
        browser.close()


def _whole(run: Run, browser: Browser, address: str, step: int) -> None:
    """A conversation with an answer for each text, as the page shows it when it is opened."""
    numbers, page = range(0, len(texts()), step), browser.new_page()
    watch = Watch(page)
    page.goto(address)
    answers = page.locator("[class*='st-key-answer-']")
    expect(answers.last.get_by_role("button", name="Regenerate")).to_be_visible(timeout=SECONDS)
    while (more := page.locator(".st-key-earlier button")).count():
        before = answers.count()
        more.click()
        expect(answers.nth(before)).to_be_attached(timeout=SECONDS)
        watch.look()
    expect(answers).to_have_count(len(numbers), timeout=SECONDS)
    watch.look()
    _count(run, watch, numbers, "whole")
    page.close()


def _in_pieces(run: Run, browser: Browser, address: str) -> None:
    """Each text as an answer that grows before the page's eyes."""
    numbers, page = range(run.seed % 5, len(texts()), run.scale(short=121, full=1)), browser.new_page()
    watch, answers = Watch(page), page.locator("[class*='st-key-answer-']")
    for place, number in enumerate(numbers):
        if place % 20 == 0:  # a new conversation, for the page not to grow without end
            page.goto(urljoin(address, "/"))
        box = page.get_by_placeholder("Ask something")
        expect(box).to_be_enabled(timeout=SECONDS)
        box.fill(str(number))
        box.press("Enter")
        expect(answers).to_have_count(place % 20 + 1, timeout=SECONDS)
        expect(answers.last.get_by_role("button", name="Regenerate")).to_be_visible(timeout=SECONDS)
    watch.look()
    _count(run, watch, numbers, "in pieces")
    page.close()


def _count(run: Run, watch: Watch, numbers: range, how: str) -> None:
    for number in numbers:
        run.trial(number not in watch.asked, f"{how}: text {number} made a request")
    run.require(not watch.other, f"{how}: {watch.other[:5]}")
