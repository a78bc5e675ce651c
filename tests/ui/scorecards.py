"""Scorecards made by hand, for pages and words: the starter family as it measures, whole and in the middle."""

from __future__ import annotations

import math
from dataclasses import replace

from app.comparison.results import (
    Alternative,
    Environment,
    Estimate,
    Finding,
    Memory,
    ProbeText,
    Quality,
    Recommendation,
    Scorecard,
    Separation,
    Severity,
    Speed,
    TaskScore,
    Tier,
    TokenRow,
    VariantResult,
)

MIB = 2**20
STEM = "smollm2:135m-instruct-"
BEGUN = 1_795_700_000.0
DOMAINS = ("arithmetic", "code", "dialogue", "facts", "lists", "reasoning", "summaries", "writing")
# suffix, label, MiB, bits per weight, L20, same top, decode tok/s, tier
LADDER = (
    ("fp16", "F16", 259, 16.0, 0.0, 1.0, 28.4, None),
    ("q8_0", "Q8_0", 138, 8.51, 0.0040, 0.979, 51.2, Tier.NEAR_LOSSLESS),
    ("q6_K", "Q6_K", 132, 8.12, 0.0113, 0.957, 50.1, Tier.VERY_CLOSE),
    ("q4_K_M", "Q4_K_M", 101, 6.17, 0.0645, 0.887, 61.0, Tier.NOTICEABLE),
    ("q5_K_M", "Q5_K_M", 107, 6.56, 0.0824, 0.871, 58.8, Tier.NOTICEABLE),
    ("q3_K_M", "Q3_K_M", 90, 5.46, 0.154, 0.823, 63.3, Tier.DEGRADED),
    ("q4_0", "Q4_0", 88, 5.35, 0.278, 0.771, 71.9, Tier.DEGRADED),
    ("q2_K", "Q2_K", 84, 5.14, 0.457, 0.706, 66.4, Tier.DEGRADED),
)
TEXT = (
    "The",
    " sky",
    " looks",
    " blue",
    " because",
    " air",
    " scatters",
    " short",
    " waves",
    " of",
    " light",
    " more",
    ".",
)


def around(value: float, share: float, n: int) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + share), n)


def variant(suffix: str) -> VariantResult:
    """One rung of the ladder, wholly measured."""
    _, label, mib, bpw, bound, top, tps, tier = next(row for row in LADDER if row[0] == suffix)
    size = int(mib * MIB)
    memory = Memory(
        4096, size + 68 * MIB, 9 * MIB, size + 71 * MIB, 0,
        {"weights": size, "kv": 45 * MIB, "compute": 23 * MIB},
    )  # fmt: skip
    speed = Speed(
        Estimate(0.21, 0.19, 0.26, 3), Estimate(0.38, 0.34, 0.47, 5), around(420.0, 0.04, 4), around(tps, 0.02, 6)
    )
    return VariantResult(
        f"{STEM}{suffix}", f"{label:>064}".replace(" ", "0"), label, size, bpw, types={"Q8_0": 0.7, "F32": 0.3},
        reference=label == "F16", memory=memory, speed=speed, quality=_quality(bound, top) if bound else None,
        tier=tier, license="apache-2.0",
    )  # fmt: skip


def _quality(bound: float, top: float) -> Quality:
    return Quality(
        kld=around(bound * 1.13, 0.22, 24), kld_bound=around(bound, 0.22, 24), same_top=around(top, 0.02, 24),
        ppl_ratio=Estimate(1 + bound / 3, 1 + bound / 8, 1 + bound / 1.8, 24), floor=0.0, tokens=1176, texts=24,
        lost=1, retokenised=2, first_difference=Estimate(round(2.1 / bound**0.6), 5, 90, 24), kld_p99=bound * 9,
        domains={name: around(bound * (0.6 + 0.1 * place), 0.4, 3) for place, name in enumerate(DOMAINS)},
    )  # fmt: skip


TEXTS = (
    ProbeText("facts-3", "facts", "Why does the sky look blue?", "".join(TEXT)),
    ProbeText("wild", "writing", "Describe the sky in one sentence.", "".join(TEXT)),
)
ENVIRONMENT = Environment(
    "0.1.0", "built-in", "Loupe runtime 0.33.0, llama.cpp b11549", "EPYC 9B14, 2 cores, 7.8 GiB, no NVIDIA GPU",
    {"memory_budget": 3_250_000_000},
)  # fmt: skip
ADVICE = Recommendation(
    f"{STEM}q6_K",
    "Run Q6_K: very close to F16 (KLD 0.013 ± 0.003, the same next word in 95.7 % of 1,176), 50.1 ± 1.0 tok/s, "
    "203 MiB of 3.03 GiB with 4,096 tokens of context. Nothing binds but quality.",
    "quality",
    Tier.VERY_CLOSE,
    f"{STEM}q8_0",
    ("With less than 190 MiB, Q4_K_M.", "From 55 tok/s on, Q4_K_M."),
)
NOTE = Finding(
    "reference_descends", Severity.NOTE, "The reference was made from a 4-bit file.",
    "4-bit variants look better here than they would beside a true 16-bit model.", (f"{STEM}fp16",),
)  # fmt: skip
LIE = Finding(
    "label_lies", Severity.MISLEADING, "The tag says Q2_K, but 62 % of its weights are stored as Q4_0.",
    "Go by its bits per weight, not by its name.", (f"{STEM}q2_K",),
)  # fmt: skip


