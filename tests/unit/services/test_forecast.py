"""The schedule played ahead: in which order, at which moments, and with whom who is not there yet."""

from __future__ import annotations

import pytest

from app.services.queueing.forecast import PATHS, play, wander
from app.services.queueing.pace import DRAWS, Pace
from app.services.queueing.residency import Place
from app.services.queueing.schedule import Schedule
from tests.queue_tickets import Tickets, schedule_of, used

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
async def schedule(tickets) -> Schedule:
    """One slot, `m:1` loaded; ten tokens take a second, a load two."""
    pace = Pace()
    for model in ("m:1", "m:2"):
        pace.learn(tickets("teacher", model, host="one", cold=True), 3.0, used(10, load=2.0, decode=1.0))
    return schedule_of(pace, Place("one", 1, resident=["m:1"]))


async def test_whoever_waits_is_foretold_when_those_before_it_have_ended(schedule, tickets):
    running = tickets("x", host="one", began=0.0)
    waiting = [tickets(flow, entered=0.1 * number) for number, flow in enumerate("abc")]
    for ticket in waiting:
        schedule.add(ticket)
    played = play(schedule, [running], 0.5)
    assert [ticket for ticket, _, _ in played] == waiting
    assert [moments[0] for _, moments, _ in played] == pytest.approx([0.5, 1.5, 2.5])


async def test_a_load_is_counted_and_the_loaded_model_goes_first(schedule, tickets):
    cold, warm = tickets("a", "m:2"), tickets("b", "m:1", entered=0.1)
    later = tickets("c", "m:2", entered=0.2)
    for ticket in (cold, warm, later):
        schedule.add(ticket)
    played = play(schedule, [], 1.0)
    assert [(ticket, loaded) for ticket, _, loaded in played] == [(warm, True), (cold, False), (later, True)]
    assert played[2][1][0] == pytest.approx(1.0 + 2.0 + 1.0)


async def test_what_runs_takes_less_the_further_it_is(schedule, tickets):
    schedule.add(tickets("a"))
    at = [play(schedule, [tickets("x", host="one", began=0.0, tokens=tokens)], 0.2)[0][1][0] for tokens in (2, 8)]
    assert at == pytest.approx([0.8, 0.2])


async def test_what_runs_longer_than_any_before_is_not_foretold_beyond_its_limit(schedule, tickets):
    schedule.add(tickets("a"))
    running = tickets("x", host="one", began=0.0, tokens=40, most_tokens=42)
    assert max(play(schedule, [running], 4.0)[0][1]) <= 0.2 + 1e-9


async def test_playing_ahead_changes_nothing(schedule, tickets):
    waiting = [tickets(flow, "m:2") for flow in "abc"]
    for ticket in waiting:
        schedule.add(ticket)
    before = play(schedule, [], 0.0)
    wander(schedule, [], 0.0, before)
    assert play(schedule, [], 0.0) == before
    assert set(schedule.lines) == set(waiting)
    assert not schedule.holding
    assert schedule.residency.places["one"].resident == ["m:1"]


async def test_where_no_host_can_serve_it_nothing_is_foretold(tickets):
    schedule = schedule_of(Pace(), Place("one", 1, models=frozenset({"m:1"})))
    schedule.add(tickets("a", "m:9"))
    assert [moments for _, moments, _ in play(schedule, [], 0.0)] == [()]


async def test_those_that_will_come_back_and_go_first_are_reckoned_with(schedule, tickets):
    """A flow that asks again a tenth of a second after each answer, for the loaded model, delays who needs a load."""
    for number in range(4):
        again = tickets("chatty", "m:1", entered=1.1 * number)
        schedule.returns.came(again)
        schedule.returns.answered(again.lane, again.entered + 1.0)
    now = 4.31
    schedule.add(tickets("patient", "m:1", entered=4.2))
    schedule.add(tickets("last", "m:2", entered=4.3))
    played = play(schedule, [], now)
    wandered = wander(schedule, [], now, played)
    assert played[1][1][0] == pytest.approx(1.0)
    assert len(wandered[1][1]) == PATHS
    assert min(wandered[1][1]) >= 1.9, "the chatty flow's next request goes before it"


async def test_when_many_wait_one_play_has_to_do(schedule, tickets):
    for number in range(64):
        schedule.add(tickets(f"flow {number}"))
    played = play(schedule, [], 0.0)
    assert wander(schedule, [], 0.0, played) is played
    assert all(len(moments) == DRAWS for _, moments, _ in played)


async def test_two_slots_halve_the_wait(tickets):
    pace = Pace()
    pace.learn(tickets(host="one"), 1.0, used(10, decode=1.0))
    schedule = schedule_of(pace, Place("one", 2, resident=["m:1"]))
    for number in range(4):
        schedule.add(tickets(f"flow {number}"))
    played = wander(schedule, [], 0.0, play(schedule, [], 0.0))
    assert [round(moments[0], 3) for _, moments, _ in played] == [0.0, 0.0, 1.0, 1.0]
