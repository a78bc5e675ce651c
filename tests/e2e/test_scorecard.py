"""Which quantization should I run? From the first click to the recommendation, in a real browser with a real model.

A quick scorecard of three variants, found again after a reload in the middle; what it recommends, shows and says; its
pictures and its tokens; a report opened from disk without a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS
from tests.served import Served, served_app
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(600)
TAGS = ("fp16", "q8_0", "q4_0")
MEASURED = 300_000  # ms; a deadline: half a minute on two quiet cores


def test_from_the_first_click_to_the_recommendation_and_a_report_on_disk(tmp_path: Path, page: Page) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    linked_store(tmp_path / "data" / "models", TAGS)
    refused: list[str] = []
    page.on("console", lambda told: refused.append(told.text) if "Content Security Policy" in told.text else None)
    with served_app(tmp_path / "data", LOUPE_STARTER="off") as app:
        app.wait_ready()
        begin(page, app)
        reload_in_the_middle(page)
        expect(page.locator(".lp-advice h2")).to_contain_text(re.compile("^Run "), timeout=MEASURED)
        decide(page)
        look_closer(page)
        file = download(page, tmp_path)
        beyond(page, app)
    assert refused == []
    without_a_network(page, file)


def begin(page: Page, app: Served) -> None:
    """From a family's row to the running scorecard."""
    page.goto(f"{app.url}/models")
    page.get_by_role("link", name="Compare", exact=True).last.click(timeout=SECONDS)
    page.get_by_role("button", name="Measure 3 variants").click(timeout=SECONDS)
    expect(page.locator(".lp-run")).to_be_visible(timeout=SECONDS)


def reload_in_the_middle(page: Page) -> None:
    """The address names the card; rows fill in as they come."""
    row = page.locator(".lp-card-table tbody tr").filter(has_text="Q8_0")
    expect(row.locator("[data-name^=Decode]")).to_contain_text(re.compile(r"\d"), timeout=MEASURED)
    assert "report=" in page.url
    page.reload()
    expect(page.locator(".lp-run")).to_be_visible(timeout=SECONDS)


def decide(page: Page) -> None:
    """One sentence with the figures it rests on; it follows the wishes at once, and nothing is measured for it."""
    table = page.locator(".lp-card-table tbody tr")
    order = table.locator("th > b:first-of-type").all_inner_texts()
    assert order == ["F16", "Q8_0", "Q4_0"]  # by divergence: Q4_0 loses seventy times as much
    expect(table.nth(2).locator("[data-name='KLD, nats']")).to_contain_text(re.compile(r"0\.\d"))
    expect(page.get_by_text("the reference against itself: exactly 0")).to_be_visible()
    before = page.locator(".lp-advice h2").inner_text()
    memory = page.get_by_role("slider", name="Memory for the model")
    memory.focus()
    memory.press("Home")
    expect(page.locator(".lp-advice h2")).not_to_have_text(before, timeout=SECONDS)
    assert page.locator(".lp-run").count() == 0


def look_closer(page: Page) -> None:
    """Pictures drawn in the page; a token opens both lists, by mouse and by keyboard."""
    expect(page.locator(".lp-chart svg").first).to_be_visible(timeout=3 * SECONDS)  # the bundle is made first
    expect(page.locator(".lp-chart-fault:visible")).to_have_count(0)
    strip = page.locator(".lp-strip")
    strip.locator(".lp-token").first.click(timeout=SECONDS)
    expect(strip.locator("caption")).to_have_count(2)
    expect(strip.locator("tbody").first.locator("tr")).to_have_count(20)
    page.keyboard.press("ArrowRight")
    expect(strip.locator(".lp-token").nth(1)).to_have_attribute("aria-pressed", "true")


def download(page: Page, folder: Path) -> Path:
    page.get_by_role("button", name="Report").click(timeout=SECONDS)
    with page.expect_download(timeout=2 * SECONDS) as started:
        page.get_by_role("link", name="HTML").click(timeout=SECONDS)
    target = folder / "report.html"
    started.value.save_as(target)
    return target


def beyond(page: Page, app: Served) -> None:
    """It is in the list, and is deleted for good."""
    page.goto(f"{app.url}/compare")
    page.locator("[class*=st-key-card-row-]").get_by_role("button", name="Delete").click(timeout=SECONDS)
    page.get_by_role("dialog").get_by_role("button", name="Delete scorecard").click(timeout=SECONDS)
    expect(page.get_by_text("Nothing was measured yet")).to_be_visible(timeout=SECONDS)


def without_a_network(page: Page, file: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.context.set_offline(True)
    page.goto(file.as_uri())
    expect(page.get_by_text("Q4_0").first).to_be_visible(timeout=SECONDS)
    expect(page.locator("svg").first).to_be_visible(timeout=SECONDS)
    assert asked == []
