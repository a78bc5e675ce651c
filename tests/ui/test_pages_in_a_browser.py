"""What only a browser shows: attaching again, stopping, copying, and that an answer loads nothing.

The pages are the real ones, over the fake services of a process of their own.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.screenshots import served
from tests.served import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, WebSocketRoute

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
    wait_for("the page's script", lambda: page.evaluate("window.__loupeCopy === true"))
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Copied").wait_for()
    assert "![a picture](https://example.org/a.png)" in str(page.evaluate("navigator.clipboard.readText()"))
    assert page.locator('[data-testid="stMain"] img').count() == 0
    page.locator(".st-key-variant button").first.click()
    page.get_by_role("button", name="Q8_0").click()
    page.locator(".st-key-variant button", has_text="Q8_0").wait_for()


def test_a_variant_on_the_models_screen_opens_a_chat_with_it(page: Page, serve: Serve) -> None:
    page.goto(serve("models"))
    page.locator('[class*="st-key-variant-smollm2"]', has_text="Q6_K").get_by_role("link", name="Chat").click()
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
    page.get_by_role("link", name="Get a model").click()
    page.get_by_label("Tag").wait_for()


SECONDS = 30_000  # ms; a deadline, not a measurement
LIVE_ROWS = ".lp-rows[data-lp=waiting] > li"
MARK = "rows => { rows.forEach(row => { row.marked = row.dataset.key }); return rows[0].dataset.key }"
KEPT = """rows => ({kept: rows.filter(row => row.marked === row.dataset.key).length,
  strange: rows.filter(row => row.marked && row.marked !== row.dataset.key).length})"""
WATCH_SHIFTS = """window.shifts = []
new PerformanceObserver(list => list.getEntries().forEach(entry => shifts.push({value: entry.value,
  who: entry.sources.map(source => source.node?.className ?? String(source.node?.nodeName))})))
  .observe({type: "layout-shift", buffered: false})"""


def test_sixty_that_wait_are_updated_without_a_new_element_or_a_shift(page: Page, serve: Serve) -> None:
    page.goto(serve("service_busy"))
    rows = page.locator(LIVE_ROWS)
    expect(rows).to_have_count(60, timeout=SECONDS)
    expect(page.get_by_text("Up to date", exact=True)).to_be_visible(timeout=SECONDS)
    page.evaluate("document.fonts.ready")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.evaluate(WATCH_SHIFTS)
    first = rows.evaluate_all(MARK)
    wait_for(  # ten have gone and ten have come: five seconds of updates
        "ten that have gone",
        lambda: int(rows.first.get_attribute("data-key")[1:]) >= int(first[1:]) + 10,  # type: ignore[index]
        SECONDS / 1000,
    )
    seen = rows.evaluate_all(KEPT)
    assert 40 <= seen["kept"] <= 50 and seen["strange"] == 0
    assert page.evaluate("shifts") == []


def test_the_live_part_rests_unseen_says_that_it_lost_the_line_and_is_used_by_keyboard(
    page: Page, serve: Serve
) -> None:
    page.goto(serve("service"))
    connected = page.get_by_text("Up to date", exact=True)
    expect(connected).to_be_visible(timeout=SECONDS)
    hide = """hidden => { Object.defineProperty(document, "hidden", {value: hidden, configurable: true})
      document.dispatchEvent(new Event("visibilitychange"))
      return document.querySelector(".lp-service").__live.source === null }"""
    assert page.evaluate(hide, True) is True
    assert page.evaluate(hide, False) is False

    page.context.set_offline(True)  # which cuts no stream that is there: that is done by hand, unless it was on its way
    page.evaluate("""{ const {source} = document.querySelector('.lp-service').__live
      if (source) { source.close(); source.onerror() } }""")
    expect(page.get_by_text("The connection to Loupe is lost")).to_be_visible()
    page.context.set_offline(False)
    expect(connected).to_be_visible(timeout=SECONDS)

    row = page.locator(LIVE_ROWS).nth(2)
    row.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(row).to_have_class("lp-t lp-going", timeout=SECONDS)


def test_a_queue_that_is_paused_and_drained_says_so_and_offers_only_what_is_left(page: Page, serve: Serve) -> None:
    page.goto(serve("service_drained"))
    station = page.locator("[data-lp=queue]")
    expect(station.locator("[data-lp=queue-facts]")).to_have_text(
        "Draining: who waits is served, nothing new is taken.", timeout=SECONDS
    )
    buttons = station.locator(".lp-pause button:visible")
    assert buttons.all_inner_texts() == ["Pause", "Resume"]
    buttons.last.click()
    expect(station.locator("[data-lp=queue-facts]")).to_contain_text("room for", timeout=SECONDS)
    assert buttons.all_inner_texts() == ["Pause", "Drain"]


def test_a_page_whose_server_is_away_says_so_in_our_words_and_goes_on_when_it_is_back(page: Page, serve: Serve) -> None:
    lines = []

    def through(line: WebSocketRoute) -> None:
        line.connect_to_server()
        lines.append(line)

    page.route_web_socket("**/_stcore/stream", through)
    page.goto(serve("batches_none"))
    page.get_by_text("No batch yet").wait_for(timeout=2 * SECONDS)
    bar = "getComputedStyle(document.querySelector('.stApp'), '::after')"
    assert page.evaluate(f"{bar}.content") == "none"
    page.context.set_offline(True)
    lines[-1].close()
    wait_for("the bar", lambda: page.evaluate(f"{bar}.visibility == 'visible' && {bar}.content != 'none'"), 60)
    assert "Loupe does not answer" in page.evaluate(f"{bar}.content")
    # Streamlit's own dialog, which names Streamlit, comes after some more seconds, and is not to be seen.
    page.evaluate("document.body.append(Object.assign(document.createElement('p'), {textContent: 'x', id: 'theirs'}))")
    page.evaluate("document.getElementById('theirs').dataset.testid = 'stDialog'")
    expect(page.locator("#theirs")).to_be_hidden()
    page.context.set_offline(False)
    wait_for("the line again", lambda: page.evaluate(f"{bar}.content == 'none'"), 60)
    expect(page.locator("#theirs")).to_be_visible()


def test_a_row_of_the_service_screen_opens_the_page_of_its_request(page: Page, serve: Serve) -> None:
    page.goto(serve("service"))
    row = page.locator(".lp-recent > li").first
    request = row.get_attribute("data-key", timeout=SECONDS)
    row.locator(".lp-outcome").click()  # not the name, which is the link: the row is as good
    expect(page.get_by_role("button", name="All requests")).to_be_visible(timeout=SECONDS)
    assert page.url.endswith(f"/dashboard?view=Requests&request={request}")


def test_pictures_are_drawn_from_our_own_host_without_evaluating_strings(page: Page, serve: Serve) -> None:
    address = serve("card")
    asked: list[str] = []
    refused: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda told: refused.append(told.text) if "Content Security Policy" in told.text else None)
    page.goto(address)
    charts = page.locator(".lp-chart")
    expect(charts).to_have_count(6, timeout=SECONDS)
    for number in range(6):
        expect(charts.nth(number).locator("svg")).to_be_visible(timeout=SECONDS)
    assert page.locator(".lp-chart-view").first.get_attribute("aria-label")
    origin = address[: address.index("/", len("http://"))]
    assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []
    assert refused == []


def test_a_token_opens_both_lists_by_mouse_and_by_keyboard(page: Page, serve: Serve) -> None:
    page.goto(serve("card"))
    tokens = page.locator(".lp-strip .lp-token[role=button]")
    expect(tokens).to_have_count(13, timeout=SECONDS)
    tokens.nth(1).click()
    lists = page.locator(".lp-strip-pair")
    expect(lists.locator("tbody").first.locator("tr")).to_have_count(20)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(3)).to_be_focused()
    expect(lists).to_contain_text("<b>grey</b>")  # as text
    assert lists.locator("b").count() == 0
    assert page.locator(".lp-strip-text").inner_text().startswith("The sky looks blue because")


def test_a_scorecard_that_is_measured_is_found_again_and_a_finished_one_follows_the_slider(
    page: Page, serve: Serve
) -> None:
    page.goto(serve("card_list"))
    page.locator(".st-key-card-open-c0ffee01").get_by_role("button").click(timeout=SECONDS)
    sentence = page.locator(".lp-advice h2")
    expect(sentence).to_contain_text("Run Q6_K", timeout=SECONDS)
    page.reload()
    expect(sentence).to_contain_text("Run Q6_K", timeout=SECONDS)
    memory = page.get_by_role("slider", name="Memory for the model")
    memory.focus()
    memory.press("Home")
    expect(sentence).not_to_contain_text("Run Q6_K", timeout=SECONDS)
    page.go_back()
    expect(page.locator(".st-key-card-open-c0ffee01")).to_be_visible(timeout=SECONDS)


def until_seen(wanted: Locator, act: Callable[[], None]) -> None:
    """Do it again where a busy page has not listened yet: its keys work a moment after its buttons are drawn."""
    deadline = time.monotonic() + SECONDS / 1000
    while not wanted.is_visible() and time.monotonic() < deadline:
        act()
        with contextlib.suppress(AssertionError):
            expect(wanted).to_be_visible(timeout=SECONDS / 10)
    expect(wanted).to_be_visible(timeout=SECONDS)


def test_a_running_round_is_found_again_after_a_reload_and_stops(page: Page, serve: Serve) -> None:
    page.goto(serve("side_running"))
    panes = page.locator('[class*="st-key-side-pane-0-"]')
    expect(panes.nth(2)).to_contain_text("It is famous for its mus", timeout=SECONDS)
    page.reload()
    expect(panes.nth(2)).to_contain_text("It is famous for its mus", timeout=SECONDS)
    expect(panes.nth(3)).to_contain_text("loading Q2_K")
    expect(panes.nth(4)).to_contain_text("waits for its turn")
    stopped = panes.nth(2).get_by_text("stopped")
    until_seen(stopped, lambda: page.keyboard.press("Escape"))
    expect(page.get_by_role("button", name="Ask what is missing")).to_be_visible(timeout=SECONDS)


def test_panes_ask_no_other_machine_whatever_a_model_wrote(page: Page, serve: Serve) -> None:
    page.goto(serve("side_hostile"))
    expect(page.locator('[class*="st-key-answer-side-"]')).to_have_count(2, timeout=SECONDS)
    page.get_by_text("Differences", exact=True).click()
    expect(page.locator(".lp-diff")).to_have_count(2, timeout=SECONDS)
    assert page.locator("[data-testid=stMain] img").count() == 0


def test_a_variant_is_voted_on_by_keyboard_and_a_reload_shows_the_same_answers(page: Page, serve: Serve) -> None:
    page.goto(serve("votes"))
    answers = page.locator('[class*="st-key-answer-vote-"]')
    expect(answers).to_have_count(2, timeout=SECONDS)
    before = answers.all_inner_texts()
    page.reload()
    expect(answers).to_have_count(2, timeout=SECONDS)
    assert answers.all_inner_texts() == before
    expect(page.get_by_role("button", name="B is better")).to_be_visible(timeout=SECONDS)
    page.keyboard.press("b")
    expect(page.get_by_text("You preferred")).to_be_visible(timeout=SECONDS)


def test_home_draws_its_figures_from_the_feed(page: Page, serve: Serve) -> None:
    page.goto(serve("home_busy"))
    figures = page.locator(".lp-now dd")
    expect(figures.nth(0)).to_have_text("2", timeout=30_000)
    expect(figures.nth(3)).to_have_text("25 %", timeout=30_000)
    wait_for("a curve", lambda: page.locator(".lp-now path").nth(3).get_attribute("d"))
    wait_for("gaps in it", lambda: (page.locator(".lp-now path").nth(1).get_attribute("d") or "").count("M") > 1)
    expect(page.locator(".lp-now small").nth(0)).to_have_text("3 wait for a slot")
    expect(page.get_by_role("link", name="Choose a quantization")).to_have_attribute("href", re.compile("smollm2-135m"))


def test_what_cannot_be_read_is_a_dash_with_its_reason_beside_what_can(page: Page, serve: Serve) -> None:
    page.goto(serve("dashboard_faults"))

    def row(chart: str, part: str) -> Locator:
        return page.locator(f'[data-chart="{chart}"] .lp-says {part}')

    said = {
        "cpu": ("–", "Permission denied"), "memory": ("–", "Permission denied"),
        "gpu": ("40 %", "1 silent"),
        "gpu-memory": ("9.00 GiB", "not GPU 1: the GPU does"), "power": ("–", "this GPU does not tell"),
    }  # fmt: skip
    for chart, (figure, why) in said.items():
        expect(row(chart, "b")).to_have_text(figure, timeout=SECONDS)
        expect(row(chart, "small")).to_contain_text(why, timeout=SECONDS)
    expect(page.get_by_text("Up to date, but what is drawn here is not written down")).to_be_visible(timeout=SECONDS)
