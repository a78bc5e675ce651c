"""Pictures of every screen in every state: `python tests/screenshots.py [SCENE …]`, into build/screenshots.

Light and dark, 1280 and 390 px wide, over fake services, in headless Chromium. They are for looking at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.ui.scenes import SCENES  # noqa: E402  # after the path is known

TARGET = ROOT / "build" / "screenshots"
CHROMIUM = os.environ.get("LOUPE_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
)  # fmt: skip
WIDTHS = {1280: 860, 390: 844}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def open_picker(page: Page) -> None:
    page.locator(".st-key-variant button").first.click()
    page.locator(".st-key-picker button").first.wait_for()


def open_parameters(page: Page) -> None:
    page.locator(".st-key-parameters button").first.click()
    page.locator(".st-key-parameter-grid input").first.wait_for()


def open_prompt(page: Page) -> None:
    page.locator(".st-key-prompt button").first.click()
    page.locator(".st-key-prompt-panel textarea").wait_for()
    page.get_by_text("Translator", exact=True).click()
    page.get_by_label("Into which language").wait_for()


def open_waterfall(page: Page) -> None:
    page.locator(".lp-foot summary").last.click()


def delete_chat(page: Page) -> None:
    open_sidebar(page)
    page.locator('[class*="st-key-menu-"] button').first.click()
    page.get_by_text("Delete", exact=True).click()
    page.get_by_text("Undo", exact=True).wait_for()


def begin_edit(page: Page) -> None:
    page.locator('[class*="st-key-ask-"]').last.hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Question").wait_for()


def open_sidebar(page: Page) -> None:
    button = page.get_by_test_id("stExpandSidebarButton")
    if button.is_visible():
        button.click()
        page.wait_for_timeout(400)


def scroll_up(page: Page) -> None:
    page.get_by_test_id("stMain").evaluate("e => e.scrollTo(0, 0)")


def open_get(page: Page) -> None:
    page.get_by_role("button", name="Get a model").click()
    page.get_by_label("Tag").wait_for()


def open_make(page: Page) -> None:
    page.get_by_role("button", name="Make…").first.click()
    page.get_by_role("dialog").get_by_role("button").last.wait_for()
    page.wait_for_timeout(300)


def choose_levels(page: Page) -> None:
    open_make(page)
    for level in ("Q8_0", "Q4_K_M"):
        page.get_by_role("dialog").get_by_text(level, exact=True).click()
    page.get_by_text("Make 2 quantizations").wait_for()


def open_make_without_reference(page: Page) -> None:
    page.get_by_role("button", name="Make…").last.click()
    page.get_by_role("dialog").get_by_text("16-bit weights").wait_for()


def open_delete(page: Page) -> None:
    row = page.locator('[class*="st-key-variant-"]').last
    row.hover()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_text("Frees").wait_for()


def show_differences(page: Page) -> None:
    page.get_by_text("Differences", exact=True).click()
    page.locator(".lp-diff").first.wait_for()


def open_side_parameters(page: Page) -> None:
    page.locator(".st-key-side-parameters button").first.click()
    page.locator(".st-key-side-parameter-panel input").first.wait_for()


def open_side_chats(page: Page) -> None:
    page.locator(".st-key-side-chat button").first.click()
    page.locator(".st-key-side-chat-panel").wait_for()


def open_side_questions(page: Page) -> None:
    page.locator(".st-key-side-questions button").first.click()
    page.locator(".st-key-side-question-panel button").first.wait_for()


def make_key(page: Page) -> None:
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").fill(f"ci {page.locator('.st-key-key-rows b').count()}")
    page.get_by_role("button", name="Make it").click()
    page.locator(".lp-fresh").wait_for()


def open_key(page: Page) -> None:
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").wait_for()


def open_alias(page: Page) -> None:
    page.get_by_role("button", name="Change…").first.click()
    page.get_by_label("Points at").wait_for()


def open_who(page: Page) -> None:
    page.locator(".st-key-who button").click()
    page.locator(".lp-who").wait_for()


def open_past_alerts(page: Page) -> None:
    page.get_by_text("What was (").click()


def open_alert_rule(page: Page) -> None:
    page.get_by_role("button", name="Change a rule").click()
    page.get_by_role("dialog").get_by_label("Held for (s)").wait_for()


def open_own_rule(page: Page) -> None:
    page.get_by_role("button", name="Add a rule").click()
    page.get_by_role("dialog").get_by_label("What to do").wait_for()


def open_assumptions(page: Page) -> None:
    page.get_by_role("button", name="Change these").click()
    page.get_by_label("Currency").wait_for()


def open_prices(page: Page) -> None:
    page.get_by_role("button", name="Change the cloud's prices").click()
    page.get_by_label("Prices of the day").wait_for()


def ask_meanwhile(page: Page) -> None:
    page.get_by_test_id("stChatInputTextArea").fill("And what does it do to the speed?")
    page.keyboard.press("Enter")
    page.get_by_text("Goes out next").wait_for()


# Further looks at a scene, after something was clicked.
LOOKS: dict[str, dict[str, Callable[[Page], None]]] = {
    "chat": {
        "top": scroll_up, "waterfall": open_waterfall, "edit": begin_edit, "sidebar": open_sidebar,
        "deleted": delete_chat,
    },
    "empty": {"picker": open_picker, "parameters": open_parameters, "prompt": open_prompt},
    "being_made": {"picker": open_picker},
    "models": {"get": open_get, "delete": open_delete, "reference": open_make_without_reference},
    "models_one": {"make": open_make, "chosen": choose_levels},
    "models_refused": {"make": open_make},
    "side": {"differences": show_differences},
    "side_teacher": {"differences": show_differences},
    "settings_keys": {"form": open_key, "fresh": make_key, "who": open_who},
    "settings_aliases": {"form": open_alias},
    "streaming": {"next": ask_meanwhile},
    "cost": {"change": open_assumptions, "prices": open_prices},
    "alerts_trouble": {"past": open_past_alerts, "change": open_alert_rule, "add": open_own_rule},
    "side_list": {
        "parameters": open_side_parameters, "chats": open_side_chats, "questions": open_side_questions,
    },
}  # fmt: skip


@contextmanager
def served(scene: str, **environment: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ui.serve_fakes", scene], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        yield next(line.strip() for line in process.stdout if line.startswith("http"))
    finally:
        process.stdin.close()  # which ends it
        process.wait(20)
        process.stdout.close()


def settle(page: Page) -> None:
    page.get_by_test_id("stHeader").wait_for()
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    page.locator('[data-testid="stMain"] [class*="st-key-"]').first.wait_for(state="attached")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=30_000)  # not by a script: the policy forbids it
    live = "/service" in page.url and "view=" not in page.url
    if live or page.url.endswith("/dashboard"):
        page.get_by_text("Up to date").first.wait_for()
    if page.url.endswith("/home"):
        page.locator(".lp-now dd").first.wait_for()
        page.get_by_text("Ask a question").or_(page.get_by_text("Chat", exact=True)).first.wait_for()
    with suppress(AssertionError):  # a page that follows an answer never stops running
        expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=5_000)
    expect(page.locator(".lp-chart-fault:visible")).to_have_count(0, timeout=60_000)  # the bundle is made first
    page.wait_for_timeout(400)


def errors_of(page: Page) -> list[str]:
    """What its console says as an error from now on."""
    heard: list[str] = []
    page.on("console", lambda told: heard.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


def shoot(browser: Browser, scene: str, address: str) -> None:
    for theme in THEMES:
        for width, height in WIDTHS.items():
            for look, act in {"": None, **LOOKS.get(scene, {})}.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme, device_scale_factor=1,
                    locale="en-GB",
                )  # fmt: skip
                page = context.new_page()
                heard = errors_of(page)
                page.goto(address)
                settle(page)
                if act is not None:
                    act(page)
                    page.wait_for_timeout(300)
                wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
                name = f"{scene}{'-' + look if look else ''}-{width}-{theme}.png"
                page.screenshot(path=TARGET / name)
                if look == "deleted":
                    page.get_by_text("Undo", exact=True).click()
                    page.locator(".lp-ask").first.wait_for()
                print(
                    name, "  SCROLLS SIDEWAYS" if wide else "", *{f"\n   CONSOLE {told}" for told in heard}, flush=True
                )
                context.close()


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(SCENES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for scene in wanted:
            with served(scene) as address:
                shoot(browser, scene, address)
        browser.close()


if __name__ == "__main__":
    main()
