"""The ring of the last requests, its bound in bytes, what can be asked of it, and the tree of one request's spans."""

from __future__ import annotations

import sys
from itertools import count
from typing import Any

import pytest

from app.core.generation import Span, Usage
from app.core.trace_context import TraceContext, read_context, span_id
from app.services.request_log import RequestFilter, RequestLog, size_of
from app.services.request_trace import PACE_POINTS, CacheDecision, FinishedRequest, Trace
from app.services.span_tree import SpanNode, tree_of
from tests.fakes import FakeClock, chat, chunk

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_numbers = count(1)


def record(**fields: Any) -> FinishedRequest:
    number = next(_numbers)
    usual = FinishedRequest(
        f"{number:016x}", "local", "local@127.0.0.1", "llama3.2:1b", "d" * 64, "one", "chat", "ok", "",
        CacheDecision("bypass", "not deterministic"), 1000.0 + number, 1.0, 0.2, Usage(output_tokens=5), (),
    )  # fmt: skip
    return usual._replace(**fields)


def test_the_oldest_go_where_the_room_ends():
    log = RequestLog(10 * size_of(record()))
    kept = [record() for _ in range(50)]
    for one in kept:
        log.add(one)
    assert log.recent(100) == tuple(reversed(kept[-log.size.requests :]))
    assert 8 <= log.size.requests <= 10
    assert log.size.bytes <= log.size.limit


def test_a_request_larger_than_the_room_still_stays_alone():
    log = RequestLog(1)
    log.add(record())
    log.add(large := record(answer="x" * 10_000))
    assert log.recent(9) == (large,)


def deep_size(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return sys.getsizeof(value) + sum(map(deep_size, inside))


def test_what_a_request_is_taken_to_need_is_about_what_it_needs():
    spans = tuple(Span("decode", 0.1 * n, 0.1 * n + 0.05, {"seconds": 0.05 * n, "tokens": n}) for n in range(9))
    pace = tuple((0.1 * n, n) for n in range(PACE_POINTS))
    full = record(spans=spans, pace=pace, options={"temperature": 0.5, "top_k": 40}, answer="é" * 4000)
    for one in (record(), full):
        assert 0.5 < size_of(one) / deep_size(one) < 2


def test_a_client_finds_the_newest_request_of_a_name_and_nobody_elses():
    log = RequestLog()
    mine, theirs, newer = (record(client_id="job-7", principal=who) for who in ("a", "b", "a"))
    for one in (mine, newer, theirs):
        log.add(one)
    assert log.find("job-7") is theirs
    assert log.find("job-7", "a") is newer
    assert log.find(mine.id, "a") is mine
    assert log.find(theirs.id, "a") is None
    assert log.find("job-8") is None


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, "fedcba"), ({"limit": 2}, "fe"), ({"model": "qwen3"}, "f"), ({"model": "qwen3:4b"}, "f"),
        ({"model": "qwen"}, ""), ({"principal": "x"}, "b"), ({"status": "failed"}, "c"), ({"status": "ok"}, "fdba"),
        ({"status": "host_timeout"}, "c"), ({"status": "cancelled"}, "e"), ({"cache": "hit"}, "d"),
        ({"host": "two"}, "e"), ({"slow_first": True, "limit": 2}, "fa"), ({"text": "PARIS"}, "b"),
        ({"text": "seine"}, "b"), ({"text": "rome"}, ""), ({"since": 9000.0}, "f"),
    ],
)  # fmt: skip
def test_requests_are_found_by_what_they_were(asked, wanted):
    log = RequestLog()
    rows = [
        record(id="a", seconds=50.0),
        record(id="b", principal="x", question="What of Paris?", answer="On the Seine."),
        record(id="c", status="host_timeout", seconds=9.0),
        record(id="d", cache=CacheDecision("hit", "", 3.0)),
        record(id="e", status="cancelled", host="two"),
        record(id="f", model="qwen3:4b", started_at=8000.0, seconds=1000.0),
    ]
    for one in rows:
        log.add(one)
    assert "".join(found.id for found in log.select(RequestFilter(**asked))) == wanted


def names(node: SpanNode) -> Any:
    return (node.name, *map(names, node.children)) if node.children else node.name


