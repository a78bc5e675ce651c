"""States of the scorecard view to look at, as in `scenes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.models.catalog import CatalogView
from tests.ui import scorecards
from tests.ui.fake_services import FakeServices, qwen, smollm2


def card_choose(services: FakeServices) -> str:
    """Nothing was measured yet."""
    services.catalog.view = CatalogView((smollm2(), qwen()), services.pool.hosts)
    return "/compare"


def card_list(services: FakeServices) -> str:
    card_choose(services)
    services.comparisons.put(
        scorecards.scorecard(),
        scorecards.scorecard("fp16", "q8_0", "q4_K_M", card_id="c0ffee03", started_at=scorecards.BEGUN - 86_400),
        replace(scorecards.running(), id="c0ffee04", started_at=scorecards.BEGUN + 900),
    )
    return "/compare"


def card_nothing(services: FakeServices) -> str:
    """One variant: nothing to compare."""
    family = smollm2()
    services.catalog.view = CatalogView((replace(family, variants=family.variants[:1]),), services.pool.hosts)
    return "/compare"


def card(services: FakeServices) -> str:
    card_list(services)
    return "/compare?report=c0ffee01"


def card_deep(services: FakeServices) -> str:
    services.comparisons.put(scorecards.deep())
    return "/compare?report=c0ffee02"


def card_running(services: FakeServices) -> str:
    services.comparisons.put(scorecards.running())
    services.loop.call_soon_threadsafe(services.comparisons.run, "c0ffee01")
    return "/compare?report=c0ffee01"


def card_paused(services: FakeServices) -> str:
    services.comparisons.put(replace(scorecards.running(), state="paused"))
    return "/compare?report=c0ffee01"


def card_failed(services: FakeServices) -> str:
    services.comparisons.put(
        replace(scorecards.running(), state="failed", findings=(scorecards.HOST_LOST,), ended_at=scorecards.BEGUN + 40)
    )
    return "/compare?report=c0ffee01"


def card_old_server(services: FakeServices) -> str:
    """A server that tells no logprobs: speed alone."""
    services.comparisons.put(scorecards.old_server())
    return "/compare?report=c0ffee01"


def card_gone(services: FakeServices) -> str:
    return "/compare?report=c0ffee99"


CARD_SCENES: dict[str, Callable[[FakeServices], str]] = {
    scene.__name__: scene
    for scene in (
        card_choose, card_list, card_nothing, card, card_deep, card_running, card_paused, card_failed, card_old_server,
        card_gone,
    )
}  # fmt: skip
