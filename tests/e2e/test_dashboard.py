"""The Dashboard's live series beside a real model at work: the figures change during an answer, agree with what Loupe
counts elsewhere, and nothing is asked for while the tab is hidden."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS
from tests.served import Served, http, served_app, wait_for
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(300)
MODEL = "smollm2:135m-instruct-q8_0"
TALE = {"model": MODEL, "prompt": "Tell a long story about a dog.", "stream": False, "options": {"num_predict": 400}}
WATCH = """() => { window.shifts = []; window.paces = []
  const seen = (list) => shifts.push(...list.getEntries().map((one) => one.value))
  new PerformanceObserver(seen).observe({type: "layout-shift"})
  const pace = document.querySelector('[data-chart="tokens"] b')
  const all = {childList: true, subtree: true, characterData: true}
  new MutationObserver(() => paces.push(pace.textContent)).observe(pace, all) }"""
HIDE = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
TURN = HIDE + "document.dispatchEvent(new Event('visibilitychange')) }"


def figure(page: Page, chart: str, part: str = "b") -> Any:
    return page.locator(f'[data-chart="{chart}"] .lp-says {part}')


def metric(app: Served, name: str) -> float:
    told = http(f"{app.url}/metrics")[1].decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", told, re.MULTILINE)[1])  # type: ignore[index]


def test_the_series_follow_an_answer_and_rest_while_nobody_looks(tmp_path: Path, page: Page) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    linked_store(tmp_path / "data" / "models", ("q8_0",))
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    with served_app(tmp_path / "data", LOUPE_STARTER="off") as app:
        app.wait_ready()
        page.goto(f"{app.url}/dashboard")
        expect(page.get_by_text("Up to date", exact=True)).to_be_visible()
        expect(figure(page, "tokens")).to_have_text("0 tok/s")
        expect(figure(page, "ttft")).to_have_text("–")
        page.evaluate(WATCH)
        it_follows_an_answer(app, page)
        assert sum(page.evaluate("shifts")) == 0
        it_rests_while_hidden(page)


def it_follows_an_answer(app: Served, page: Page) -> None:
    answer = json.loads(http(f"{app.url}/api/generate", TALE)[1])
    assert answer["done"]
    wait_for("the pace of the answer", lambda: any(told[0] in "123456789" for told in page.evaluate("paces")), 30)
    expect(figure(page, "queue", "small")).to_have_text("0 running")
    expect(figure(page, "tokens")).to_have_text("0 tok/s")
    [request] = json.loads(http(f"{app.url}/loupe/requests?status=ok")[1])["requests"]
    first = request["ttft_ns"] / 1e9
    told = f"p50 {round(first * 1000)} ms" if first < 0.9995 else f"p50 {first:.2f} s" if first < 9.995 else "p50"
    expect(figure(page, "ttft")).to_contain_text(told)
    assert metric(app, 'loupe_tokens_total{kind="output"}') == request["output_tokens"] == answer["eval_count"]
    wait_for("the tokens of the series", lambda: abs(written(app) - request["output_tokens"]) < 0.2 * written(app), 30)
    expect(page.locator(".lp-happened")).to_contain_text(f"{MODEL} was loaded on")
    expect(figure(page, "memory", "small")).to_contain_text("q8_0")


def written(app: Served) -> float:
    """Tokens, by the area under the kept curve."""
    past = json.loads(http(f"{app.url}/loupe/hardware/history?series=tokens_per_second")[1])
    return past["step"] * sum(pair[0] for pair in past["series"]["tokens_per_second"] if pair)


def it_rests_while_hidden(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(TURN, True)
    assert page.evaluate("document.querySelector('.lp-series').__series.source") is None
    before = page.evaluate("document.querySelector('.lp-series').__series.seen")
    page.evaluate(TURN, False)
    expect(page.get_by_text("Up to date", exact=True)).to_be_visible()
    now = "(before) => document.querySelector('.lp-series').__series.seen > before"
    wait_for("the series to go on", lambda: page.evaluate(now, before), 30)
    assert [url.rpartition("/")[2].partition("?")[0] for url in asked].count("history") == 1
