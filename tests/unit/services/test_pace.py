"""What the queue learns of speeds and lengths."""

from __future__ import annotations

import pytest

from app.services.queueing.pace import DRAWS, ENOUGH, UNSEEN, Pace
from tests.queue_tickets import Tickets, used

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
def pace() -> Pace:
    return Pace()


async def test_nothing_is_known_before_the_first_request_has_ended(pace, tickets):
    assert not pace.known
    assert pace.service(tickets(), "one") is None
    assert pace.typical("one", "m:1") is None


async def test_service_is_load_and_reading_and_writing_as_measured(pace, tickets):
    pace.learn(tickets(host="one", cold=True), 4.6, used(20, prompt=10, load=2.0, prefill=0.5, decode=2.0))
    service = pace.service(tickets(prompt=20, host="one"), "one")
    assert service.load == pytest.approx(2.0)
    assert service.start == pytest.approx(0.1 + 20 * 0.05)
    assert service.per_token == pytest.approx(0.1)
    assert service.mean == pytest.approx(service.start + 2.0)


async def test_a_host_that_was_never_measured_is_thought_to_be_like_those_that_have_the_model(pace, tickets):
    pace.learn(tickets(model="m:1", host="one"), 1.0, used(10, decode=1.0))
    pace.learn(tickets(model="m:2", host="one"), 4.0, used(10, decode=4.0))
    assert pace.service(tickets(model="m:1"), "two").per_token == pytest.approx(0.1)
    assert pace.service(tickets(model="m:3"), "one").per_token == pytest.approx(0.25)


async def test_a_request_without_counts_takes_as_long_as_such_ones_took(pace, tickets):
    for took in (1.0, 3.0, 2.0):
        pace.learn(tickets(host="one"), took, None)
    assert pace.service(tickets(), "one").mean == pytest.approx(2.0)


async def test_answers_of_one_token_make_no_model_look_fast_and_are_foretold_as_what_they_take(pace, tickets):
    for _ in range(9):
        pace.learn(tickets(host="one"), 0.5, used(1, prompt=10, prefill=0.4, decode=0.00001))
    assert pace.decode("one", "m:1") is None
    assert pace.service(tickets(prompt=10, host="one"), "one").mean == pytest.approx(0.5, abs=0.01)
    pace.learn(tickets(host="one"), 2.4, used(20, prompt=10, prefill=0.4, decode=2.0))
    assert pace.decode("one", "m:1") == pytest.approx(10.0)


async def test_before_any_answer_lengths_are_a_guess_within_the_limit(pace, tickets):
    assert pace.lengths(tickets()) == [UNSEEN]
    assert pace.lengths(tickets(most_tokens=8)) == [8.0]
    assert pace.lengths(tickets(generates=False)) == [0.0]


async def test_a_flows_own_lengths_with_any_model_tell_more_than_those_of_others_with_the_same(pace, tickets):
    for _ in range(ENOUGH):
        pace.learn(tickets("short", "m:1", host="one"), 1.0, used(5))
        pace.learn(tickets("long", "m:2", host="one"), 9.0, used(500))
    assert set(pace.lengths(tickets("short", "m:2"))) == {5.0}
    assert set(pace.lengths(tickets("new", "m:2"))) == {500.0}


async def test_of_an_answer_that_was_cut_only_a_lower_bound_is_learned(pace, tickets):
    for answer in (10, 10, 200):
        pace.learn(tickets(host="one", most_tokens=300), 1.0, used(answer))
    pace.learn(tickets(host="one", most_tokens=20), 1.0, used(20))
    lengths = pace.lengths(tickets())
    assert len(lengths) == DRAWS
    assert set(lengths) == {10.0, 200.0}, "the weight of the cut one went to the longer one"
    assert sum(length == 200 for length in lengths) == pytest.approx(DRAWS / 2, abs=1)


async def test_no_length_is_beyond_the_limit_of_the_request(pace, tickets):
    for answer in (10, 50, 200, 400):
        pace.learn(tickets(host="one"), 1.0, used(answer))
    assert max(pace.lengths(tickets(most_tokens=60))) == 60


async def test_a_looked_up_model_is_no_load(pace, tickets):
    pace.learn(tickets(host="one"), 1.0, used(10, load=0.4))
    assert pace.load("one", "m:1") == 0
    pace.learn(tickets(host="one", cold=True), 1.0, used(10, load=0.4))
    assert pace.load("one", "m:1") == pytest.approx(0.4)


async def test_what_is_usual_follows_the_newest_requests(pace, tickets):
    pace.learn(tickets(host="one"), 1.0, used(100, prompt=50))
    assert pace.usual == (50, 100)
    for _ in range(60):
        pace.learn(tickets(host="one"), 1.0, used(10, prompt=5))
    assert pace.usual == pytest.approx((5, 10), rel=0.1)


async def test_characters_become_tokens_at_the_measured_rate(pace, tickets):
    assert pace.prompt_tokens(0) == 0
    before = pace.prompt_tokens(8000)
    pace.learn(tickets(host="one", prompt_chars=8020), 1.0, used(10, prompt=4030))
    assert pace.prompt_tokens(8000) == pytest.approx(4010, rel=0.01)
    assert before == 2020
