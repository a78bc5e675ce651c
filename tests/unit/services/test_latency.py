"""Percentiles, splits and histograms of finished requests, against figures worked out another way."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from app.core.generation import Span, Usage
from app.services.latency import FEWEST, bins, counted, histogram, latencies, percentile, quantile
from app.services.request_trace import CacheDecision, FinishedRequest


def request(ttft: float | None = 0.5, **changes: Any) -> FinishedRequest:
    """An answer of 11 tokens in a second after the first one."""
    made = FinishedRequest(
        id="r", principal="local", flow="local", model="m:q4", digest="", host="one", endpoint="chat", status="ok",
        error="", cache=CacheDecision("miss"), started_at=0.0, seconds=(ttft or 0.0) + 1.0, ttft=ttft,
        usage=Usage(output_tokens=11, decode_ns=1_000_000_000), spans=(),
    )  # fmt: skip
    return made._replace(**changes)


def test_a_quantile_is_the_one_that_numpy_takes() -> None:
    rng = random.Random(4)
    for n in (1, 2, 7, 100):
        values = sorted(rng.random() for _ in range(n))
        for share in (0.0, 0.5, 0.95, 0.99, 1.0):
            assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)))


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_range_of_a_percentile_holds_the_true_one_about_95_times_in_100(share: float) -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(400):
        found = percentile(sorted(rng.random() for _ in range(200)), share)
        assert found is not None and found.low is not None and found.low <= found.value
        held += found.low <= share <= (found.high if found.high is not None else 1.0)
    assert 0.92 <= held / 400 <= 0.995


def test_a_handful_of_requests_bounds_nothing() -> None:
    """The lowest of three lies above the true median in one of eight samples: no range can be told from so few."""
    for few in (1, 2, 3):
        found = percentile([1.0, 2.0, 3.0][:few], 0.5)
        assert found is not None and (found.low, found.high) == (None, None)
    found = percentile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.5)
    assert found is not None and found.low == 1.0 and found.high is None


def test_a_percentile_beyond_which_no_request_can_lie_is_not_told() -> None:
    for share, fewest in FEWEST.items():
        assert percentile([1.0] * (fewest - 1), share) is None
        assert percentile([1.0] * fewest, share) is not None


def test_only_what_a_host_was_asked_for_counts_and_the_rest_is_told() -> None:
    records = [
        request(0.2), request(0.4), request(0.4, host="two"), request(cache=CacheDecision("hit")),
        request(cache=CacheDecision("joined")), request(status="cancelled"), request(status="host_unreachable"),
        request(None, usage=Usage()),
    ]  # fmt: skip
    rows = latencies(records)
    assert [(row.host, row.n) for row in rows] == [("one", 2), ("two", 1)]
    assert rows[0].firsts == (0.2, 0.4) and rows[0].per_token == pytest.approx(0.1) and rows[0].decode == 11.0
    told = counted(records)
    assert (told.measured, told.cached, told.failed, told.cancelled, told.silent, told.all) == (3, 2, 1, 1, 1, 8)


def test_the_parts_of_the_time_to_the_first_token_add_up_to_it() -> None:
    spans = (
        Span("cache", 0.0, 0.01), Span("queue", 0.01, 0.2), Span("load", 0.2, 0.5), Span("prefill", 0.5, 0.9),
        Span("decode", 1.0, 2.0), Span("queue", 3.0, 4.0),
    )  # fmt: skip
    (row,) = latencies([request(1.0, spans=spans), request(0.5, spans=(Span("prefill", 0.3, 0.7),))])
    split = row.split
    assert (split.queue, split.load, split.prefill) == pytest.approx((0.095, 0.15, 0.3))
    assert split.whole == pytest.approx((1.0 + 0.5) / 2)


def test_every_request_lies_in_one_bin() -> None:
    rng = random.Random(11)
    values = sorted(10 ** rng.uniform(-3, 2) for _ in range(500))
    ends = bins(values[0], values[-1])
    assert sum(histogram(values, ends)) == 500
    for only in (1e-9, 0.001, 1.0, 10.0, 1000.0):
        assert sum(histogram([max(only, 1e-6)], bins(only, only))) == 1
