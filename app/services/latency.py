"""How long requests took, by variant and host: percentiles, a histogram of the time to the first token, and what that
time went to. Pure: made from the records of finished requests.

Only what a host was asked for counts (`FinishedRequest.measured`): an answer from the cache says nothing of its speed.
Percentiles are those of the sample (linear between its values), with the range that holds the true one in 95 of 100
samples: from the order statistics, so that no shape is assumed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.services.request_trace import FinishedRequest

PER_DECADE = 6  # bins of a histogram for each tenfold
FEWEST = {0.5: 1, 0.95: 20, 0.99: 100}  # requests from which a percentile says something: one of them lies beyond it
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Percentile:
    """Seconds (or what was given). `low` and `high` are None where the sample is too small to bound it there."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time to the first token went, mean seconds of a request; they add up to the mean of that time.
    `rest` is the way to the host and back, and what a host waits for by itself."""

    queue: float
    load: float
    prefill: float
    rest: float

    @property
    def whole(self) -> float:
        return self.queue + self.load + self.prefill + self.rest


@dataclass(frozen=True, slots=True)
class Latency:
    """One variant on one host. `firsts` are its times to the first token in seconds, ascending; `per_token` and `whole`
    the medians of the others; `decode` tokens/s, the median."""

    model: str
    host: str
    firsts: tuple[float, ...]
    split: Split
    per_token: float | None
    decode: float | None
    whole: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.firsts)


@dataclass(frozen=True, slots=True)
class Counted:
    """All requests of a choice, by what became of them."""

    measured: int = 0
    cached: int = 0
    failed: int = 0
    cancelled: int = 0
    silent: int = 0
    """Answered, but without a token (a load, an embedding)."""

    @property
    def all(self) -> int:
        return self.measured + self.cached + self.failed + self.cancelled + self.silent


def counted(records: Iterable[FinishedRequest]) -> Counted:
    found = dict.fromkeys(("measured", "cached", "failed", "cancelled", "silent"), 0)
    for record in records:
        found[_kind(record)] += 1
    return Counted(**found)


def latencies(records: Iterable[FinishedRequest]) -> tuple[Latency, ...]:
    """One for each variant and host that answered, the most asked first."""
    groups: dict[tuple[str, str], list[FinishedRequest]] = {}
    for record in records:
        if _kind(record) == "measured":
            groups.setdefault((record.model, record.host), []).append(record)
    rows = (_latency(model, host, members) for (model, host), members in groups.items())
    return tuple(sorted(rows, key=lambda row: (-row.n, row.model, row.host)))


def percentile(ascending: Sequence[float], share: float) -> Percentile | None:
    """None where the sample is too small for it to mean something (`FEWEST`)."""
    n = len(ascending)
    if n < FEWEST.get(share, 1):
        return None
    margin = _Z * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - margin), math.ceil(n * share + margin)
    return Percentile(
        quantile(ascending, share), ascending[low] if low >= 0 else None, ascending[high] if high < n else None
    )  # fmt: skip


def quantile(ascending: Sequence[float], share: float) -> float:
    """Of at least one value; linear between two."""
    at = share * (len(ascending) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (at - below) * (ascending[above] - ascending[below])


def bins(lowest: float, highest: float) -> tuple[float, ...]:
    """The ends of the bins of a histogram with a logarithmic axis that holds both; at least two bins."""
    first = math.floor(PER_DECADE * math.log10(max(lowest, 1e-6)))
    last = max(math.floor(PER_DECADE * math.log10(max(highest, 1e-6))) + 1, first + 2)
    return tuple(10 ** (step / PER_DECADE) for step in range(first, last + 1))


def histogram(ascending: Sequence[float], ends: Sequence[float]) -> tuple[int, ...]:
    """How many lie in each bin, its lower end included."""
    below = [bisect_right(ascending, math.nextafter(end, 0)) for end in ends]
    return tuple(b - a for a, b in pairwise(below))


def _kind(record: FinishedRequest) -> str:
    if record.status == "cancelled":
        return "cancelled"
    if record.status != "ok":
        return "failed"
    if not record.measured:
        return "cached"
    return "measured" if record.ttft is not None else "silent"


def _latency(model: str, host: str, records: Sequence[FinishedRequest]) -> Latency:
    splits = [_split(record) for record in records]
    mean = Split(*(sum(getattr(one, part) for one in splits) / len(splits) for part in Split.__slots__))
    paces = sorted(pace for record in records if (pace := _per_token(record)) is not None)
    speeds = sorted(record.usage.decode_tps for record in records if record.usage and record.usage.decode_tps)
    return Latency(
        model, host, tuple(sorted(record.ttft or 0.0 for record in records)), mean,
        quantile(paces, 0.5) if paces else None, quantile(speeds, 0.5) if speeds else None,
        tuple(sorted(record.seconds for record in records)),
    )  # fmt: skip


def _split(record: FinishedRequest) -> Split:
    """Only what lay before the first token: a host that was lost, and the wait after it, count as the rest."""
    first = record.ttft or 0.0
    took = dict.fromkeys(("queue", "load", "prefill"), 0.0)
    for name, start, end, _ in record.spans:
        if name in took:
            took[name] += max(0.0, min(end, first) - min(start, first))
    return Split(**took, rest=max(0.0, first - sum(took.values())))


def _per_token(record: FinishedRequest) -> float | None:
    """Seconds from one token to the next, after the first."""
    if record.usage is None or record.ttft is None or record.usage.output_tokens < 2:
        return None
    return max(0.0, record.seconds - record.ttft) / (record.usage.output_tokens - 1)
