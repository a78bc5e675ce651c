"""States of the cost view to look at."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.core.generation import Json
from app.core.hardware import Machine
from app.services.access_keys import KeyScope, KeyWish
from app.services.costing.values import DAY, HERE, Rested, UsageKey, Used
from tests.ui.fake_services import FakeServices

DASHBOARD = "/dashboard?view=Cost"
STATED: dict[str, Json] = {"kwh": 0.31, "currency": "EUR", "dollar": 0.92, "machine": 1800, "share": 0.5, "beside": 12}


def booked(services: FakeServices, *, measured: bool = True, days: int = 6) -> None:
    """A week of answers: four variants, two users, an alias, a host elsewhere, and the cache."""
    services.keys.create(KeyWish("me", KeyScope.ADMIN))
    key, _ = services.keys.create(KeyWish("editor"))
    today = int(time.time() // DAY)
    used, rested = {}, {}
    for back in range(days):
        day = today - back
        rested[day] = Rested(day * DAY, 40_000.0, 480_000.0, 40_000.0) if measured else Rested(day * DAY, 40_000.0)
        for at, (model, principal, alias) in enumerate(
            (
                ("qwen3:4b-instruct-2507-q4_k_m", "local", ""),
                ("qwen3:4b-instruct-2507-q4_k_m", key.principal, "coder"),
                ("qwen3:4b-instruct-2507-q8_0", "local", ""),
                ("smollm2:135m-instruct-q4_K_M", key.principal, "quick"),
            )
        ):  # fmt: skip
            seconds = 1900.0 / (at + 1)
            one = Used(40, 61_000, 24_000, seconds, seconds * 41, seconds, 9, 2600, 1900)
            used[UsageKey(day, model, principal, alias, HERE)] = one if measured else Used(40, 61_000, 24_000, seconds)
    services.cost._watch._ledger.add(used, rested, today)


def cost(services: FakeServices) -> str:
    booked(services)
    services.machine = lambda: Machine(power=28.0)
    services.run(services.cost.change(STATED))
    return DASHBOARD


def cost_stated(services: FakeServices) -> str:
    booked(services, measured=False)
    services.run(services.cost.change({**STATED, "watts": {HERE: 65}, "rest": 9}))
    return f"{DASHBOARD}&by=User"


def cost_unknown(services: FakeServices) -> str:
    booked(services, measured=False, days=1)
    return DASHBOARD


def cost_empty(services: FakeServices) -> str:
    return DASHBOARD


COST_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "cost": cost, "cost_stated": cost_stated, "cost_unknown": cost_unknown, "cost_empty": cost_empty,
}  # fmt: skip
