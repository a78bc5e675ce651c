"""A report opened from disk, in a real browser that has no network."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.backends.chart_process import ChartProcess
from app.comparison.advice import recommend
from app.comparison.report import html_report
from app.models.advisor import Wish
from tests.unit.comparison.cards import MIB, card

EVIL = "<img src=http://127.0.0.1:9/x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A file with everything: pictures, an earlier measurement beside it, and a variant with a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    first = card()
    named = replace(first.variants[3], name=EVIL, quantization=EVIL)
    made = replace(first, variants=(*first.variants[:3], named, *first.variants[4:]))
    made = replace(made, recommendation=recommend(made, Wish(400 * MIB, 4096)))
    pictures = ChartProcess(folder / "charts", os.environ)
    making = html_report(made, pictures, rows={"x": [1]}, first=first, budget=400 * MIB)
    with ThreadPoolExecutor(1) as elsewhere:  # the browser's own loop runs in this thread
        text = elsewhere.submit(asyncio.run, making).result()
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_report_opens_without_a_network_in_both_lights_and_widths(browser, report, scheme, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    assert asked == [report.as_uri()] and said == []
    assert page.title() == "SmolLM2 135M Instruct: which quantization"
    shown = page.locator("figure svg").evaluate_all("drawn => drawn.filter(one => one.getClientRects().length).length")
    assert shown == 6
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    bright = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
    dark = sum(map(int, text.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (bright > dark) == (scheme == "light")
    assert page.get_by_text(EVIL).count() > 0
    context.close()
