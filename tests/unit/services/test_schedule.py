"""Who is next among flows that have had about as much."""

from __future__ import annotations

import pytest

from app.core.generation import Priority
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


async def test_who_has_waited_for_long_goes_before_those_who_came_later_and_have_had_less(schedule, tickets):
    schedule.due = {Priority.INTERACTIVE: 20.0}
    schedule.flows.charge(tickets("back").lane, 5_000)
    back = tickets("back", entered=1.0)
    schedule.add(back)
    for number in range(3):
        schedule.add(tickets(f"new {number}", entered=2.0 + number))
    assert served(schedule, 15.0, 5).flow == "new 0"
    assert served(schedule, 21.5, 5) is back
    assert served(schedule, 21.6, 5).flow == "new 1"


async def test_a_flow_that_is_given_something_meanwhile_is_not_late_for_having_sent_much_at_once(schedule, tickets):
    schedule.due = {Priority.INTERACTIVE: 20.0}
    for _ in range(3):
        schedule.add(tickets("many", entered=0.0))
    assert served(schedule, 1.0, 1_000).flow == "many"
    schedule.add(tickets("mouse", entered=30.0))
    assert served(schedule, 31.0, 5).flow == "mouse"


async def test_who_is_late_still_waits_for_its_model_as_the_rule_for_loading_says(schedule, tickets):
    schedule.due = {Priority.INTERACTIVE: 20.0}
    late, warm = tickets("late", "m:2", entered=0.0), tickets("warm", "m:1", entered=24.0)
    schedule.add(late)
    schedule.add(warm)
    assert served(schedule, 25.0, 5) is warm
    assert served(schedule, 26.0, 5) is late
