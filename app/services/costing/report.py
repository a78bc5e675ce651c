"""What it comes to: energy and money of what was used, beside the cloud's, from the assumptions. Pure.

What can be told from a figure that is missing is unknown; what can be told without it is told, and says what is left
out. Method: docs/cost.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.services.costing.assumptions import Assumptions
from app.services.costing.cloud_prices import CloudPrice
from app.services.costing.values import DAY, HERE, Books, Rested, UsageKey, Used

JOULES_OF_KWH = 3.6e6
DAYS_OF_YEAR = 365.25
MILLION = 1e6
PARTS = {"variant": "model", "user": "principal", "alias": "alias", "day": "day", "machine": "machine"}


class Basis(StrEnum):
    """Where an energy comes from. IN_PART: measured for some of the time, the rest at the same power."""

    MEASURED = "measured"
    IN_PART = "measured in part"
    STATED = "stated"
    BOTH = "measured and stated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Energy:
    """`joules` is None where `basis` is UNKNOWN. `measured`: the share of the time in which a counter told."""

    joules: float | None
    basis: Basis
    measured: float = 0.0


@dataclass(frozen=True, slots=True)
class CostRow:
    """Of one variant, user, alias, day or machine, or of all. `name` is its field of the key.

    `electricity` is for the answers themselves. `standing` is this row's part, by its seconds, of what is paid whether
    anything is asked or not: the machine's price by the day, and what it draws at rest. None is unknown.
    """

    name: str | int
    used: Used
    energy: Energy
    electricity: float | None
    standing: float | None

    @property
    def money(self) -> float | None:
        """All of it that is known; None where nothing is."""
        known = [part for part in (self.electricity, self.standing) if part is not None]
        return sum(known) if known else None

    @property
    def joules_per_1000(self) -> float | None:
        """For 1,000 tokens of answers, the reading of their prompts included."""
        written = self.used.output_tokens
        return None if self.energy.joules is None or not written else self.energy.joules / written * 1000

    @property
    def per_million(self) -> float | None:
        """Money for a million tokens, read and written."""
        return None if self.money is None or not self.used.tokens else self.money / self.used.tokens * MILLION


@dataclass(frozen=True, slots=True)
class Standing:
    """What a day costs before anything is asked: None where the price of the machine, or its draw at rest, is unknown.
    `rest_watts`: what it draws then."""

    machine: float | None
    rest: float | None
    rest_watts: float | None
    rest_basis: Basis

    @property
    def a_day(self) -> float | None:
        known = [part for part in (self.machine, self.rest) if part is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Beside:
    """One price of the cloud. `money`: what it would have taken for the same tokens, those from the cache included.
    `break_even`: tokens a day from which on this machine is cheaper, in the mix of what was read and written so far;
    None with the reason in `why`. `possible`: whether this machine can make so many a day."""

    price: CloudPrice
    money: float
    break_even: float | None
    why: str = ""
    possible: bool = True


@dataclass(frozen=True, slots=True)
class CostReport:
    """`days`: how long the time told of is, from the first look on. `most_a_day`: tokens that this machine makes in a
    day without a pause, at the pace so far."""

    by: str
    days: float
    rows: tuple[CostRow, ...]
    total: CostRow
    standing: Standing
    beside: tuple[Beside, ...]
    tokens_a_day: float
    most_a_day: float | None
    left_out: tuple[str, ...]


def report(books: Books, assumed: Assumptions, by: str, since: int, now: float) -> CostReport:
    """`by`: a name of `PARTS`. `since`: the first day asked for. `now` in seconds since the epoch."""
    began = max(since * DAY, books.began if books.began is not None else now)
    days = max(0.0, now - began) / DAY
    standing = _standing(books.rested.values(), assumed, days)
    fixed = None if standing.a_day is None else standing.a_day * days
    used = books.sum()
    total = _row("", books.used, assumed, fixed)
    rows = []
    for name, group in books.grouped(PARTS[by]):
        seconds = sum(one.seconds for one in group.values())
        part = None if fixed is None else fixed * (seconds / used.seconds if used.seconds else 0.0)
        rows.append(_row(name, group, assumed, part))
    rows.sort(key=lambda row: row.name if by == "day" else row.used.seconds, reverse=True)
    most = used.tokens / used.seconds * DAY if used.seconds and used.tokens else None
    beside = tuple(_beside(price, total, standing, assumed, most) for price in assumed.prices)
    return CostReport(
        by, days, tuple(rows), total, standing, beside,
        used.tokens / days if days else 0.0, most, tuple(_left_out(total, standing, assumed)),
    )  # fmt: skip


def energy_of(parts: Mapping[UsageKey, Used], assumed: Assumptions) -> Energy:
    """Measured where a counter told; the rest of the time by the power that somebody stated for that machine, or where
    nobody did, at the power that was measured."""
    joules = seconds = measured = 0.0
    bases: set[Basis] = set()
    for machine in {key.machine for key in parts}:
        used = Used()
        for key, one in parts.items():
            if key.machine == machine:
                used += one
        if not used.seconds:
            continue
        energy = _of_machine(used, assumed.watts.get(machine), assumed.beside)
        if energy.joules is None:
            return Energy(None, Basis.UNKNOWN)
        joules, seconds, measured = joules + energy.joules, seconds + used.seconds, measured + used.measured
        bases.add(energy.basis)
    if not bases:
        return Energy(None, Basis.UNKNOWN)
    basis = bases.pop() if len(bases) == 1 else Basis.BOTH if bases & {Basis.STATED, Basis.BOTH} else Basis.IN_PART
    return Energy(joules, basis, min(1.0, measured / seconds))


_NEARLY = 0.98  # of the time; the first second of each start has no figure yet


def _of_machine(used: Used, watts: float | None, beside: float) -> Energy:
    share = min(1.0, used.measured / used.seconds)
    known = used.joules + beside * used.measured
    missing = max(0.0, used.seconds - used.measured)
    if share >= _NEARLY:
        return Energy(known / share, Basis.MEASURED, share)
    if watts is not None:
        return Energy(known + watts * missing, Basis.BOTH if used.measured else Basis.STATED, share)
    if used.measured:
        return Energy(known / share, Basis.IN_PART, share)
    return Energy(None, Basis.UNKNOWN)


def _row(name: str | int, parts: Mapping[UsageKey, Used], assumed: Assumptions, standing: float | None) -> CostRow:
    used = Used()
    for one in parts.values():
        used += one
    energy = energy_of(parts, assumed)
    electricity = None if energy.joules is None else energy.joules / JOULES_OF_KWH * assumed.kwh
    return CostRow(name, used, energy, electricity, standing)


def _standing(rested: Iterable[Rested], assumed: Assumptions, days: float) -> Standing:
    machine = None if assumed.machine is None else assumed.machine / (assumed.years * DAYS_OF_YEAR) * assumed.share
    seconds = measured = joules = 0.0
    for one in rested:
        seconds, measured, joules = seconds + one.seconds, measured + one.measured, joules + one.joules
    if measured and measured >= _NEARLY * seconds or (measured and assumed.rest is None):
        watts, basis = joules / measured + assumed.beside, Basis.MEASURED
    elif assumed.rest is not None:
        watts, basis = assumed.rest, Basis.STATED
    else:
        return Standing(machine, None, None, Basis.UNKNOWN)
    a_day = seconds / days if days > 0 else 0.0  # at rest, of what Loupe saw
    rest = watts * min(a_day, DAY) / JOULES_OF_KWH * assumed.kwh * assumed.share
    return Standing(machine, rest, watts, basis)


def _beside(price: CloudPrice, total: CostRow, standing: Standing, assumed: Assumptions, most: float | None) -> Beside:
    used = total.used
    read, written = price.read * assumed.dollar / MILLION, price.written * assumed.dollar / MILLION
    money = read * (used.prompt_tokens + used.cached_prompt_tokens) + written * (
        used.output_tokens + used.cached_output_tokens
    )
    if not used.tokens:
        return Beside(price, money, None, "no token was made yet")
    if total.electricity is None:
        return Beside(price, money, None, "the energy is unknown")
    if standing.machine is None:
        return Beside(price, money, None, "the price of the machine is not stated")
    there = (read * used.prompt_tokens + written * used.output_tokens) / used.tokens
    here = total.electricity / used.tokens
    if there <= here:
        return Beside(price, money, None, "never: the electricity alone costs more")
    tokens = (standing.a_day or 0.0) / (there - here)
    return Beside(price, money, tokens, possible=most is None or tokens <= most)


def _left_out(total: CostRow, standing: Standing, assumed: Assumptions) -> Iterable[str]:
    """What the money does not hold, because nobody said it."""
    if total.energy.joules is None and total.used.seconds:
        yield "electricity"
    if standing.machine is None:
        yield "the price of the machine"
    if standing.rest is None and assumed.share:
        yield "what it draws at rest"


def machines_of(books: Books) -> tuple[str, ...]:
    """Those that worked, this one first."""
    found = {key.machine for key in books.used} - {HERE}
    return (HERE, *sorted(found))
