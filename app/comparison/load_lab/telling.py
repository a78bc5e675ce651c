"""A load run in words and rows, the same on the page and on the command line. Pure."""

from __future__ import annotations

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.beside import RATE, SHARE, TOKENS, Pair
from app.comparison.load_lab.figures import LoadFigures, Percentile, Spread
from app.comparison.load_lab.plan import MOST_REQUESTS, LoadPlan
from app.comparison.load_lab.runs import LoadRun

UNKNOWN = "–"
FIGURES = ("", "p50", "p90", "p95", "p99", "longest", "n")
BESIDE = ("", "first", "second", "second / first", "")
NAMES = {
    "ttft": "TTFT", "ttft_sent": "TTFT from sending", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E",
    "queue": "in the queue", "late": "sent late",
}  # fmt: skip
_PAIRS = {
    "goodput": "goodput", "kept": "within the limits", "throughput": "answered", "tokens": "tokens", "offered": "asked",
}  # fmt: skip


def seconds(value: float | None) -> str:
    """8 ms, 1.24 s, 31.2 s, 184 s: three figures."""
    if value is None:
        return UNKNOWN
    if value < 0.9995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s" if value < 99.95 else f"{value:.0f} s"


def percentile(told: Percentile | None) -> str:
    """Its value with the interval where there is one; a bound where that is all that is known."""
    if told is None:
        return UNKNOWN
    if told.value is None:
        return UNKNOWN if told.above is None else f"> {seconds(told.above)}"
    return seconds(told.value)


def interval(told: Percentile | None) -> str:
    """1.10 s to 1.31 s; "" where too few values allow one, or it is narrower than what is told."""
    if told is None or told.value is None or (told.low is None and told.high is None):
        return ""
    value, low, high = seconds(told.value), seconds(told.low), seconds(told.high)
    if low == value and high in (value, UNKNOWN):
        return ""  # it says nothing that the value does not
    return f"from {low}" if told.high is None else f"{low} to {high}"


def rows_of(figures: LoadFigures) -> list[tuple[str, ...]]:
    """A row for each time, in the order of `FIGURES`."""
    return [
        (
            NAMES[name],
            *(percentile(found.percentiles.get(at)) for at in FIGURES[1:5]),
            seconds(found.worst),
            counted(found),
        )
        for name in NAMES
        if (found := getattr(figures, name)).percentiles
    ]


def counted(found: Spread) -> str:
    return f"{found.n:,}".replace(",", "\u202f") + (f" + {found.open_ended} given up" if found.open_ended else "")


def rate(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.0f}/s" if value >= 99.5 else f"{value:.1f}/s" if value >= 9.95 else f"{value:.2f}/s"


def share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def outcome(figures: LoadFigures) -> str:
    """What became of all that was asked: 312 asked, 300 answered, 12 refused."""
    parts = [f"{figures.asked} asked", f"{figures.answered} answered"]
    for name, word in (("refused", "refused by the full queue"), ("failed", "failed"), ("unfinished", "given up"),
                       ("unsent", "not sent, because too many were under way")):  # fmt: skip
        if number := getattr(figures, name):
            parts.append(f"{number} {word}")
    return ", ".join(parts)


def arriving(plan: LoadPlan) -> str:
    """How the questions came: Poisson, 2.00/s for 60 s."""
    match plan.arrivals:
        case Arrivals.RECORDED:
            fast = f", {plan.speed:g} times as fast" if plan.speed != 1 else ""
            return f"as recorded{fast}, for at most {plan.seconds:g} s"
        case Arrivals.RAMP:
            return f"ramp from {rate(plan.rate)} to {rate(plan.to_rate)} in {plan.seconds:g} s"
        case Arrivals.CONSTANT:
            return f"constant, {rate(plan.rate)} for {plan.seconds:g} s"
    return f"Poisson, {rate(plan.rate)} for {plan.seconds:g} s"


def limits(plan: LoadPlan) -> str:
    told = [f"{NAMES[name]} ≤ {seconds(getattr(plan.limits, name))}" for name in ("ttft", "tpot", "e2e")
            if getattr(plan.limits, name) is not None]  # fmt: skip
    return ", ".join(told)


def lines_of(run: LoadRun) -> list[str]:
    """What was asked and what came of it, a sentence a line."""
    figures = run.figures
    asked = f"prompts {run.own} of one's own" if run.own else f"prompts of {run.plan.prompt} tokens"
    lines = [
        f"{run.title} on {run.environment.host} ({run.environment.server}): {arriving(run.plan)}, {asked}, answers of "
        f"{run.plan.output} tokens, {run.plan.users} people",
        f"{outcome(figures)}; {rate(figures.throughput)} answered, {rate(figures.tokens)} tokens, at most "
        f"{figures.peak} under way",
    ]
    if run.plan.limits.any:
        lines.append(f"goodput {rate(figures.goodput)} ({share(figures.kept)} of all asked) within {limits(run.plan)}")
    return lines + warnings(run)


def warnings(run: LoadRun) -> list[str]:
    """What to know before believing the figures."""
    figures, told = run.figures, []
    if figures.generator_late:
        told.append(
            f"This machine itself was late to send ({seconds(figures.late.at('p95'))} in one of twenty): the "
            "figures are of it as much as of the host. Ask for less, or run Loupe on another machine than the host."
        )
    wanted, got = run.plan.output, figures.output_tokens.at("p50")
    if wanted.isdigit() and got is not None and got < 0.8 * int(wanted) and not run.own:
        told.append(f"Answers ended before their {wanted} tokens: half of them at {got:.0f} or less.")
    if not run.plan.count and figures.asked >= MOST_REQUESTS:
        most = f"{MOST_REQUESTS:,}".replace(",", "\u202f")
        told.append(f"It ended with {most} requests, the most of one run, after {figures.seconds:.0f} s.")
    told += [f"{number} failed: {error}" for error, number in figures.errors.items()]
    return told


def paired(pair: Pair) -> tuple[str, ...]:
    """In the order of `BESIDE`."""
    name, _, at = pair.name.partition(" ")
    label = _PAIRS.get(name) or f"{NAMES[name]} {at}"
    say = {RATE: rate, TOKENS: rate, SHARE: share}.get(pair.unit, seconds)
    ratio = UNKNOWN if pair.ratio is None else f"{pair.ratio:.2f}"
    apart = "" if pair.apart is None else "apart" if pair.apart else "within chance"
    return label, say(pair.first), say(pair.second), ratio, apart
