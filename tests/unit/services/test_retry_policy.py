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
from app.services.retry_policy import Breaker, RetryBudget, counts_against, may_go_back, may_go_elsewhere
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


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.failed(REFUSED)


def test_five_failures_in_a_row_open_the_breaker_and_a_success_between_does_not():
    breaker = Breaker(FakeClock())
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"


def test_the_rest_doubles_to_a_minute_and_one_request_probes():
    clock = FakeClock()
    breaker = Breaker(clock)
    fail(breaker, 5)
    for rest in (5, 10, 20, 40, 60, 60):
        clock.advance(rest - 0.1)
        assert breaker.state == "open"
        clock.advance(0.1)
        assert breaker.state == "half-open"
        breaker.begin()
        assert breaker.state == "open", "a second request must not probe too"
        breaker.failed(REFUSED)
    clock.advance(60)
    breaker.begin()
    breaker.succeeded()
    assert breaker.state == "closed"


def test_a_probe_whose_caller_left_lets_another_probe():
    clock = FakeClock()
    breaker = Breaker(clock)
    fail(breaker, 5)
    clock.advance(5)
    breaker.begin()
    breaker.abandoned()
    assert breaker.state == "half-open"


def test_busy_answers_and_mistakes_of_the_caller_never_open_the_breaker():
    breaker = Breaker(FakeClock())
    for _ in range(20):
        breaker.begin()
        breaker.failed(HostRefused("h", 503, "busy"))
        breaker.failed(HostRefused("h", 400, "your mistake"))
    assert breaker.state == "closed"
