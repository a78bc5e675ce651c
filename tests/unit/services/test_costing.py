"""What answers cost: whose time a machine's seconds were, what is kept of it, and what it comes to in money."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import BadRequest, StoreError
from app.core.generation import Json, Usage
from app.core.hardware import Gpu, Gpus, HardwareState, Machine
from app.services.costing.assumptions import FILE, Assumptions, AssumptionsFile, changed
from app.services.costing.cloud_prices import SHIPPED, CloudPrice
from app.services.costing.ledger import KEPT_DAYS, Ledger
from app.services.costing.report import Basis, report
from app.services.costing.service import Costing
from app.services.costing.sharing import shares
from app.services.costing.values import DAY, HERE, Books, Rested, UsageKey, Used
from app.services.hardware import Hardware
from app.services.telemetry import CacheDecision, Route, Telemetry, Trace
from tests.fakes import FakeClock

TODAY = 20_000
NOW = TODAY * DAY + DAY / 2
KEY = UsageKey(TODAY, "m:q4", "local", "", HERE)


# Whose time it was


def test_what_runs_at_once_shares_the_time_equally():
    taken, idle = shares([(0.0, 4.0, "a"), (2.0, 6.0, "b"), (3.0, 4.0, "c")], 0.0, 10.0)
    assert taken == pytest.approx({"a": 2 + 0.5 + 1 / 3, "b": 0.5 + 1 / 3 + 2, "c": 1 / 3})
    assert idle == pytest.approx(4.0) and sum(taken.values()) + idle == pytest.approx(10.0)


def test_only_the_time_that_is_divided_counts():
    taken, idle = shares([(-5.0, 1.0, "a"), (9.0, 50.0, "a"), (20.0, 30.0, "b")], 0.0, 10.0)
    assert taken == pytest.approx({"a": 2.0}) and idle == pytest.approx(8.0)


def test_without_anybody_all_of_it_is_rest():
    assert shares([], 3.0, 5.0) == ({}, 2.0)


# What is counted


class Watched:
    """A cost service on a clock that is moved by hand; `look` is what the sampler does once a second."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.clock.epoch = NOW
        self.telemetry = Telemetry(self.clock)
        hardware = Hardware(Machine, Gpus, self.clock)
        self.cost = Costing(self.telemetry, hardware, folder, self.clock, lambda host: host == "built-in")
        self.looks = 0

    def look(self, watts: float | None = None, gpus: Gpus = Gpus()) -> None:  # noqa: B008  # frozen
        self.looks += 1
        self.cost._watch.look(HardwareState(self.looks, self.clock.epoch, Machine(power=watts), gpus))

    def begin(self, *, model: str = "m:q4", alias: str = "", host: str = "built-in", principal: str = "local") -> Trace:
        trace = self.telemetry.trace(principal=principal)
        trace.model, trace.host = model, host
        trace.route = Route(alias) if alias else None
        trace.add_span("queue", 0.0, 0.0)
        trace.enter("decode")
        self.telemetry.begin(trace)
        return trace

    def end(self, trace: Trace, read: int = 20, written: int = 10, status: str = "ok") -> None:
        elapsed = self.clock.monotonic() - trace.began
        trace.add_span("host", 0.0, elapsed, host=trace.host)
        trace.usage = Usage(int(elapsed * 1e9), 0, read, 0, written, 0) if status == "ok" else None
        self.telemetry.finish(trace, status=status)

    async def books(self) -> Books:
        return await self.cost._watch.books(0)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


pytestmark = pytest.mark.anyio


async def test_an_answer_gets_the_energy_of_its_time_and_the_rest_is_rest(watched: Watched) -> None:
    watched.look(10.0)
    watched.clock.advance(0.25)
    trace = watched.begin()
    watched.clock.advance(0.75)
    watched.look(40.0)  # three quarters of this second were the answer's
    watched.clock.advance(0.5)
    watched.end(trace)
    watched.clock.advance(0.5)
    watched.look(20.0)
    books = await watched.books()
    [(key, used)] = books.used.items()
    assert key == KEY and (used.requests, used.prompt_tokens, used.output_tokens) == (1, 20, 10)
    assert used.seconds == pytest.approx(1.25) == used.measured
    assert used.joules == pytest.approx(0.75 * 40 + 0.5 * 20)
    [rested] = books.rested.values()
    assert rested.seconds == pytest.approx(0.75) and rested.joules == pytest.approx(0.25 * 40 + 0.5 * 20)


