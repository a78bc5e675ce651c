"""The words of the cost view. Pure: no Streamlit, no services, no clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.core.generation import Json
from app.services.access_keys import LOCAL
from app.services.costing.assumptions import Assumptions
from app.services.costing.cloud_prices import CloudPrice
from app.services.costing.report import Basis, Beside, CostReport, CostRow, Energy
from app.services.costing.service import CostView
from app.services.costing.values import HERE
from app.ui import view_models as vm
from app.ui.card_numbers import plain_number

PERIODS = {"Today": 1, "7 days": 7, "30 days": 30, "All": 400}
BY = {"Variant": "variant", "User": "user", "Alias": "alias", "Day": "day", "Machine": "machine"}
EMPTY = (
    "No answer was made in this time. From the next one on, its tokens, its time and, where a counter may be read, its "
    "energy are counted here, by whoever it is asked."
)
SMALLEST = 0.0001  # of the currency; below that a figure of five places says nothing
HEAD = (
    "Answers", "Tokens read", "Tokens written", "Energy per 1,000", "Electricity", "Standing", "Together", "A million",
)  # fmt: skip
CLOUD_HEAD = ("Elsewhere", "A million read", "A million written", "The same tokens", "Break-even")


@dataclass(frozen=True, slots=True)
class Figure:
    """One large figure: what it is, its value, and a quiet line below. `help` on hover."""

    name: str
    value: str
    note: str
    help: str = ""


def money(value: float | None, currency: str) -> str:
    """0.0123 USD, 4.20 USD, 1 240 USD; unknown is a dash."""
    if value is None:
        return vm.UNKNOWN
    if 0 < value < SMALLEST:
        return f"< {SMALLEST} {currency}"
    text = vm.grouped(round(value)) if value >= 1000 else f"{value:.2f}" if value >= 1 else plain_number(value)
    return f"{text} {currency}"


def price(value: float | None, currency: str) -> str:
    """Money as somebody said it, with no digit more: 0.31 EUR, 4.00 USD, 1 800 EUR."""
    if value is None or value >= 1000:
        return money(value, currency)
    figures = f"{value:.6f}".rstrip("0")
    whole, _, rest = figures.partition(".")
    return f"{whole}.{rest:0<2} {currency}"


def energy(joules: float | None) -> str:
    """870 J, 1.42 Wh, 3.10 kWh: three figures."""
    if joules is None:
        return vm.UNKNOWN
    hours = joules / 3600
    if joules < 1000:
        return f"{plain_number(joules)} J"
    return f"{plain_number(hours)} Wh" if hours < 999.5 else f"{plain_number(hours / 1000)} kWh"


def tokens(count: float) -> str:
    """12 034, 1.24 million, 3.1 billion."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= 0.9995 * size:
            return f"{plain_number(count / size)} {word}"
    return vm.grouped(round(count))


def about(count: float) -> str:
    """An estimate in tokens: three figures."""
    return tokens(float(f"{count:.3g}"))


def basis(told: Energy, counters: Sequence[str]) -> str:
    """Where an energy comes from, in a few words."""
    by = f" ({', '.join(counters)})" if counters else ""
    return {
        Basis.MEASURED: f"measured{by}",
        Basis.IN_PART: f"measured{by} {vm.percent(told.measured)} of the time, the rest at the same power",
        Basis.STATED: "from a stated power",
        Basis.BOTH: f"measured{by} {vm.percent(told.measured)} of the time, else from a stated power",
        Basis.UNKNOWN: "unknown",
    }[told.basis]


def figures(view: CostView) -> Iterator[Figure]:
    told, currency = view.report, view.assumed.currency
    total = told.total
    yield Figure(
        "Energy per 1,000 tokens", energy(total.joules_per_1000), _energy_note(view),
        "Of the whole machine while an answer was made, per 1,000 tokens written, the reading of prompts included.",
    )  # fmt: skip
    yield Figure("Spent", money(total.money, currency), _spent(view))
    a_day = f", {about(told.tokens_a_day)} a day" if told.days >= 1 else ""
    yield Figure(
        "A million tokens", money(total.per_million, currency),
        f"{tokens(total.used.tokens)} read and written{a_day}",
        "What was spent, divided by all tokens that were read and written. The more there are, the less each costs.",
    )  # fmt: skip
    value, note = break_even(told)
    yield Figure(
        "Break-even", value, note,
        "From so many tokens a day on, in the mix of today, this machine is cheaper than the cloud.",
    )  # fmt: skip


