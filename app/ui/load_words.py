"""What the load lab says: its choices, a run in a line, the figures of a run, the command that does the same. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from app.comparison.load_lab import runs, telling
from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import LoadFigures, Percentile
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.runs import LoadRun
from app.models.catalog import CatalogView
from app.services.jobs import JobView
from app.ui import view_models as vm

ARRIVALS = {
    Arrivals.POISSON: "Poisson", Arrivals.CONSTANT: "Constant", Arrivals.RAMP: "Ramp", Arrivals.RECORDED: "Recorded",
}  # fmt: skip
ARRIVALS_TOLD = (
    "Poisson: as independent people come. Constant: evenly. Ramp: Poisson, from one rate to another. "
    "Recorded: the requests that Loupe remembers, as they came."
)
MADE_UP, OF_CHATS = "Made up", "Your chats"
LENGTH_TOLD = "Tokens: 128, or 64-512 (any length between), or 256~0.6 (around 256, most within a factor of e^0.6)."
TOLD = (
    "Questions come at their own pace, answered or not, as from many people. Every time is taken from the moment a "
    "question was meant to be sent, so that a host that hangs cannot hide it."
)
NO_RUNS = "No load was put on a host yet."
STATES = {
    runs.RUNNING: "under way", runs.DONE: "", runs.CANCELLED: "ended by hand", runs.STOPPED: "stopped: somebody came",
    runs.FAILED: "failed", runs.INTERRUPTED: "interrupted",
}  # fmt: skip
TERMS = {
    "Goodput": "Requests a second that were answered within every limit.",
    "TTFT": "From the moment a question was meant to be sent to the first word of its answer: half of them at most so "
    "long, and 95 of 100.",
    "Answered": "Answers a second from the first question to the last answer.",
    "Tokens": "Tokens written a second, over all answers.",
}


@dataclass(frozen=True, slots=True)
class Tile:
    name: str
    value: str
    note: str


def variants_of(catalog: CatalogView) -> dict[str, str]:
    """What can get a load, by name, with what it is called; what is loaded first."""
    found = [
        (variant.loaded is None, f"{family.title} {variant.label}", variant.name)
        for family in catalog.families
        for variant in family.variants
        if not variant.remote and variant.hosts
    ]
    return {name: label for _, label, name in sorted(found, key=lambda one: one[0])}


def tiles(run: LoadRun) -> tuple[Tile, ...]:
    """The four figures that one looks at first."""
    figures = run.figures
    if run.plan.limits.any:
        kept = f"{telling.share(figures.kept)} of all, {telling.limits(run.plan)}"
        first = Tile("Goodput", telling.rate(figures.goodput), kept)
    else:
        first = Tile("Goodput", vm.UNKNOWN, "no limit was given")
    return (
        first,
        Tile("TTFT", _at(figures, "p50"), f"p95 {_at(figures, 'p95')}, n {telling.counted(figures.ttft)}"),
        Tile("Answered", telling.rate(figures.throughput), f"{telling.rate(figures.offered)} asked"),
        Tile("Tokens", vm.rate(figures.tokens), f"at most {vm.count(figures.peak, 'request')} at once"),
    )


def _at(figures: LoadFigures, name: str) -> str:
    return telling.percentile(figures.ttft.percentiles.get(name))


def table(figures: LoadFigures) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Head and rows: each percentile with its interval under it."""
    head = ("", *telling.FIGURES[1:])
    rows: list[Sequence[str]] = []
    for name, label in telling.NAMES.items():
        found = getattr(figures, name)
        if found.percentiles:
            cells = [_cell(found.percentiles.get(at)) for at in telling.FIGURES[1:5]]
            rows.append((label, *cells, telling.seconds(found.worst), telling.counted(found)))
    return head, rows


def _cell(told: Percentile | None) -> str:
    between = telling.interval(told)
    return telling.percentile(told) + (f" ({between})" if between else "")


def asked_line(run: LoadRun) -> str:
    """What was asked of whom: Poisson, 2.00/s for 60 s · prompts of 128 tokens · …"""
    plan = run.plan
    prompts = f"{vm.count(run.own, 'question')} of one's own" if run.own else f"prompts of {plan.prompt} tokens"
    parts = [
        telling.arriving(plan), prompts, f"answers of {plan.output} tokens", f"{plan.users} people",
        run.environment.host, run.environment.server,
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def mix(plan: LoadPlan) -> str:
    """The models, with their shares where there are several."""
    if len(plan.models) == 1:
        return next(iter(plan.models))
    whole = sum(plan.models.values())
    return " + ".join(f"{name} {100 * share / whole:.0f} %" for name, share in plan.models.items())


def run_line(run: LoadRun, now: float) -> str:
    """Of the list: when, how it came, and how it ended where that was not its own end."""
    parts = [vm.ago(max(0.0, now - run.started_at)), telling.arriving(run.plan), STATES[run.state]]
    return " · ".join(part for part in parts if part)


def run_headline(run: LoadRun) -> str:
    figures = run.figures
    if not figures.asked:
        return "nothing was measured"
    told = f"TTFT p50 {_at(figures, 'p50')}, p95 {_at(figures, 'p95')}; {telling.rate(figures.throughput)} answered"
    return told + (f"; {telling.share(figures.kept)} within the limits" if run.plan.limits.any else "")


def progress_told(run: LoadRun, job: JobView | None) -> str:
    return job.detail if job is not None and job.detail else f"0 of {run.requests} asked"


def findings(run: LoadRun) -> list[str]:
    """What to know before believing the figures; why it ended, where that was not its own end."""
    ended = [vm.sentence(run.why)] if run.why else []
    if run.figures.unfinished and run.state == runs.DONE:
        ended.append(
            f"{vm.count(run.figures.unfinished, 'request')} had no answer {run.plan.drain:g} s after the last one. "
            "They count as slower than all that came."
        )
    return ended + telling.warnings(run)


def command(run: LoadRun) -> str:
    """The same run on the command line. Questions of one's own come from their place again, which FILE stands for."""
    plan = run.plan
    usual = LoadPlan(models={})
    words = ["python", "-m", "app", "load", *_models(plan.models)]
    for field in fields(LoadPlan):
        value = getattr(plan, field.name)
        if field.name in ("models", "questions", "recording", "limits") or value == getattr(usual, field.name):
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        words += [] if value is True else [f"{value:g}" if isinstance(value, float) else str(value)]
    for name in ("ttft", "tpot", "e2e"):
        if (limit := getattr(plan.limits, name)) is not None:
            words += [f"--{name}", f"{limit:g}"]
    if run.own and not plan.chats:
        words += ["--prompts", "FILE"]
    return shlex.join(words)


def _models(models: Mapping[str, float]) -> list[str]:
    return list(models) if len(models) == 1 else [f"{name}={share:g}" for name, share in models.items()]
