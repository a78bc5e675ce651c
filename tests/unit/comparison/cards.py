"""A scorecard with known figures: those of the starter's ladder against llama.cpp's own measurement."""

from __future__ import annotations

from dataclasses import replace

from app.comparison.results import (
    Environment,
    Estimate,
    Finding,
    Memory,
    Quality,
    Scorecard,
    Separation,
    Severity,
    Speed,
    VariantResult,
)
from app.core.measures import MemoryPoint
from app.models.tiers import measured_tier

MIB = 1 << 20
# label, bits, MiB, KLD, same top, tokens a second
LADDER = (
    ("Q8_0", 8.51, 138, 0.0040, 0.978, 61.0),
    ("Q6_K", 8.12, 132, 0.0113, 0.955, 60.0),
    ("Q5_K_M", 6.56, 107, 0.0824, 0.86, 66.0),
    ("Q4_K_M", 6.17, 100, 0.0645, 0.87, 71.0),
    ("Q3_K_M", 5.46, 89, 0.154, 0.82, 68.0),
    ("Q4_0", 5.35, 87, 0.278, 0.77, 79.0),
    ("Q2_K", 5.14, 84, 0.457, 0.70, 77.0),
)
DOMAINS = ("code", "dialogue", "facts", "json", "languages", "lists", "prose", "reasoning")


def near(value: float, share: float, n: int = 24) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + share), n)


def memory(mib: int) -> Memory:
    parts = {"weights": mib * MIB, "kv": 90 * MIB, "compute": 40 * MIB, "output": MIB}
    total = sum(parts.values())
    points = tuple(
        MemoryPoint(context, kind, total + round((context - 4096) * width))
        for kind, width in (("f16", 23040), ("q8_0", 12240))
        for context in (2048, 32768)
    )
    return Memory(4096, total, 20 * MIB, total + 6 * MIB, 0, parts, points)


def variant(label: str, bits: float, mib: int, kld: float, same: float, tps: float) -> VariantResult:
    quality = Quality(
        kld=near(kld, 0.2),
        kld_bound=near(0.87 * kld, 0.2),
        same_top=Estimate(same, same - 0.015, same + 0.012, 24),
        ppl_ratio=near(1 + kld, 0.02),
        floor=0.0,
        tokens=576,
        texts=24,
        lost=2,
        retokenised=1,
        rms_delta_p=0.5 * kld**0.5,
        first_difference=near(12 / (kld + 0.01), 0.3),
        kld_p99=9 * kld,
        domains={name: near(kld * (0.5 + 0.2 * index), 0.4, 3) for index, name in enumerate(DOMAINS)},
    )
    return VariantResult(
        name=f"smollm2:135m-instruct-{label}",
        digest=label.lower().ljust(64, "0"),
        quantization=label,
        size=mib * MIB,
        bits_per_weight=bits,
        types={"Q4_0": 0.7, "Q8_0": 0.3},
        memory=memory(mib),
        speed=Speed(
            load=near(0.4, 0.1, 3),
            ttft=near(0.35, 0.1, 5),
            prefill_tps=near(640.0, 0.05, 4),
            decode_tps=near(tps, 0.03, 4),
        ),
        quality=quality,
        tier=measured_tier(quality.kld, quality.same_top),
        license="Apache License",
    )


def card(**changes) -> Scorecard:
    reference = replace(variant("F16", 16.0, 259, 1.0, 1.0, 40.0), reference=True, quality=None, tier=None)
    ladder = tuple(variant(*row) for row in LADDER)
    made = Scorecard(
        id="20261126-1",
        family="SmolLM2 135M Instruct",
        depth="quick",
        state="done",
        started_at=1_764_000_000.0,
        environment=Environment(
            "0.1.0", "http://127.0.0.1:11434", "loupe-runtime 0.33.0", "2 x EPYC, 16 GiB", {"cores": 2}
        ),
        reference=reference.name,
        probe_set="questions 1 (sha256 abc)",
        seed=1,
        options={"num_ctx": 4096, "seed": 1},
        variants=(reference, *ladder),
        separations=tuple(
            Separation(a.name, b.name, Estimate(1.0, 0.5, 1.5), separated=True)
            for index, a in enumerate(ladder)
            for b in ladder[index + 1 :]
        ),
        findings=(
            Finding(
                "reference-descends", Severity.NOTE, "The reference was made from a 4-bit file.", "Keep it in mind."
            ),
        ),
        ended_at=1_764_000_120.0,
        seconds=118.0,
    )
    return replace(made, **changes)