def test_the_tree_shows_what_happened_inside_what():
    spans = (
        Span("cache", 0.0, 0.1), Span("key", 0.0, 0.05), Span("queue", 0.1, 1.0),
        Span("host", 1.0, 1.5, {"host": "one", "attempt": 1}), Span("host", 1.5, 4.0, {"host": "two", "attempt": 2}),
        Span("load", 1.5, 2.0), Span("prefill", 2.0, 2.5), Span("decode", 2.5, 4.0), Span("write", 2.5, 4.1),
    )  # fmt: skip
    tree = tree_of(record(spans=spans, seconds=4.25))
    told = ("request", ("cache", "key"), "queue", "host", ("host", "load", "prefill", "decode"), "write")
    assert names(tree) == told
    assert (tree.start_ns, tree.duration_ns) == (0, 4_250_000_000)
    assert (tree.children[1].start_ns, tree.children[1].duration_ns) == (100_000_000, 900_000_000)
    assert tree.children[3].attributes == {"host": "two", "attempt": 2}


def test_the_pace_of_a_long_answer_stays_coarse_and_ends_with_its_last_piece():
    clock = FakeClock()
    trace = Trace(clock)
    for _ in range(1000):
        clock.advance(0.01)
        trace.saw_text(chunk("a"))
    told = trace.finished("ok", "")
    assert len(told.pace) <= PACE_POINTS
    assert told.pace[0] == (pytest.approx(0.01), 1)
    assert told.pace[-1] == (pytest.approx(10.0), 1000)
    assert all(at == pytest.approx(pieces * 0.01) for at, pieces in told.pace)
    assert (told.answer, told.question) == ("", "")


def test_only_options_that_are_numbers_are_kept_and_words_where_they_are_wanted():
    options = {"temperature": 0.5, "stop": ["secret"], "seed": 10**400, "my secret": 7, "use_mmap": True}
    for words in (False, True):
        trace = Trace(FakeClock())
        trace.describe(chat("Who am I?", options=dict(options)), words=words)
        trace.saw_text(chunk("x" * 5000))
        told = trace.finished("ok", "")
        assert dict(told.options) == {"temperature": 0.5, "use_mmap": True}
        assert (told.question, len(told.answer)) == (("Who am I?", 4000) if words else ("", 0))


def head(*values: str, state: tuple[str, ...] = ()) -> list[tuple[bytes, bytes]]:
    return [(b"traceparent", one.encode()) for one in values] + [(b"tracestate", one.encode()) for one in state]


@pytest.mark.parametrize(
    ("value", "sampled"),
    [(f"00-{TRACE}-{PARENT}-01", True), (f"00-{TRACE}-{PARENT}-00", False), (f"cc-{TRACE}-{PARENT}-03-more", True)],
)
def test_a_trace_context_is_taken(value, sampled):
    assert read_context(head(value, state=("a=1", "b=2"))) == TraceContext(TRACE, PARENT, sampled, "a=1,b=2")


@pytest.mark.parametrize(
    "values",
    [
        [], [""], ["00"], [f"00-{TRACE}-{PARENT}"], [f"00-{TRACE.upper()}-{PARENT}-01"], [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"], [f"00-{TRACE}-{'0' * 16}-01"], [f"00-{TRACE}-{PARENT}-01-more"],
        [f"00-{TRACE}-{PARENT}-1"], [f"00-{TRACE}-{PARENT}-0g"], [f"00-{TRACE}-{PARENT}-01\n"[:-1] + "\r\nX: y"],
        [f"00-{TRACE}-{PARENT}-01"] * 2, ["00-é"],
    ],
)  # fmt: skip
def test_a_malformed_trace_context_is_as_good_as_none(values):
    assert read_context(head(*values)) is None


def test_a_trace_state_that_is_too_long_is_left_out_whole():
    told = read_context(head(f"00-{TRACE}-{PARENT}-01", state=("a=" + "x" * 600,)))
    assert told == TraceContext(TRACE, PARENT)


def test_a_hosts_parent_is_its_attempts_span():
    trace = Trace(FakeClock(), own_id=PARENT)
    assert trace.passed_on(1) == ()
    trace.context = TraceContext(TRACE, "1" * 16, sampled=False, state="a=1")
    assert trace.passed_on(2) == (("traceparent", f"00-{TRACE}-{span_id(PARENT, 2)}-00"), ("tracestate", "a=1"))
    assert len({span_id(PARENT, number) for number in range(1, 1000)} | {PARENT}) == 1000
