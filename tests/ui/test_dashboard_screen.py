"""The Dashboard over scripted services."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from app.core.errors import NoHealthyHost
from app.core.hardware import HardwareState
from app.models.catalog import CatalogView
from tests.ui import dashboard_scenes as scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, text_of

Open = Callable[..., AppTest]


def test_the_latency_of_each_variant_and_host_is_told_with_how_many_it_rests_on(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.latency(services)
    page = calm(open_screen("dashboard", view="Latency"))
    words = text_of(page)
    assert "317 requests in the last 15 min: 313 measured, 2 from the cache, 1 failed, 1 cancelled." in words
    for name in (scenes.Q4, scenes.Q8, scenes.QWEN):
        assert name in words
    assert 'data-name="n">240<' in html_of(page) and 'data-name="TTFT p99">–<' in html_of(page)
    assert html_of(page).count('class="lp-hist"') == 3


def test_the_filters_stand_in_the_address(services: FakeServices, open_screen: Open) -> None:
    scenes.answered(services, age=60)
    scenes.answered(services, scenes.Q8, age=3600)
    scenes.answered(services, scenes.Q8, age=3600, principal="ada")
    page = calm(open_screen("dashboard", view="Latency", range="2 h", variant=scenes.Q8, user="ada"))
    assert "1 request in the last 2 h: 1 measured." in text_of(page)
    page.selectbox(key="user").select("").run()
    assert "2 requests in the last 2 h" in text_of(calm(page))
    page.selectbox(key="variant").select("").run()
    assert "3 requests in the last 2 h" in text_of(calm(page))


def test_an_address_that_names_what_is_gone_is_still_shown(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("dashboard", view="Latency", variant="gone:q4"))
    assert "No request was measured in the last 15 min" in text_of(page)
    assert page.selectbox(key="variant").value == "gone:q4"


def begins_with(page: AppTest) -> dict[str, Any]:
    """What the live series are given."""
    [series] = page.get("bidi_component")
    told: dict[str, Any] = json.loads(series.proto.mixed.json if series.proto.HasField("mixed") else series.proto.json)
    return told


def test_the_series_begin_with_what_is_known_now_in_the_range_of_the_address(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.DASHBOARD_SCENES["dashboard_gpus"](services)
    state = HardwareState(1, 1_700_000_000.0, services.machine(), services.gpus())
    services.live._take(state)
    told = begins_with(calm(open_screen("dashboard", range="24 h")))
    assert told["seconds"] == 86_400 and told["begin"]["now"]["gpu7.utilisation"] == 0.75
    assert len(told["begin"]["names"]) == 8 and told["begin"]["limits"]["gpu0.memory_total"] == 24 << 30
    assert told["colours"]["smollm2:135m-instruct-q8_0"].startswith("#")


def test_the_series_are_there_while_no_host_answers(services: FakeServices, open_screen: Open) -> None:
    async def fails(*, stale_ok: bool = False) -> CatalogView:
        raise NoHealthyHost({"built-in": "connection refused"})

    services.catalog.snapshot = fails  # type: ignore[method-assign]
    told = begins_with(calm(open_screen("dashboard")))
    assert told["seconds"] == 900 and told["colours"] == {}