async def test_without_a_counter_the_time_is_counted_and_the_energy_is_not(watched: Watched) -> None:
    watched.look()
    trace = watched.begin(alias="coder", principal="key:1")
    watched.clock.advance(2)
    watched.look()
    watched.end(trace)
    [(key, used)] = (await watched.books()).used.items()
    assert (key.principal, key.alias) == ("key:1", "coder")
    assert used.seconds == pytest.approx(2.0) and used.measured == used.joules == 0


async def test_a_host_elsewhere_has_time_of_its_own_and_none_of_this_machines_energy(watched: Watched) -> None:
    watched.look(10.0)
    away, here = watched.begin(host="bench"), watched.begin()
    watched.clock.advance(1)
    watched.look(50.0)
    watched.end(away)
    watched.end(here)
    used = {key.machine: one for key, one in (await watched.books()).used.items()}
    assert used["bench"].seconds == used[HERE].seconds == pytest.approx(1.0)
    assert used["bench"].joules == 0 and used[HERE].joules == pytest.approx(50.0)


async def test_a_cached_answer_costs_nothing_and_is_told(watched: Watched) -> None:
    watched.look(10.0)
    trace = watched.begin()
    trace.cache = CacheDecision("hit")
    watched.clock.advance(1)
    watched.look(10.0)
    watched.end(trace, read=7, written=9)
    [used] = (await watched.books()).used.values()
    assert used == Used(cached=1, cached_prompt_tokens=7, cached_output_tokens=9)


async def test_what_never_came_to_a_host_is_not_counted(watched: Watched) -> None:
    trace = watched.telemetry.trace()
    watched.telemetry.begin(trace)
    watched.telemetry.finish(trace, status="queue_full")
    assert (await watched.books()).used == {}


def gpu(energy: float | None, power: float | None = 100.0, uuid: str = "GPU-1") -> Gpus:
    return Gpus((Gpu(0, uuid=uuid, energy=energy, power=power),))


@pytest.mark.parametrize(
    ("before", "now", "joules"),
    [
        (gpu(500.0), gpu(530.0), 30.0),  # its counter
        (gpu(500.0), gpu(2.0), 200.0),  # the counter began anew: by its power, two seconds
        (gpu(None), gpu(None), 200.0),
        (gpu(500.0), gpu(530.0, uuid="GPU-2"), 200.0),  # another card
        (gpu(500.0), Gpus(why="the GPU driver has not answered for 6 s"), None),
    ],
)
async def test_a_gpu_is_measured_by_its_counter_else_by_its_power(
    before: Gpus, now: Gpus, joules: float | None, watched: Watched
) -> None:
    watched.look(gpus=before)
    trace = watched.begin()
    watched.clock.advance(2)
    watched.look(gpus=now)
    watched.end(trace)
    [used] = (await watched.books()).used.values()
    assert used.joules == pytest.approx(joules or 0.0) and used.measured == (0.0 if joules is None else 2.0)


