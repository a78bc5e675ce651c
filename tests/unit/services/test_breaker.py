"""When a host rests and when it is tried again: by cases, and by a state machine against a plain model of the rule."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.errors import HostProtocolError, HostRefused, HostTimeout, HostUnreachable
from app.services.breaker import SPREAD, Breaker, _spread
from tests.fakes import FakeClock

REFUSED = HostUnreachable("h", "refused")
INNOCENT = [HostRefused("h", status, "no") for status in (400, 401, 403, 404, 429, 500, 503)]
GUILTY = [REFUSED, HostProtocolError("h", "cut"), HostTimeout("h", "stall", 60), HostRefused("h", 502, "bad gateway")]


def breaker_of(clock: FakeClock) -> Breaker:
    return Breaker(clock, lambda: 1.0)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(REFUSED, breaker.begin())


def test_five_failures_in_a_row_open_it_and_successes_between_do_not():
    clock = FakeClock()
    breaker = breaker_of(clock)
    for _ in range(10):
        breaker.succeeded(breaker.begin())
    fail(breaker, 4)
    breaker.succeeded(breaker.begin())
    fail(breaker, 4)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"


def test_more_than_half_of_five_within_a_minute_open_it():
    clock = FakeClock()
    breaker = breaker_of(clock)
    for outcome in (False, True, False, True):
        number = breaker.begin()
        breaker.failed(REFUSED, number) if not outcome else breaker.succeeded(number)
    assert breaker.state == "closed", "four are too few to judge"
    fail(breaker, 1)
    assert breaker.state == "open"


def test_failures_older_than_a_minute_count_no_more():
    clock = FakeClock()
    breaker = breaker_of(clock)
    fail(breaker, 3)
    breaker.succeeded(breaker.begin())
    clock.advance(60.1)
    fail(breaker, 1)
    for _ in range(3):
        breaker.succeeded(breaker.begin())
    fail(breaker, 1)
    assert breaker.state == "closed"


def test_the_rest_doubles_to_a_minute_and_one_request_probes():
    clock = FakeClock()
    breaker = breaker_of(clock)
    fail(breaker, 5)
    for rest in (5, 10, 20, 40, 60, 60):
        clock.advance(rest - 0.1)
        assert breaker.state == "open"
        clock.advance(0.1)
        assert breaker.state == "half-open"
        number = breaker.begin()
        assert breaker.state == "open", "a second request must not probe too"
        breaker.failed(REFUSED, number)
    clock.advance(60)
    breaker.succeeded(breaker.begin())
    assert breaker.state == "closed"


def test_the_rest_is_a_quarter_shorter_or_longer_by_chance():
    drawn = [_spread() for _ in range(1000)]
    assert 1 - SPREAD <= min(drawn) < 0.8
    assert 1.2 < max(drawn) <= 1 + SPREAD


def test_a_probe_whose_caller_left_lets_another_probe():
    clock = FakeClock()
    breaker = breaker_of(clock)
    fail(breaker, 5)
    clock.advance(5)
    breaker.abandoned(breaker.begin())
    assert breaker.state == "half-open"


@pytest.mark.parametrize("error", INNOCENT, ids=lambda error: str(error.status))
def test_busy_answers_keys_and_mistakes_of_the_caller_never_open_it(error):
    breaker = breaker_of(FakeClock())
    for _ in range(20):
        breaker.failed(error, breaker.begin())
    assert breaker.state == "closed"


@pytest.mark.parametrize("error", GUILTY, ids=lambda error: error.code)
def test_each_failure_of_a_connection_counts(error):
    breaker = breaker_of(FakeClock())
    for _ in range(5):
        breaker.failed(error, breaker.begin())
    assert breaker.state == "open"


def test_requests_that_fail_together_open_it_once():
    clock = FakeClock()
    breaker = breaker_of(clock)
    numbers = [breaker.begin() for _ in range(20)]
    for number in numbers:
        breaker.failed(REFUSED, number)
    clock.advance(5)
    assert breaker.state == "half-open", "fifteen requests of before doubled the rest"


def test_an_old_success_does_not_close_it():
    clock = FakeClock()
    breaker = breaker_of(clock)
    old = breaker.begin()
    fail(breaker, 5)
    breaker.succeeded(old)
    assert breaker.state == "open"


class BreakerRules(RuleBasedStateMachine):
    """Any interleaving of requests, outcomes and time, against the rule written plainly."""

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.breaker = breaker_of(self.clock)
        self.out: dict[int, int] = {}  # number → how often it had opened when it was sent
        self.openings = 0
        self.row = 0
        self.history: list[tuple[float, bool]] = []
        self.rest, self.until = 0.0, 0.0
        self.open = False
        self.probe: int | None = None

    @rule()
    def send(self) -> None:
        may_probe = self.open and self.probe is None and self.clock.monotonic() >= self.until
        number = self.breaker.begin()
        assert number not in self.out
        self.out[number] = self.openings
        if may_probe:
            self.probe = number

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "guilty", "innocent", "left"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.out)))
        sent_at = self.out.pop(number)
        if outcome == "ok":
            self.breaker.succeeded(number)
            self._model_success(sent_at)
        elif outcome == "guilty":
            self.breaker.failed(data.draw(st.sampled_from(GUILTY)), number)
            self._model_failure(number)
        else:
            if outcome == "left":
                self.breaker.abandoned(number)
            else:
                self.breaker.failed(data.draw(st.sampled_from(INNOCENT)), number)
            if number == self.probe:
                self.probe = None

    @rule()
    def a_list_fails(self) -> None:
        self.breaker.failed(REFUSED)
        self._model_failure(0)

    @rule(seconds=st.sampled_from([0.5, 2.5, 5.0, 10.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def it_says_what_the_rule_says(self) -> None:
        now = self.clock.monotonic()
        resting = self.open and (now < self.until or self.probe is not None)
        assert self.breaker.state == ("open" if resting else "half-open" if self.open else "closed")
        assert self.probe is None or self.probe in self.out, "a probe that is over still keeps others out"
        assert self.rest <= 60

    def _model_success(self, sent_at: int) -> None:
        if not self.open:
            self.row = 0
            self.history.append((self.clock.monotonic(), False))
        elif sent_at == self.openings:
            self.open, self.probe, self.row, self.rest = False, None, 0, 0.0

    def _model_failure(self, number: int) -> None:
        now = self.clock.monotonic()
        if not self.open:
            self.row += 1
            self.history.append((now, True))
            minute = [failed for when, failed in self.history if when >= now - 60]
            if self.row >= 5 or (len(minute) >= 5 and sum(minute) > len(minute) / 2):
                self._model_open()
        elif number and number == self.probe:
            self._model_open()

    def _model_open(self) -> None:
        self.rest = min(max(2 * self.rest, 5.0), 60.0)
        self.open, self.until, self.probe, self.history = True, self.clock.monotonic() + self.rest, None, []
        self.openings += 1


BreakerRules.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestBreakerRules = BreakerRules.TestCase
