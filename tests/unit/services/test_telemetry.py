"""Traces, the ring of finished requests, and the metrics."""

from __future__ import annotations

import pytest

from app.core.generation import Usage
from app.services.queueing.views import Eta
from app.services.telemetry import CacheDecision, Phase, Telemetry
from tests.fakes import FakeClock, chunk

USAGE = Usage(
    total_ns=4_000_000_000,
    load_ns=1_000_000_000,
    prompt_tokens=10,
    prefill_ns=500_000_000,
    output_tokens=20,
    decode_ns=2_000_000_000,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def telemetry(clock) -> Telemetry:
    return Telemetry(clock)


def test_a_span_is_recorded_also_when_its_layer_fails(telemetry, clock):
    trace = telemetry.trace()
    clock.advance(1)
    with pytest.raises(ValueError, match="no"), trace.span("queue", model="m") as found:
        clock.advance(2)
        found["position"] = 3
        raise ValueError("no")
    [span] = trace.spans
    assert (span.name, span.start, span.end, span.seconds) == ("queue", 1, 3, 2)
    assert span.attributes == {"model": "m", "position": 3}


def test_the_hosts_durations_are_laid_on_our_time_line(telemetry, clock):
    trace = telemetry.trace()
    clock.advance(2)
    began = trace.elapsed
    clock.advance(1.8)
    first = trace.elapsed
    clock.advance(2.1)
    trace.add_host_spans(USAGE, began, first)
    spans = {span.name: (span.start, span.end) for span in trace.spans}
    assert spans["load"] == pytest.approx((2, 3))
    assert spans["prefill"] == pytest.approx((3.3, 3.8))
    assert spans["first token"] == pytest.approx((2, 3.8))
    assert spans["decode"] == pytest.approx((3.8, 5.8))


def test_spans_never_overlap_backwards_when_a_host_counts_strangely(telemetry, clock):
    trace = telemetry.trace()
    clock.advance(0.1)
    now = trace.elapsed
    trace.add_host_spans(USAGE, 0.0, now)
    assert all(0 <= span.start <= span.end <= now for span in trace.spans)


def test_shared_work_is_shown_from_the_moment_one_joined(telemetry, clock):
    work = telemetry.trace()
    with work.span("queue"):
        clock.advance(5)
    late = telemetry.trace()
    late.share(work)
    work.enter("decode")
    with work.span("host"):
        clock.advance(3)
    assert late.phase.name == "decode"
    assert [(span.name, span.start, span.end) for span in late.spans] == [("host", 0, 3)]
    telemetry.finish(late)
    assert late.phase.name == "done"


def test_a_phase_may_be_asked_anew_each_time(telemetry):
    trace, positions = telemetry.trace(), [3, 2, 1]
    trace.enter(lambda: Phase("queued", positions.pop(0), Eta(1.0, 0.5, 1.5)))
    assert [trace.phase.position for _ in range(3)] == [3, 2, 1]


def finish(telemetry: Telemetry, clock: FakeClock, *, outcome: str = "bypass", status: str = "ok") -> None:
    trace = telemetry.trace(flow="f")
    trace.endpoint, trace.model = "chat", "m"
    trace.cache = CacheDecision(outcome)
    telemetry.begin(trace)
    assert telemetry.running() == (trace,)
    clock.advance(0.3)
    trace.saw_text(chunk("Par"))
    trace.usage = USAGE
    clock.advance(0.7)
    trace.saw_text(chunk("is"))
    record = telemetry.finish(trace, status=status)
    assert (record.ttft, record.seconds) == (pytest.approx(0.3), pytest.approx(1.0))
    assert telemetry.find(record.id) is record


def test_a_snapshot_begins_with_the_newest_and_the_counters_keep_all(telemetry, clock):
    for status in ("ok", "cancelled", "host_timeout", "ok"):
        finish(telemetry, clock, status=status)
    snapshot = telemetry.snapshot()
    assert [record.status for record in snapshot.recent] == ["ok", "host_timeout", "cancelled", "ok"]
    assert (snapshot.finished, snapshot.failed, snapshot.cancelled, snapshot.running) == (4, 1, 1, 0)


def test_cached_joined_and_failed_answers_never_enter_speed_figures(telemetry, clock):
    for outcome, status in (("hit", "ok"), ("joined", "ok"), ("miss", "host_timeout"), ("miss", "ok")):
        finish(telemetry, clock, outcome=outcome, status=status)
    text = telemetry.render_metrics().decode()
    assert 'loupe_requests_total{cache="hit",endpoint="chat",status="ok"} 1.0' in text
    assert 'loupe_time_to_first_token_seconds_count{endpoint="chat"} 1.0' in text
    assert 'loupe_tokens_total{kind="output"} 20.0' in text


def test_gauges_are_read_when_the_metrics_are(telemetry):
    depth = [0.0]
    telemetry.metrics.gauge("queue_waiting", "Waiting requests.", lambda: depth[0])
    assert b"loupe_queue_waiting 0.0" in telemetry.render_metrics()
    depth[0] = 7
    assert b"loupe_queue_waiting 7.0" in telemetry.render_metrics()


def test_what_clients_send_makes_no_new_series(telemetry, clock):
    finish(telemetry, clock)
    before = telemetry.render_metrics().count(b"\n")
    for number in range(20):
        trace = telemetry.trace(principal=f"p{number}", flow=f"f{number}")
        trace.endpoint, trace.model = "chat", f"model-{number}"
        telemetry.begin(trace)
        telemetry.finish(trace)
    assert telemetry.render_metrics().count(b"\n") == before