async def test_a_bug_in_the_counting_costs_no_request_and_no_later_second(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watched.cost._watch
    watched.look()
    with monkeypatch.context() as broken:
        broken.setattr(watch, "_key", lambda *_: 1 / 0)
        trace = watched.begin()
        watched.clock.advance(1)
        watch._looked(HardwareState(9, NOW, Machine(), Gpus()))
        watched.end(trace)
    assert watched.telemetry.snapshot().finished == 1
    trace = watched.begin()
    watched.clock.advance(1)
    watched.look()
    watched.end(trace)
    assert (await watched.books()).sum().requests == 1


# What is kept


def test_figures_are_added_to_those_of_before_and_survive_a_new_start(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path)
        ledger.add({KEY: Used(1, 2, 3, 4.0, 5.0, 6.0)}, {TODAY: Rested(NOW, 7.0)}, TODAY)
        ledger.close()
    books = Ledger(tmp_path).read(0)
    assert books.used == {KEY: Used(2, 4, 6, 8.0, 10.0, 12.0)}
    assert books.rested[TODAY].seconds == 14.0 and books.began == NOW


def test_old_days_go_and_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add({KEY._replace(day=TODAY - KEPT_DAYS - 1): Used(1), KEY: Used(2)}, {}, TODAY)
    assert list(ledger.read(0).used) == [KEY]
    ledger.close()
    (tmp_path / "cost.db").write_bytes(b"\0" * 9000)
    assert Ledger(tmp_path).read(0).used == {}
    assert (tmp_path / "cost.db.damaged").read_bytes() == b"\0" * 9000


async def test_a_disk_that_cannot_be_written_loses_no_figure_and_says_what_to_do(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    watched.look()
    trace = watched.begin()
    watched.end(trace)
    add = watched.cost._watch._ledger.add
    monkeypatch.setattr(watched.cost._watch._ledger, "add", full)
    with pytest.raises(StoreError, match=r"disk is full.*try again"):
        await watched.cost.view()
    monkeypatch.setattr(watched.cost._watch._ledger, "add", add)
    assert (await watched.cost.view()).report.total.used.requests == 1


# What is assumed


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"kwh": -1}, "kwh is a number from 0"), ({"kwh": "cheap"}, "kwh is a number"), ({"kwh": True}, "kwh"),
        ({"years": 0}, "years is a number from 0.1"), ({"share": 2}, "share is a number from 0 to 1"),
        ({"currency": ""}, "currency is a word"), ({"watts": 65}, "powers by machine"),
        ({"watts": {"here": "much"}}, "watts.here is a number"), ({"prices": [{"name": "x"}]}, r"prices\[0\] is"),
        ({"prices": [{"name": "x", "read": 1, "written": -1}]}, r"prices\[0\].written is a number"),
        ({"prices": [{"name": "x", "read": 1, "written": 1}] * 2}, "two have the same name"),
        ({"prices_on": "soon"}, "prices_on is a day"), ({"price": 3}, "unknown: price; known are"),
    ],
)  # fmt: skip
def test_an_assumption_that_is_none_is_refused_with_what_is(body: Mapping[str, Json], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        changed(Assumptions(), body)


def test_what_is_stated_is_kept_and_can_be_taken_back(tmp_path: Path) -> None:
    file = AssumptionsFile(tmp_path)
    file.change({"kwh": 0.4, "machine": 2000, "watts": {"here": 65}})
    assert file.change({"machine": None}).stated == ("kwh", "watts")
    again = AssumptionsFile(tmp_path).now()
    assert (again.kwh, again.machine, again.watts) == (0.4, None, {"here": 65.0})
    assert again.prices == SHIPPED


def test_a_file_that_somebody_spoiled_costs_only_what_was_spoiled(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"kwh": 0.5, "years": "many", "colour": "blue"}')
    assert AssumptionsFile(tmp_path).now() == replace(Assumptions(), kwh=0.5, stated=("kwh",))


# What it comes to

FULL = Assumptions(
    kwh=0.36, machine=1461.0, years=4.0, watts={HERE: 60.0}, rest=10.0, prices=(CloudPrice("cloud", 1.0, 5.0),)
)  # 1461 in four years is 1.00 a day; 0.36 a kWh is 1e-7 a joule
DAYS_2 = {TODAY - 1: Rested((TODAY - 1) * DAY, DAY), TODAY: Rested(NOW, DAY / 2)}


def books(used: Used, rested: Mapping[int, Rested] = DAYS_2, **key: object) -> Books:
    return Books({KEY._replace(**key): used}, rested, (TODAY - 1) * DAY)  # type: ignore[arg-type]


def test_money_is_electricity_and_what_stands_whether_anything_is_asked_or_not() -> None:
    told = report(books(Used(10, 600_000, 400_000, 1000.0)), FULL, "variant", TODAY - 29, NOW)
    total = told.total
    assert told.days == pytest.approx(1.5)
    assert total.energy.joules == pytest.approx(60_000) and total.energy.basis is Basis.STATED
    assert total.joules_per_1000 == pytest.approx(150.0)
    assert total.electricity == pytest.approx(0.006)
    assert told.standing.machine == pytest.approx(1.0)
    assert told.standing.rest == pytest.approx(10 * DAY * 1e-7)
    assert total.standing == pytest.approx(1.5 * (1 + 0.0864))
    assert total.per_million == pytest.approx(total.money) == pytest.approx(0.006 + 1.5 * 1.0864)
    assert told.left_out == ()


def test_the_break_even_is_where_both_cost_the_same() -> None:
    told = report(books(Used(10, 600_000, 400_000, 1000.0)), FULL, "variant", TODAY - 29, NOW)
    [cloud] = told.beside
    assert cloud.money == pytest.approx(0.6 + 2.0)
    assert cloud.break_even is not None and told.standing.a_day is not None
    here = told.standing.a_day + cloud.break_even * 0.006 / 1e6
    assert here == pytest.approx(cloud.break_even * 2.6 / 1e6)
    assert told.most_a_day == pytest.approx(1000 * DAY) and cloud.possible


def test_a_break_even_that_the_machine_cannot_reach_says_so() -> None:
    slow = Used(10, 6, 4, 1000.0)  # 10 tokens in 1000 s
    [cloud] = report(books(slow), replace(FULL, watts={HERE: 1e-6}), "variant", 0, NOW).beside
    assert cloud.break_even is not None and not cloud.possible


@pytest.mark.parametrize(
    ("used", "changes", "why"),
    [
        (Used(), {}, "no token was made yet"),
        (Used(1, 1, 1, 1.0), {"watts": {}}, "the energy is unknown"),
        (Used(1, 1, 1, 1.0), {"machine": None}, "the price of the machine is not stated"),
        (Used(1, 1, 1, 3600.0), {}, "never: the electricity alone costs more"),
    ],
)
def test_without_a_break_even_there_is_a_reason(used: Used, changes: Mapping[str, object], why: str) -> None:
    [cloud] = report(books(used), replace(FULL, **changes), "variant", 0, NOW).beside  # type: ignore[arg-type]
    assert cloud.break_even is None and cloud.why == why


@pytest.mark.parametrize(
    ("used", "watts", "joules", "basis"),
    [
        (Used(1, 1, 1, 10.0, 200.0, 10.0), {}, 200.0, Basis.MEASURED),
        (Used(1, 1, 1, 10.0, 100.0, 5.0), {}, 200.0, Basis.IN_PART),
        (Used(1, 1, 1, 10.0, 100.0, 5.0), {HERE: 60.0}, 400.0, Basis.BOTH),
        (Used(1, 1, 1, 10.0), {HERE: 60.0}, 600.0, Basis.STATED),
        (Used(1, 1, 1, 10.0), {"bench": 60.0}, None, Basis.UNKNOWN),
    ],
)
def test_energy_says_whether_it_was_measured_or_stated(
    used: Used, watts: Mapping[str, float], joules: float | None, basis: Basis
) -> None:
    energy = report(books(used), Assumptions(watts=watts), "variant", 0, NOW).total.energy
    assert energy.joules == (None if joules is None else pytest.approx(joules)) and energy.basis is basis


def test_what_counters_leave_out_is_added_where_it_was_measured() -> None:
    told = report(books(Used(1, 1, 1, 10.0, 200.0, 10.0)), Assumptions(beside=15.0), "variant", 0, NOW)
    assert told.total.energy.joules == pytest.approx(350.0)


@pytest.mark.parametrize(
    ("by", "names"),
    [("variant", ["m:q8", "m:q4"]), ("user", ["key:1", "local"]), ("alias", ["", "coder"]),
     ("day", [TODAY, TODAY - 1]), ("machine", ["bench", HERE])],
)  # fmt: skip
def test_rows_of_every_kind_add_up_to_the_whole(by: str, names: list[str | int]) -> None:
    first = UsageKey(TODAY - 1, "m:q4", "local", "coder", HERE)
    second = UsageKey(TODAY, "m:q8", "key:1", "", "bench")
    both = Books({first: Used(1, 10, 20, 100.0), second: Used(2, 30, 40, 300.0)}, DAYS_2, (TODAY - 1) * DAY)
    told = report(both, replace(FULL, watts={HERE: 60.0, "bench": 200.0}), by, 0, NOW)
    assert [row.name for row in told.rows] == names
    assert sum(row.money or 0.0 for row in told.rows) == pytest.approx(told.total.money)
    assert sum(row.used.tokens for row in told.rows) == told.total.used.tokens == 100


def test_what_nobody_said_is_left_out_by_name() -> None:
    told = report(books(Used(1, 1, 1, 10.0)), Assumptions(), "variant", 0, NOW)
    assert told.total.money is None
    assert told.left_out == ("electricity", "the price of the machine", "what it draws at rest")
