"""Who is next among flows that have had about as much."""

from __future__ import annotations

import pytest

from app.services.queueing.pace import Pace
from app.services.queueing.residency import Place
from app.services.queueing.schedule import Schedule, cost
from app.services.queueing.tickets import Ticket
from tests.queue_tickets import Tickets, schedule_of, used

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
async def schedule(tickets) -> Schedule:
    """A usual request reads 10 tokens and writes 100."""
    pace = Pace()
    pace.learn(tickets("teacher", host="one"), 1.0, used(100, prompt=10))
    return schedule_of(pace, Place("one", 1, free=1, resident=["m:1"]))


def served(schedule: Schedule, now: float, answer: int) -> Ticket:
    """The next one gets the slot, answers so long and gives it back."""
    ticket = next(ticket for ticket, _ in schedule.candidates(now))
    schedule.take(ticket, now)
    schedule.flows.charge(ticket.lane, cost(ticket.prompt_tokens, answer))
    schedule.give_back(ticket.lane)
    return ticket


async def test_a_flow_that_has_had_a_little_less_does_not_overtake(schedule, tickets):
    schedule.flows.charge(tickets("first").lane, cost(10, 99))
    first, second = tickets("first", entered=1.0), tickets("second", entered=2.0)
    schedule.add(first)
    schedule.add(second)
    assert served(schedule, 3.0, 10) is first


async def test_a_flow_that_has_had_more_than_a_usual_request_more_waits(schedule, tickets):
    schedule.flows.charge(tickets("first").lane, cost(10, 101))
    first, second = tickets("first", entered=1.0), tickets("second", entered=2.0)
    schedule.add(first)
    schedule.add(second)
    assert served(schedule, 3.0, 10) is second


async def test_a_flow_with_many_that_wait_is_behind_one_that_came_while_it_was_served(schedule, tickets):
    for number in range(5):
        schedule.add(tickets("many", entered=0.1 * number))
    assert served(schedule, 1.0, 5).flow == "many"
    schedule.add(tickets("mouse", entered=0.5))
    assert served(schedule, 2.0, 5).flow == "mouse"


async def test_a_flow_that_has_gone_leaves_nothing_behind(schedule, tickets):
    gone = tickets("gone")
    schedule.add(gone)
    served(schedule, 1.0, 5)
    assert not schedule.turns
    assert not schedule.holding
