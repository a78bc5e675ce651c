"""How true the quality figures are, and how long they take: the starter ladder on the embedded runtime.

    python -m benchmarks.quality [--thirds 3] [--truth-texts 8] [--seconds 40 | --tokens 24]

The whole ladder on each of up to three disjoint thirds of the shipped questions, as a quick scorecard measures it (the
speeds that its plan is made from are taken first): order and bounds beside llama.cpp's own `--kl-divergence` of the
same family (another text), separations that contradict it, the control. Then the bound and the estimate beside the
whole vocabulary at the same contexts, five variants, through workers of our own: that is what takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.comparison import probes
from app.comparison.forcing import FIXED_OPTIONS, TextRows
from app.comparison.quality import floor, quality, separations, token_rows
from app.comparison.question_set import QuestionSet, read_set
from app.comparison.results import Estimate, ProbeText, Quality, Separation
from benchmarks import subjects
from benchmarks.harness import ROOT, Report
from tests.full_vocabulary import divergences, whole_texts
from tests.measuring import HttpBench
from tests.starter_cache import variant_gguf

FAMILY, REFERENCE = "smollm2:135m-instruct-", "fp16"
GOLD = {  # mean KLD by llama-perplexity, 16 chunks of 512 tokens
    "q8_0": 0.0038, "q6_K": 0.0091, "q4_K_M": 0.0574, "q5_K_M": 0.0672, "q3_K_M": 0.126, "q4_0": 0.261, "q2_K": 0.392,
}  # fmt: skip
TIMED = ("q8_0", "q6_K", "q4_K_M", "q4_0")  # with F16: what 40 seconds are for
TRUE = ("q8_0", "q6_K", "q4_K_M", "q4_0", "q2_K")
COUNTING = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"


@dataclass
class Run:
    """The ladder on one set of questions. `seconds` by tag: loads left out, the reference with its control."""

    texts: list[ProbeText] = field(default_factory=list)
    rows: dict[str, list[TextRows]] = field(default_factory=dict)
    control: list[TextRows] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def figures(self, tag: str) -> Quality:
        found = quality(self.texts, self.rows[REFERENCE], self.rows[tag], self.control)
        assert found is not None, f"nothing of {tag} could be compared"
        return found

    def separations(self) -> tuple[Separation, ...]:
        variants = {tag: self.rows[tag] for tag in GOLD}
        return separations(self.texts, self.rows[REFERENCE], variants)


async def speeds(bench: HttpBench) -> list[float]:
    """Decode tokens a second, the reference first, as a scorecard knows them before it plans."""
    found = []
    for tag in (REFERENCE, *TIMED):
        body = {"prompt": COUNTING, "raw": True, "options": {**FIXED_OPTIONS, "num_predict": 48}}
        await bench.load(FAMILY + tag, FIXED_OPTIONS)
        found.append((await bench.generate(FAMILY + tag, body)).usage.decode_tps or 1.0)
    return found


async def ladder(bench: HttpBench, questions: QuestionSet, plan: probes.Plan) -> Run:
    run, name = Run(), FAMILY + REFERENCE
    await bench.load(name, FIXED_OPTIONS)
    began = time.perf_counter()
    pairs = [pair async for pair in probes.answered(bench, name, questions.questions, plan)]
    run.texts, run.rows[REFERENCE] = [text for text, _ in pairs], [rows for _, rows in pairs]
    run.control = [row async for row in probes.measure(bench, name, run.texts[: plan.control])]
    run.seconds[REFERENCE] = time.perf_counter() - began
    for tag in GOLD:
        await bench.load(FAMILY + tag, FIXED_OPTIONS)
        began = time.perf_counter()
        run.rows[tag] = [row async for row in probes.measure(bench, FAMILY + tag, run.texts)]
        run.seconds[tag] = time.perf_counter() - began
    return run


def told(estimate: Estimate, digits: int = 4) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f} to {estimate.high:.{digits}f}]"


def report_run(report: Report, name: str, run: Run) -> None:
    rows = []
    for tag, gold in GOLD.items():
        found = run.figures(tag)
        rows.append([
            tag, f"{gold:.4f}", told(found.kld_bound), f"{found.kld_bound.value / gold:.2f}", told(found.kld),
            told(found.same_top, 3), told(found.ppl_ratio, 3), f"{found.lost / (found.lost + found.tokens):.0%}",
        ])  # fmt: skip
    heads = ["", "llama.cpp's KLD", "bound", "bound / KLD", "estimate", "same top", "perplexity ratio", "lost"]
    report.table(name, heads, rows)
    tokens = sum(len(rows.positions) for rows in run.rows[REFERENCE])
    timed = sum(run.seconds[tag] for tag in (REFERENCE, *TIMED))
    wrong = contradictions(run)
    again = floor(run.texts, run.rows[REFERENCE], run.control)
    report.say(
        f"n = {len(run.texts)} texts, {tokens} tokens; control (A/A) {again}; "
        f"{sum(one.separated for one in run.separations())} of 21 pairs separated, {len(wrong)} of them against "
        f"llama.cpp's order{''.join(f' ({a} {b})' for a, b in wrong)}. F16 and {', '.join(TIMED)}: {timed:.1f} s "
        f"({', '.join(f'{run.seconds[tag]:.1f}' for tag in (REFERENCE, *TIMED))})."
    )


def contradictions(run: Run) -> list[tuple[str, str]]:
    return [
        (one.a, one.b)
        for one in run.separations()
        if one.separated and (one.log_ratio.value > 0) != (GOLD[one.b] > GOLD[one.a])
    ]


def report_thirds(report: Report, runs: Sequence[Run]) -> None:
    """Whether the thirds agree: intervals that overlap, and no pair separated in one order here and the other there."""
    rows, apart = [], 0
    for tag in GOLD:
        found = [run.figures(tag).kld_bound for run in runs]
        lows, highs = [one.low or 0.0 for one in found], [one.high or 0.0 for one in found]
        overlap = max(lows) <= min(highs)
        apart += not overlap
        rows.append([tag, *(told(one) for one in found), "yes" if overlap else "no"])
    heads = ["", *(f"{number + 1}" for number in range(len(runs))), "all overlap"]
    report.table("Three disjoint thirds of the questions: bounds", heads, rows)
    orders: dict[tuple[str, str], set[bool]] = {}
    for run in runs:
        for one in run.separations():
            if one.separated:
                orders.setdefault((one.a, one.b), set()).add(one.log_ratio.value > 0)
    both = [pair for pair, signs in orders.items() if len(signs) > 1]
    report.say(
        f"{len(both)} of {len(orders)} separated pairs are separated in opposite orders; {apart} without overlap."
    )


def report_truth(report: Report, run: Run, count: int) -> None:
    texts = run.texts[:count]
    whole = whole_texts(variant_gguf(REFERENCE), texts)
    rows = []
    for tag in TRUE:
        full = divergences(whole, whole_texts(variant_gguf(tag), texts))
        strip = token_rows(texts, run.rows[REFERENCE], run.rows[tag])
        told_bounds = {(row.text_id, row.offset): row.kld for row in strip}
        both = sorted(set(full) & set(told_bounds))
        true = sum(full[place] for place in both) / len(both)
        found = quality(texts, run.rows[REFERENCE], run.rows[tag], run.control)
        assert found is not None and found.tokens == len(both), "the contexts are not the same"
        above = sum(told_bounds[place] > full[place] + 1e-5 for place in both)
        rows.append([
            tag, f"{true:.4f}", f"{found.kld_bound.value / true:.3f}", f"{found.kld.value / true:.3f}", str(len(both)),
            str(above),
        ])  # fmt: skip
    heads = ["", "whole vocabulary", "bound / it", "estimate / it", "places", "bound above it"]
    report.table("Beside the whole vocabulary at the same contexts", heads, rows)
    report.say(f"n = {len(texts)} texts; above means by more than 0.00001, the precision of what hosts tell.")


async def measured(
    url: str, sets: Sequence[QuestionSet], seconds: float, tokens: int | None
) -> tuple[list[Run], Mapping[str, float]]:
    bench = HttpBench(url)
    rates = await speeds(bench)
    plan = probes.plan(rates, seconds, available=min(len(one.questions) for one in sets))
    plan = plan if tokens is None else probes.Plan(24, tokens)
    print(f"{plan}, from {', '.join(f'{rate:.0f}' for rate in rates)} tokens/s", flush=True)
    return [await ladder(bench, one, plan) for one in sets], dict(zip((REFERENCE, *TIMED), rates, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--thirds", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--truth-texts", type=int, default=8, help="0 leaves the whole vocabulary out")
    parser.add_argument("--seconds", type=float, default=40.0, help="for F16 and four variants")
    parser.add_argument("--tokens", type=int, help="24 texts of so many tokens, whatever the speeds")
    options = parser.parse_args()
    standard = read_set(ROOT / "prompts" / "compare" / "standard.md")
    sets = [standard.third(number) for number in range(options.thirds)]
    report = Report("quality", "Quality by literal forcing")
    with subjects.scratch() as folder, subjects.runtime(folder, (REFERENCE, *GOLD)) as server:
        runs, rates = asyncio.run(measured(server.url, sets, options.seconds, options.tokens))
    report.say("Decode, tokens/s: " + ", ".join(f"{tag} {rate:.0f}" for tag, rate in rates.items()) + ".")
    for one, run in zip(sets, runs, strict=True):
        report_run(report, one.name, run)
    if len(runs) > 1:
        report_thirds(report, runs)
    if options.truth_texts:
        report_truth(report, runs[0], options.truth_texts)
    report.finish()


if __name__ == "__main__":
    main()