HOST_LOST = Finding(
    "host_lost", Severity.REFUSED, "The host built-in stopped answering in the middle.",
    "What was measured before is below. Start the host again, then measure once more.",
)  # fmt: skip
TOO_OLD = Finding(
    "no_logprobs", Severity.NOTE, "This server tells no token probabilities: it is Ollama 0.12.3.",
    "Divergence needs Ollama 0.12.11 or later. Speed, memory and side by side work.",
)  # fmt: skip


def scorecard(*suffixes: str, card_id: str = "c0ffee01", **changes: object) -> Scorecard:
    """A finished one of these rungs (all eight where none is named); `changes` replace its fields."""
    names = suffixes or tuple(row[0] for row in LADDER)
    variants = tuple(variant(suffix) for suffix in names)
    card = Scorecard(
        card_id, "SmolLM2 135M Instruct", "quick", "done", BEGUN, ENVIRONMENT, f"{STEM}fp16",
        "loupe-questions 1, sha256 5b1f…", 1, {"num_ctx": 4096, "temperature": 0, "seed": 1}, variants,
        separations(variants), (NOTE, LIE) if "q2_K" in names else (NOTE,), ADVICE, BEGUN + 118.0, 112.4,
    )  # fmt: skip
    return replace(card, **changes)  # type: ignore[arg-type]


def separations(variants: tuple[VariantResult, ...]) -> tuple[Separation, ...]:
    """Every pair; those whose bounds are within a third of each other cannot be told apart."""
    measured = [each for each in variants if each.quality is not None]
    pairs = []
    for place, a in enumerate(measured):
        for b in measured[place + 1 :]:
            assert a.quality and b.quality
            ratio = math.log(b.quality.kld_bound.value / a.quality.kld_bound.value)
            pairs.append(Separation(a.name, b.name, Estimate(ratio, ratio - 0.3, ratio + 0.3, 24), abs(ratio) > 0.3))
    return tuple(pairs)


def running() -> Scorecard:
    """Two of four variants have their figures, a third has its speed."""
    card = scorecard("fp16", "q8_0", "q4_K_M", "q2_K", state="running", findings=(NOTE,), recommendation=None)
    bare = replace(card.variants[3], memory=None, speed=None, quality=None, tier=None)
    half = replace(card.variants[2], quality=None, tier=None)
    return replace(
        card, variants=(*card.variants[:2], half, bare), separations=(), ended_at=None, seconds=None, started_at=BEGUN
    )


def old_server() -> Scorecard:
    card = scorecard("fp16", "q8_0", "q4_K_M", "q2_K", findings=(TOO_OLD,), separations=(), recommendation=None)
    bare = tuple(
        replace(each, quality=None, tier=None, notes=() if each.reference else ("divergence needs Ollama 0.12.11",))
        for each in card.variants
    )
    return replace(card, variants=bare)


def deep() -> Scorecard:
    card = scorecard("fp16", "q8_0", "q4_K_M", "q2_K", card_id="c0ffee02", depth="deep")
    task = TaskScore("arithmetic", 60, 0.55, 0.62, Estimate(-0.07, -0.15, 0.01, 60), 0.13, 0.21, 0.13, False)
    return replace(
        card, variants=tuple(each if each.reference else replace(each, tasks=(task,)) for each in card.variants)
    )


def token_rows(text_id: str = "facts-3") -> tuple[TokenRow, ...]:
    """One answer; its fourth token is where the variant would have gone elsewhere."""
    rows, offset = [], 0
    for place, token in enumerate(TEXT):
        kld = (0.0004, 0.003, 0.02, 1.4, 0.08)[place % 5]
        other = " <b>grey</b>" if place % 5 == 3 else token
        top = tuple(Alternative(token if n == 0 else f" word{n}", -0.2 - 0.4 * n) for n in range(20))
        theirs = tuple(Alternative(other if n == 0 else f" word{n + 1}", -0.3 - 0.4 * n) for n in range(20))
        rows.append(TokenRow(text_id, offset, token, kld, -0.2, -1.1, top, theirs))
        offset += len(token)
    return tuple(rows)