def _energy_note(view: CostView) -> str:
    told = view.report.total.energy
    if told.joules is None and view.report.total.used.seconds:
        why = view.why or "a host elsewhere is not measured"
        return f"unknown: {why}. State what it draws below"
    return basis(told, view.counters) if told.joules is not None else "no answer was made yet"


def _spent(view: CostView) -> str:
    total, currency = view.report.total, view.assumed.currency
    if total.money is None:
        return "neither power nor the machine's price is known; state them below"
    told = f"answers {money(total.electricity, currency)}, standing {money(total.standing, currency)}"
    return told + (f"; without {' and '.join(view.report.left_out)}" if view.report.left_out else "")


def break_even(told: CostReport) -> tuple[str, str]:
    """The range over the table, as far as this machine reaches it, and against what; the reason where there is none."""
    found = sorted((one for one in told.beside if one.break_even is not None), key=_tokens)
    if not found:
        whys = {one.why for one in told.beside} or {"no price is given"}
        return vm.UNKNOWN, whys.pop() if len(whys) == 1 else "against no price of the table"
    reached = [one for one in found if one.possible]
    low, high = (reached[0], reached[-1]) if reached else (found[0], found[0])
    value = about(_tokens(low)) + ("" if low is high else f" – {about(_tokens(high))}") + " a day"
    against = f"against {low.price.name}" + ("" if low is high else f" … {high.price.name}")
    if not reached:
        return value, f"{against}; more than this machine can make"
    others = len(told.beside) - len(reached)
    return value, against + (f"; never against {others} of {len(told.beside)} prices" if others else "")


def _tokens(one: Beside) -> float:
    return one.break_even or 0.0


def name_of(by: str, row: CostRow) -> str:
    name = str(row.name)
    if by == "user" and name == LOCAL:
        return "the owner"
    if by == "alias" and not name:
        return "asked by the model's own name"
    return "this machine" if by == "machine" and name == HERE else name


def table(view: CostView) -> tuple[list[str], list[list[str]]]:
    """Head and rows of what was used; the last row is the sum."""
    told, currency = view.report, view.assumed.currency
    title = next(title for title, by in BY.items() if by == told.by)
    rows = [_cells(name_of(told.by, row), row, currency) for row in told.rows]
    return [title, *HEAD], [*rows, _cells("All", told.total, currency)]


def _cells(name: str, row: CostRow, currency: str) -> list[str]:
    used = row.used
    return [
        name, vm.grouped(used.requests), tokens(used.prompt_tokens), tokens(used.output_tokens),
        energy(row.joules_per_1000) + _mark(row.energy), money(row.electricity, currency),
        money(row.standing, currency), money(row.money, currency), money(row.per_million, currency),
    ]  # fmt: skip


def _mark(told: Energy) -> str:
    return {Basis.STATED: ", stated", Basis.BOTH: ", partly stated"}.get(told.basis, "")


def cloud(view: CostView) -> tuple[list[str], list[list[str]]]:
    told, assumed = view.report, view.assumed
    rate, currency = assumed.dollar, assumed.currency
    asked = told.total.used.tokens or told.total.used.cached
    untold = told.total.electricity is None or told.standing.machine is None  # which the figure above says once
    rows = [
        [
            one.price.name, _elsewhere(one.price.read, rate, currency), _elsewhere(one.price.written, rate, currency),
            money(one.money if asked else None, currency), vm.UNKNOWN if untold else _reach(one),
        ]
        for one in told.beside
    ]  # fmt: skip
    return list(CLOUD_HEAD), rows


def _elsewhere(dollars: float, rate: float, currency: str) -> str:
    """A list price; in another currency with three figures."""
    return price(dollars, currency) if rate == 1 else money(dollars * rate, currency)


def _reach(one: Beside) -> str:
    if one.break_even is None:
        return one.why
    told = f"{about(one.break_even)} tokens a day"
    return told if one.possible else f"{told}: more than this machine can make"


