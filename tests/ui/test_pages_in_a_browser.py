"""What only a browser shows: attaching again, stopping, copying, and that an answer loads nothing.

The pages are the real ones, over the fake services of a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.screenshots import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

Serve = Callable[[str], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda scene: stack.enter_context(served(scene))


def test_a_running_answer_is_found_again_after_a_reload_and_stops(page: Page, serve: Serve) -> None:
    page.goto(serve("streaming"))
    page.get_by_text("Quantization stores each weight").wait_for()
    page.reload()
    page.get_by_text("Quantization stores each weight").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped").wait_for()
    assert page.get_by_role("button", name="Stop").count() == 0


def test_a_text_sent_during_an_answer_waits_and_then_goes_out(page: Page, serve: Serve) -> None:
    page.goto(serve("streaming"))
    page.get_by_text("Quantization stores each weight").wait_for()
    page.get_by_test_id("stChatInputTextArea").fill("And Q2_K?")
    page.get_by_test_id("stChatInputTextArea").press("Enter")
    page.get_by_text("Goes out next").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".lp-ask", has_text="And Q2_K?").wait_for()


def test_an_answer_is_shown_copied_and_switched_without_asking_other_machines(page: Page, serve: Serve) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(serve("hostile"))
    page.get_by_text("after the image").wait_for()
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Copied").wait_for()
    assert "![a picture](https://example.org/a.png)" in str(page.evaluate("navigator.clipboard.readText()"))
    assert page.locator('[data-testid="stMain"] img').count() == 0
    page.locator(".st-key-variant button").first.click()
    page.get_by_role("button", name="Q8_0").click()
    page.locator(".st-key-variant button", has_text="Q8_0").wait_for()


def test_a_variant_on_the_models_screen_opens_a_chat_with_it(page: Page, serve: Serve) -> None:
    page.goto(serve("models"))
    page.locator('[class*="st-key-variant-smollm2"]', has_text="Q6_K").get_by_role("button", name="Chat").click()
    page.locator(".st-key-variant button", has_text="Q6_K").wait_for()


def test_a_dialog_is_reached_by_keyboard_left_with_escape_and_opens_again(page: Page, serve: Serve) -> None:
    page.goto(serve("models_one"))
    page.get_by_role("button", name="Make…").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Q6_K", exact=True).wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.get_by_role("button", name="Make a second one").click()
    box = dialog.get_by_role("checkbox").first
    box.focus()
    page.keyboard.press("Space")
    dialog.get_by_role("button", name="Make 1 quantization").wait_for()


def test_a_pull_is_found_again_after_a_reload_stopped_and_dismissed(page: Page, serve: Serve) -> None:
    page.goto(serve("first_pull"))
    page.get_by_text("412 MiB of 948 MiB").wait_for()
    page.reload()
    page.get_by_text("412 MiB of 948 MiB").wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Resume", exact=True).wait_for()
    page.get_by_role("button", name="Dismiss", exact=True).click()
    page.locator(".lp-job").wait_for(state="detached")
    page.get_by_role("button", name="Get a model").click()
    page.get_by_label("Tag").wait_for()
