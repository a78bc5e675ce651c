"""What money is worked out from: prices, powers, a lifetime. Each has a value to begin with, or none where nobody can
guess it; what somebody stated is kept in the data folder and wins.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

from app.core.errors import BadRequest, DiskFull, StoreError
from app.core.generation import Json
from app.services.costing.cloud_prices import SHIPPED, SHIPPED_ON, CloudPrice
from app.services.small_file import read_small, write_small

FILE = "cost.json"
MOST_PRICES = 40
MOST_MACHINES = 64
_NAME = 80  # characters


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Money is in `currency`, per kWh and for the machine; `dollar` is what one US dollar costs in it, for the cloud's
    prices. `machine`: its price, written off over `years`, of which `share` (0 to 1) is for models. Powers are W: of a
    machine by name while it answers (`watts`) and at rest, where they are not measured, and what counters leave out
    (`beside`: board, disks, fans, the loss of the power supply). None is unknown. `stated`: what somebody has set.
    """

    currency: str = "USD"
    kwh: float = 0.30
    machine: float | None = None
    years: float = 4.0
    share: float = 1.0
    watts: Mapping[str, float] = field(default_factory=dict)
    rest: float | None = None
    beside: float = 0.0
    dollar: float = 1.0
    prices: tuple[CloudPrice, ...] = SHIPPED
    prices_on: str = SHIPPED_ON
    stated: tuple[str, ...] = ()

    def told(self) -> dict[str, Json]:
        rows: list[Json] = [asdict(price) for price in self.prices]
        return {**asdict(self), "watts": dict(self.watts), "prices": rows, "stated": list(self.stated)}


def changed(before: Assumptions, body: Mapping[str, Json]) -> Assumptions:
    """With what the body states; null takes a statement back. Raises `BadRequest` and changes nothing of it."""
    unknown = sorted(set(body) - set(_READ))
    if unknown:
        raise BadRequest(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(_READ)}", unknown[0])
    first = Assumptions()
    values, stated = {}, set(before.stated)
    for name, told in body.items():
        values[name] = getattr(first, name) if told is None else _READ[name](name, told)
        (stated.discard if told is None else stated.add)(name)
    return replace(before, **values, stated=tuple(sorted(stated)))  # type: ignore[arg-type]


def _amount(least: float, most: float, unit: str) -> Callable[[str, Json], float]:
    def read(name: str, told: Json) -> float:
        if not isinstance(told, int | float) or isinstance(told, bool) or not least <= told <= most:  # NaN neither
            raise BadRequest(f"{name} is a number from {least:g} to {most:g} ({unit})", name)
        return float(told)

    return read


_power = _amount(0, 100_000, "W")
_price = _amount(0, 10_000, "US dollars a million tokens")


def _word(name: str, told: Json) -> str:
    if not isinstance(told, str) or not 1 <= len(told.strip()) <= 8 or not told.isprintable():
        raise BadRequest(f"{name} is a word of at most 8 letters, such as EUR", name)
    return told.strip()


def _day(name: str, told: Json) -> str:
    try:
        return date.fromisoformat(str(told).strip()).isoformat()
    except ValueError:
        raise BadRequest(f"{name} is a day, such as {SHIPPED_ON}", name) from None


def _powers(name: str, told: Json) -> Mapping[str, float]:
    if not isinstance(told, dict) or len(told) > MOST_MACHINES:
        raise BadRequest(f'{name} are powers by machine, such as {{"here": 65}}', name)
    return {
        machine[:_NAME]: _power(f"{name}.{machine[:_NAME]}", one) for machine, one in told.items() if one is not None
    }


def _prices(name: str, told: Json) -> tuple[CloudPrice, ...]:
    if not isinstance(told, list) or len(told) > MOST_PRICES:
        raise BadRequest(f"{name} is a list of at most {MOST_PRICES} prices", name)
    found = tuple(_cloud_price(f"{name}[{at}]", row) for at, row in enumerate(told))
    if len({price.name for price in found}) < len(found):
        raise BadRequest(f"{name}: two have the same name; each needs one of its own", name)
    return found


def _cloud_price(where: str, row: Json) -> CloudPrice:
    if not isinstance(row, dict) or set(row) != {"name", "read", "written"}:
        raise BadRequest(f'{where} is {{"name", "read", "written"}}, in US dollars a million tokens', where)
    name = row["name"]
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= _NAME or not name.isprintable():
        raise BadRequest(f"{where}: the name has 1 to {_NAME} letters", where)
    return CloudPrice(name.strip(), _price(f"{where}.read", row["read"]), _price(f"{where}.written", row["written"]))


_READ: Mapping[str, Callable[[str, Json], object]] = {
    "currency": _word,
    "kwh": _amount(0, 100_000, "money a kWh"),
    "machine": _amount(0, 1e9, "the price of the machine"),
    "years": _amount(0.1, 50, "years"),
    "share": _amount(0, 1, "a share: 0.5 is half of it"),
    "watts": _powers,
    "rest": _power,
    "beside": _power,
    "dollar": _amount(1e-6, 1e9, "what a US dollar costs"),
    "prices": _prices,
    "prices_on": _day,
}


class AssumptionsFile:
    """`cost.json`: only what was stated, so that a newer Loupe's beginnings reach those who stated nothing."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._now: Assumptions | None = None

    def now(self) -> Assumptions:
        """What holds. Blocks at the first call; a value that cannot be read is as good as not stated."""
        if self._now is None:
            told = read_small(self._file)
            found = Assumptions()
            for name, value in (told if isinstance(told, dict) else {}).items():
                try:
                    found = changed(found, {name: value})
                except BadRequest:
                    continue  # of another version, or written by hand
            self._now = found
        return self._now

    def change(self, body: Mapping[str, Json]) -> Assumptions:
        """Blocks. Raises `BadRequest`, or `StoreError` where it cannot be kept; nothing has changed then."""
        wanted = changed(self.now(), body)
        told = wanted.told()
        try:
            write_small(self._file, json.dumps({name: told[name] for name in wanted.stated}, indent=1))
        except OSError as problem:
            kind = DiskFull if problem.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
            raise kind(
                f"{self._file} cannot be written: {problem.strerror}; the assumptions are as they were"
            ) from problem
        self._now = wanted
        return wanted
