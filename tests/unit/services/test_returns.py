"""What is learned of when flows ask again."""

from __future__ import annotations

from random import Random

import pytest

from app.core.generation import Priority
from app.services.queueing.returns import FLOWS_KEPT, GONE, Returns
from tests.queue_tickets import Tickets

pytestmark = pytest.mark.anyio
LANE = (Priority.INTERACTIVE, "a")


@pytest.fixture
async def tickets() -> Tickets:
    return Tickets()


def asked_again(returns: Returns, tickets: Tickets, *pauses: float, flow: str = "a", model: str = "m:1") -> float:
    """A flow that is answered in a second each time and then pauses so; the moment of its last answer."""
    now = 0.0
    for pause in (*pauses, 0.0):
        ticket = tickets(flow, model, entered=now)
        returns.came(ticket)
        now += 1.0
        returns.answered(ticket.lane, now)
        now += pause
    return now


async def test_a_flow_comes_back_after_a_pause_that_it_has_made_before(tickets):
    returns = Returns()
    last = asked_again(returns, tickets, 2.0, 2.0, 2.0)
    assert list(returns.away(last + 0.5, Random(1))) == [(last + 2.0, LANE)]
    assert returns.after(LANE, 100.0, Random(1)) == pytest.approx(102.0)


async def test_the_longer_it_has_been_away_the_longer_the_pauses_that_are_left(tickets):
    returns = Returns()
    last = asked_again(returns, tickets, 1.0, 1.0, 1.0, 8.0)
    assert [at for at, _ in returns.away(last + 3.0, Random(1))] == [pytest.approx(last + 8.0)]


async def test_who_stays_away_longer_than_ever_is_not_expected(tickets):
    returns = Returns()
    last = asked_again(returns, tickets, 1.0, 2.0)
    assert list(returns.away(last + 2.5, Random(1))) == []


async def test_a_flow_that_asked_once_is_not_expected(tickets):
    returns = Returns()
    last = asked_again(returns, tickets)
    assert list(returns.away(last, Random(1))) == []
    assert returns.after(LANE, last, Random(1)) is None


async def test_a_pause_of_many_minutes_is_no_habit(tickets):
    returns = Returns()
    asked_again(returns, tickets, GONE + 1)
    assert returns.after(LANE, 0.0, Random(1)) is None


async def test_what_it_is_expected_to_ask_is_what_it_has_asked(tickets):
    returns = Returns()
    asked_again(returns, tickets, 1.0, model="m:7")
    expected = returns.request(LANE, 5.0, 99, Random(1))
    assert (expected.model, expected.flow, expected.entered, expected.serial) == ("m:7", "a", 5.0, 99)
    assert (expected.prompt_tokens, expected.priority, expected.ask.generates) == (10, Priority.INTERACTIVE, True)


async def test_flows_that_asked_long_ago_are_forgotten(tickets):
    returns = Returns()
    asked_again(returns, tickets, 1.0)
    for number in range(FLOWS_KEPT):
        returns.came(tickets(f"flow {number}"))
    assert returns.after(LANE, 0.0, Random(1)) is None
    returns.answered(LANE, 1.0)  # says nothing