def under_table(view: CostView) -> str:
    """What the table does not say of itself."""
    used, told = view.report.total.used, []
    if used.cached:
        saved = used.cached_prompt_tokens + used.cached_output_tokens
        told.append(
            f"{vm.count(used.cached, 'answer')} more, of {tokens(saved)} tokens, came out of the cache for nothing."
        )
    told.append(
        "Standing is what is paid whether anything is asked or not, the machine's price by the day and what it draws "
        "at rest; it is divided by the time that each took."
    )
    return " ".join(told)


def under_cloud(view: CostView) -> str:
    assumed, told = view.assumed, view.report
    most = f" This machine makes at most {about(told.most_a_day)} a day, at the pace so far." if told.most_a_day else ""
    rate = "" if assumed.currency == "USD" else f", a US dollar at {price(assumed.dollar, assumed.currency)}"
    if rate and "dollar" not in assumed.stated:
        rate += ", which nobody has stated: do that beside the prices"
    return (
        f"List prices of {assumed.prices_on}{rate}. "
        f"The same tokens: those of this time, from the cache too, at that price.{most}"
    )


@dataclass(frozen=True, slots=True)
class Assumed:
    """One line of what money is worked out from. `said`: "stated", "to begin with" or "unknown"."""

    name: str
    value: str
    said: str
    note: str


def assumed_rows(view: CostView) -> Iterator[Assumed]:
    told = view.assumed
    currency = told.currency

    def line(key: str, name: str, value: str, note: str) -> Assumed:
        said = "stated" if key in told.stated else "unknown" if value == vm.UNKNOWN else "to begin with"
        return Assumed(name, value, said, note)

    yield line("kwh", "Electricity", f"{price(told.kwh, currency)} a kWh", "What you pay for a kilowatt-hour.")
    for machine in view.machines:
        watts = told.watts.get(machine)
        where = "This machine" if machine == HERE else f"The host {machine}"
        yield line(
            "watts" if watts is not None else "", f"{where} while it answers", _stated(watts, "W"),
            _measured_here(view) if machine == HERE else "A host elsewhere is never measured.",
        )  # fmt: skip
    standing = view.report.standing
    if standing.rest_basis is Basis.MEASURED:
        yield Assumed("At rest", power(standing.rest_watts), "measured", "The mean of the time without an answer.")
    else:
        yield line("rest", "At rest", _stated(told.rest, "W"), "What the machine draws while nothing is asked.")
    beside = _stated(told.beside, "W")
    yield line("beside", "Beside the counters", beside, "Board, disks, fans, the power supply's loss.")
    yield line("machine", "The machine's price", price(told.machine, currency), "What it cost, or would cost again.")
    years = _stated(told.years, "year" if told.years == 1 else "years")
    yield line("years", "Written off over", years, "Its price is spread over the days of this time.")
    yield line(
        "share", "For models", vm.percent(told.share), "The part of its price and its rest that models answer for."
    )
    yield line("dollar", "One US dollar", price(told.dollar, currency), "For the cloud's prices.")


def _measured_here(view: CostView) -> str:
    if view.counters:
        return f"Measured by {', '.join(view.counters)}; used for the time in which they told nothing."
    return f"Not measured: {view.why}."


def power(watts: float | None) -> str:
    return vm.UNKNOWN if watts is None else f"{plain_number(watts)} W"


def _stated(value: float | None, unit: str) -> str:
    """As somebody said it: 12 W, 4.5 years."""
    return vm.UNKNOWN if value is None else f"{value:g} {unit}"


def differing(before: Assumptions, wanted: dict[str, Json]) -> dict[str, Json]:
    """Of a form's fields those that somebody changed; an emptied one takes its statement back."""
    now = before.told()
    return {name: value for name, value in wanted.items() if value != now.get(name)}


def prices_of(text: str) -> list[Json]:
    """A price a line, as `prices_text` writes them. Raises ValueError with the line that is none."""
    rows: list[Json] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, figures_ = line.rpartition(":")
        parts = figures_.replace(",", ".").split()
        try:
            read, written = map(float, parts)
        except ValueError:
            raise ValueError(f'"{line}" is no price; write it as NAME: 0.15 0.60') from None
        rows.append({"name": name.strip(), "read": read, "written": written})
    return rows


def prices_text(prices: Sequence[CloudPrice]) -> str:
    return "\n".join(f"{price.name}: {price.read:g} {price.written:g}" for price in prices)
