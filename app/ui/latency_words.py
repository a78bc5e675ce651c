"""The Latency view as text and HTML: what was counted, percentiles, where the time went, how it is spread. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from app.services.latency import FEWEST, Counted, Latency, Percentile, bins, histogram, percentile
from app.services.request_log import LogSize
from app.ui import view_models as vm
from app.ui.components import figure_table
from app.ui.components.glossary import explained

HEAD = (
    "Variant", "Host", "n", "TTFT p50", "TTFT p95", "TTFT p99", "Between tokens", "Decode", "Whole p50", "Whole p95",
)  # fmt: skip
PARTS = (("queue", "Queue"), ("load", "Load"), ("prefill", "Prefill"), ("rest", "Rest"))
NOTE = (
    "In brackets the range that holds the true percentile in 95 of 100 samples. A p95 wants "
    f"{FEWEST[0.95]} requests and a p99 {FEWEST[0.99]}: with fewer, none lies beyond it."
)


def summary(counts: Counted, window: str) -> str:
    """312 requests in the last 2 h: 280 measured, 20 from the cache, 12 failed."""
    parts = [
        f"{vm.grouped(number)} {word}"
        for number, word in (
            (counts.measured, "measured"), (counts.cached, "from the cache"), (counts.failed, "failed"),
            (counts.cancelled, "cancelled"), (counts.silent, "without a token"),
        ) if number
    ]  # fmt: skip
    return f"{vm.count(counts.all, 'request')} in the last {window}" + (f": {', '.join(parts)}." if parts else ".")


def kept(size: LogSize) -> str:
    """That memory does not reach back further, where it is full."""
    full = size.bytes > 0.9 * size.limit
    return f"Only the last {vm.grouped(size.requests)} of all requests are kept." if full else ""


def table(rows: Sequence[Latency]) -> str:
    return figure_table.html(HEAD, [_cells(row) for row in rows])


def _cells(row: Latency) -> tuple[str, ...]:
    firsts = (told(percentile(row.firsts, share), vm.ttft) for share in (0.5, 0.95, 0.99))
    wholes = (told(percentile(row.whole, share), vm.duration) for share in (0.5, 0.95))
    return (
        row.model, row.host, vm.grouped(row.n), *firsts, vm.duration(row.per_token), vm.rate(row.decode), *wholes,
    )  # fmt: skip


def told(found: Percentile | None, unit: Callable[[float], str]) -> str:
    """1.24 s (0.98–1.61 s); 1.24 s (≥ 0.98 s) where the sample does not bound it above, and alone where not at all."""
    if found is None:
        return vm.UNKNOWN
    if found.low is None or found.low == found.value == found.high:
        return unit(found.value)
    low = unit(found.low)
    if found.high is None:
        return f"{unit(found.value)} (≥ {low})"
    high = unit(found.high)
    number, _, own = low.rpartition(" ")
    return f"{unit(found.value)} ({number if high.endswith(f' {own}') else low}–{high})"


def splits(rows: Sequence[Latency]) -> str:
    """For each row one bar, all on one scale: what the mean time to the first token went to."""
    longest = max((row.split.whole for row in rows), default=0.0) or 1.0
    body = "".join(
        f'<tr><th scope="row">{_name(row, rows)}</th>'
        f'<td class="lp-track"><div class="lp-split">{_bars(row, longest)}</div></td>'
        f'<td class="lp-num">{escape(vm.ttft(row.split.whole))}</td><td class="lp-note">{_parts(row)}</td></tr>'
        for row in rows
    )
    keys = " ".join(
        f'<span class="lp-key"><i class="lp-bar lp-{key}"></i>{explained(label, label)}</span>' for key, label in PARTS
    )
    title = f"<caption>Where the time to the first token went, in the mean {keys}</caption>"
    return f'<table class="lp-splits">{title}{body}</table>'


def _bars(row: Latency, longest: float) -> str:
    return "".join(
        f'<span class="lp-bar lp-{key}" style="width:{100 * seconds / longest:.2f}%" '
        f'title="{label}: {escape(vm.duration(seconds), quote=True)}"></span>'
        for key, label in PARTS
        if (seconds := getattr(row.split, key)) > 0
    )


def _parts(row: Latency) -> str:
    told = (
        f"{label.lower()} {vm.duration(getattr(row.split, key))}" for key, label in PARTS if getattr(row.split, key) > 0
    )
    return escape(" · ".join(told))


def spread(rows: Sequence[Latency]) -> str:
    """A histogram for each row, all on one logarithmic axis of seconds."""
    ends = bins(min(row.firsts[0] for row in rows), max(row.firsts[-1] for row in rows))
    pictures = "".join(
        f'<figure class="lp-hist"><figcaption><span>{_name(row, rows)}</span><small>n {vm.grouped(row.n)}</small>'
        f'</figcaption><div class="lp-columns" role="img" aria-label="{escape(_spoken(row), quote=True)}">'
        f"{_columns(row, ends)}</div>"
        f'<div class="lp-ticks">{"".join(_ticks(ends))}</div></figure>'
        for row in rows
    )
    return f'<p class="lp-part">How it is spread: TTFT, logarithmic axis</p><div class="lp-hists">{pictures}</div>'


def _columns(row: Latency, ends: Sequence[float]) -> str:
    counts = histogram(row.firsts, ends)
    most = max(counts) or 1
    return "".join(
        f'<i style="height:{100 * count / most:.1f}%" title="{vm.duration(low)} to {vm.duration(high)}: {count}"></i>'
        for count, low, high in zip(counts, ends[:-1], ends[1:], strict=True)
    )


def _ticks(ends: Sequence[float]) -> Iterator[str]:
    """At each power of ten; where there is none or one, at both ends."""
    first, last = math.log10(ends[0]), math.log10(ends[-1])
    powers = [10.0**power for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)]
    for second in powers if len(powers) > 1 else (ends[0], ends[-1]):
        place = 100 * (math.log10(second) - first) / (last - first)
        yield f'<span style="left:{place:.2f}%">{_round(second)}</span>'


def _round(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _spoken(row: Latency) -> str:
    return (
        f"TTFT from {vm.ttft(row.firsts[0])} to {vm.ttft(row.firsts[-1])}, half below {vm.ttft(row.firsts[row.n // 2])}"
    )


def _name(row: Latency, rows: Sequence[Latency]) -> str:
    """The host is said where there are several."""
    host = f" <small>{escape(row.host)}</small>" if len({each.host for each in rows}) > 1 else ""
    return f"<b>{escape(row.model)}</b>{host}"
