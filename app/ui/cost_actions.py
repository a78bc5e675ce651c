"""What clicks do on the cost view."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.errors import BadRequest
from app.core.generation import Json
from app.services.costing.assumptions import Assumptions
from app.ui import access, bridge, notices, who
from app.ui import cost_words as words
from app.ui.state import cost_state


def state(body: Mapping[str, Json], place: str) -> bool:
    """State assumptions; whether that was done. Where not, it is told at that place."""

    def work() -> Assumptions:
        who.require_admin("change what cost is worked out from")
        return bridge.call(access.services().cost.change(body), keep=True)

    return notices.told_at(cost_state().notices, place, work) is not None


def state_prices(text: str, day: str, dollar: float | None) -> bool:
    def work() -> list[Json]:
        try:
            return words.prices_of(text)
        except ValueError as error:
            raise BadRequest(str(error)) from error

    rows = notices.told_at(cost_state().notices, "prices", work)
    return rows is not None and state({"prices": rows, "prices_on": day, "dollar": dollar}, "prices")


def take_back(names: tuple[str, ...]) -> None:
    """What was stated is forgotten; Loupe's beginnings hold again."""
    state(dict.fromkeys(names), "cost")
