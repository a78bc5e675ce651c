"""Which errors may be tried again, how often, and when a host rests."""

from __future__ import annotations

import pytest

from app.core.errors import (
    BadRequest,
    Cancelled,
    GenerationFailed,
    HostProtocolError,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    ModelNotFound,
)
from app.services.retry_policy import RetryBudget, costs_nothing, counts_against, may_go_back, may_go_elsewhere
from tests.fakes import FakeClock

REFUSED = HostUnreachable("h", "refused")
CASES = [  # error, elsewhere, back, against the host
    (REFUSED, True, False, True),
    (HostProtocolError("h", "cut"), True, True, True),
    (HostTimeout("h", "connect", 5), True, False, True),
    (HostTimeout("h", "first token", 600), False, False, True),
    (HostTimeout("h", "stall", 120), False, False, True),
    (HostRefused("h", 503, "busy"), True, False, False),
    (HostRefused("h", 429, "busy"), False, False, False),
    (HostRefused("h", 502, "bad gateway"), True, False, True),
    (HostRefused("h", 400, "your mistake"), False, False, False),
    (HostRefused("h", 401, "no key"), False, False, False),
    (HostRefused("h", 500, "it crashed"), False, False, False),
    (GenerationFailed("h", "no memory"), False, False, False),
    (ModelNotFound("m"), False, False, False),
    (BadRequest("m"), False, False, False),
    (Cancelled(), False, False, False),
]


@pytest.mark.parametrize(("error", "elsewhere", "back", "against"), CASES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_rule(error, elsewhere, back, against):
    assert may_go_elsewhere(error) is elsewhere
    assert may_go_back(error) is back
    assert counts_against(error) is against


def test_a_host_that_was_not_reached_costs_no_retry_of_the_budget_and_one_that_may_be_at_it_does():
    assert costs_nothing(HostUnreachable("one", "connection refused"))
    assert not costs_nothing(HostUnreachable("one", "it stopped answering its health checks", sent=True))
    assert not costs_nothing(HostProtocolError("one", "reset"))


def test_retries_are_a_fifth_of_the_requests_and_one_in_ten_seconds():
    clock = FakeClock()
    budget = RetryBudget(clock)
    granted = 0
    for _ in range(600):  # ten requests a second for a minute, all of them failing
        budget.count_request()
        granted += budget.spend()
        clock.advance(0.1)
    assert 100 <= granted <= 0.2 * 600 + 6 + 3


def test_a_quiet_service_saves_up_three_retries_and_gains_one_in_ten_seconds():
    clock = FakeClock()
    budget = RetryBudget(clock)
    budget.count_request()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    clock.advance(9.9)
    assert not budget.spend()
    clock.advance(0.1)
    assert budget.spend()
    assert not budget.spend()
    clock.advance(1000)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
