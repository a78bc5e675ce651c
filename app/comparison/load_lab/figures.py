"""The figures of a load run, from its outcomes. Pure.

A percentile is an order statistic (the least value that so many do not exceed), with an interval that holds with 95 %
whatever the distribution: between which ranks the true one lies follows from the binomial distribution alone. An answer
that was given up counts as slower than every other one: where a percentile falls among those, only a bound is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.comparison.load_lab.gaps import Gaps
from app.comparison.load_lab.generator import FAILED, OK, REFUSED, UNFINISHED, UNSENT, Outcome
from app.comparison.load_lab.plan import Limits

SHARES = (0.5, 0.9, 0.95, 0.99)
_Z = 1.959964  # 95 %, both sides
LATE_SECONDS = 0.02  # one in twenty later than that, and the generator itself is part of what is measured


@dataclass(frozen=True, slots=True)
class Percentile:
    """Seconds (or tokens). `value` is None where it falls among what was given up, and is then more than `above`;
    `low` and `high` are None where so few values allow none, or the bound lies there too."""

    value: float | None
    low: float | None = None
    high: float | None = None
    above: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """`n` values and `open_ended` ones of which only a lower bound is known; percentiles as `p50`, `p90`, …"""

    n: int
    open_ended: int = 0
    mean: float | None = None
    worst: float | None = None
    percentiles: Mapping[str, Percentile] = field(default_factory=dict)

    def at(self, name: str) -> float | None:
        """A percentile, None where it is not known."""
        found = self.percentiles.get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """`asked` requests in `seconds`. `goodput` is those a second that kept to every limit, `kept` their share of all
    that were asked (of a run that was cut: but for what was under way then); None where there is no limit. Rates are
    over the time from the first question to the last answer (`seconds_all`), so that a tail of waiting is not left
    out."""

    asked: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    unfinished: int = 0
    unsent: int = 0
    seconds: float = 0.0
    seconds_all: float = 0.0
    offered: float | None = None
    throughput: float | None = None
    tokens: float | None = None
    goodput: float | None = None
    kept: float | None = None
    peak: int = 0
    ttft: Spread = field(default_factory=lambda: Spread(0))
    ttft_sent: Spread = field(default_factory=lambda: Spread(0))
    tpot: Spread = field(default_factory=lambda: Spread(0))
    itl: Spread = field(default_factory=lambda: Spread(0))
    e2e: Spread = field(default_factory=lambda: Spread(0))
    queue: Spread = field(default_factory=lambda: Spread(0))
    late: Spread = field(default_factory=lambda: Spread(0))
    prompt_tokens: Spread = field(default_factory=lambda: Spread(0))
    output_tokens: Spread = field(default_factory=lambda: Spread(0))
    models: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def generator_late(self) -> bool:
        """Whether this machine could not send as fast as was planned."""
        return (self.late.at("p95") or 0.0) > LATE_SECONDS


def spread(values: Sequence[float], open_ended: Sequence[float] = ()) -> Spread:
    """`open_ended` are lower bounds of values that were not seen; they are taken to be longer than all that were."""
    if not values and not open_ended:
        return Spread(0)
    ordered, least = sorted(values), sorted((*values, *open_ended))
    told = {f"p{round(100 * share)}": _percentile(ordered, least, share) for share in SHARES}
    mean = math.fsum(ordered) / len(ordered) if ordered and not open_ended else None
    return Spread(len(ordered), len(open_ended), mean, ordered[-1] if ordered and not open_ended else None, told)


def _percentile(ordered: Sequence[float], least: Sequence[float], share: float) -> Percentile:
    n, rank = len(least), math.ceil(share * len(least))
    if rank > len(ordered):
        return Percentile(None, above=least[rank - 1])
    half = _Z * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - half), math.ceil(n * share + half) + 1
    return Percentile(
        ordered[rank - 1],
        ordered[low - 1] if low >= 1 else None,
        ordered[high - 1] if high <= len(ordered) else None,
    )


def gap_spread(gaps: Gaps) -> Spread:
    """Without intervals: gaps of one answer are not independent."""
    if not gaps.n:
        return Spread(0)
    told = {f"p{round(100 * share)}": Percentile(gaps.percentile(share)) for share in SHARES}
    return Spread(gaps.n, 0, gaps.sum / gaps.n, gaps.worst, told)


def load_figures(
    outcomes: Sequence[Outcome], gaps: Gaps, limits: Limits, *, seconds: float, peak: int, cut: bool = False,
    counted: bool = False,
) -> LoadFigures:  # fmt: skip
    """`cut`: it goes on, or was ended before its time. What is not answered says nothing then, and is left out of the
    percentiles; else it is what was given up, and counts as slow. `counted`: it ended with its last question, so that
    there is a gap less than there are questions."""
    states = Counter(one.status for one in outcomes)
    ends = [one.end for one in outcomes if one.end is not None]
    whole = max([seconds, *ends])
    answered = [one for one in outcomes if one.status == OK]
    good = sum(keeps(one, limits) for one in answered)
    told = len(outcomes) - (states[UNFINISHED] if cut else 0)
    gaps_of = max(1, len(outcomes) - 1) if counted else len(outcomes)
    return LoadFigures(
        asked=len(outcomes), answered=states[OK], refused=states[REFUSED], failed=states[FAILED],
        unfinished=states[UNFINISHED], unsent=states[UNSENT], seconds=seconds, seconds_all=whole, peak=peak,
        offered=gaps_of / seconds if seconds else None,
        throughput=len(answered) / whole if whole else None,
        tokens=sum(one.output_tokens for one in answered) / whole if whole else None,
        goodput=good / whole if limits.any and whole else None,
        kept=good / told if limits.any and told else None,
        ttft=_times(outcomes, lambda one: one.ttft, lambda one: one.due, cut),
        ttft_sent=_times(
            outcomes, lambda one: None if one.first is None or one.sent is None else one.first - one.sent,
            lambda one: one.sent or one.due, cut,
        ),
        tpot=spread(_known(answered, lambda one: one.tpot)),
        itl=gap_spread(gaps),
        e2e=_times(outcomes, lambda one: one.e2e, lambda one: one.due, cut),
        queue=spread([one.queue for one in answered]),
        late=spread(_known(outcomes, lambda one: one.late)),
        prompt_tokens=spread([one.prompt_tokens for one in answered]),
        output_tokens=spread([one.output_tokens for one in answered]),
        models=dict(Counter(one.model for one in outcomes)),
        errors=dict(Counter(one.error for one in outcomes if one.status == FAILED).most_common(5)),
    )  # fmt: skip


def keeps(outcome: Outcome, limits: Limits) -> bool:
    """Whether an answer kept to every limit. One of a single token has no time between tokens to be too long."""
    pairs = ((outcome.ttft, limits.ttft), (outcome.tpot, limits.tpot), (outcome.e2e, limits.e2e))
    return outcome.status == OK and all(limit is None or value is None or value <= limit for value, limit in pairs)


def _known(outcomes: Sequence[Outcome], of: Callable[[Outcome], float | None]) -> list[float]:
    return [value for one in outcomes if (value := of(one)) is not None]


def _times(
    outcomes: Sequence[Outcome], of: Callable[[Outcome], float | None], begun: Callable[[Outcome], float], cut: bool
) -> Spread:
    """What was refused or failed has no time; what was given up has waited at least until then."""
    values, waited = [], []
    for one in outcomes:
        value = of(one) if one.status in (OK, UNFINISHED) else None
        if value is not None:
            values.append(value)
        elif one.status in (UNFINISHED, UNSENT) and not cut:
            waited.append(0.0 if one.end is None else one.end - begun(one))
    return spread(values, waited)
