"""Two load runs beside each other: every figure of both, and what besides the host was not the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import LoadFigures, Percentile
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.runs import DONE, LoadRun
from app.comparison.result_json import to_json
from app.core.generation import Json

SPREADS = ("ttft", "tpot", "itl", "e2e", "queue")
SECONDS, RATE, TOKENS, SHARE = "seconds", "requests/s", "tok/s", "share"
_RATES = (("goodput", RATE), ("kept", SHARE), ("throughput", RATE), ("tokens", TOKENS), ("offered", RATE))
_NOT_OF_THE_LOAD = ("anyway", "questions", "recording", "seed")


@dataclass(frozen=True, slots=True)
class Pair:
    """`first` and `second` are the values of one figure; None where it is unknown. `apart`: the intervals do not meet,
    so that chance alone does not explain the difference; None where there are none."""

    name: str
    unit: str
    first: float | None
    second: float | None
    apart: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.second / self.first if self.first and self.second is not None else None


@dataclass(frozen=True, slots=True)
class BesideLoad:
    """`differences` are sentences on what was not the same load; without any, the runs compare."""

    pairs: tuple[Pair, ...]
    differences: tuple[str, ...]


def beside(first: LoadRun, second: LoadRun) -> BesideLoad:
    return BesideLoad(tuple(_pairs(first.figures, second.figures)), tuple(_differences(first, second)))


def _pairs(first: LoadFigures, second: LoadFigures) -> Iterator[Pair]:
    for name, unit in _RATES:
        yield Pair(name, unit, getattr(first, name), getattr(second, name))
    for name in SPREADS:
        one, other = getattr(first, name), getattr(second, name)
        for at in ("p50", "p95", "p99"):
            a, b = one.percentiles.get(at), other.percentiles.get(at)
            yield Pair(f"{name} {at}", SECONDS, one.at(at), other.at(at), _apart(a, b))


def _apart(a: Percentile | None, b: Percentile | None) -> bool | None:
    if a is None or b is None or None in (a.low, a.high, b.low, b.high):
        return None
    return (a.high or 0.0) < (b.low or 0.0) or (b.high or 0.0) < (a.low or 0.0)


def _differences(first: LoadRun, second: LoadRun) -> Iterator[str]:
    for each, run in (("first", first), ("second", second)):
        if run.state != DONE:
            yield f"The {each} one did not come to its end ({run.state})."
    for field in fields(LoadPlan):
        one, other = (_plain(getattr(run.plan, field.name)) for run in (first, second))
        if one != other and field.name not in _NOT_OF_THE_LOAD:
            yield f"{field.name}: {_said(one)} and {_said(other)}."
    if first.plan.seed != second.plan.seed:
        yield (
            f"Each drew its own questions and moments (seed {first.plan.seed} and {second.plan.seed}); the same seed "
            "asks the same ones again."
        )
    if first.own != second.own:
        yield f"Questions of one's own: {first.own} and {second.own}."
    if first.plan.arrivals is second.plan.arrivals is Arrivals.RECORDED and first.requests != second.requests:
        yield f"Requests that were recorded: {first.requests} and {second.requests}."
    for name in sorted(set(first.digests) & set(second.digests)):
        if first.digests[name] != second.digests[name]:
            yield f"{name} is another file now."
    for what in ("host", "server", "machine", "loupe"):
        one, other = getattr(first.environment, what), getattr(second.environment, what)
        if one != other:
            yield f"{what}: {one} and {other}."


def _plain(value: object) -> Json:
    return to_json(value)


def _said(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items() if item is not None) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
