"""What the advisor says on the published ladders: writes docs/recommendations.md. No measurement; a second of time.

python -m benchmarks.advice
"""

from __future__ import annotations

from pathlib import Path

from app.core.hosts import ModelDetail
from app.core.measures import Estimate, MemoryPoint, Recommendation
from app.models.advisor import FLOORS, Candidate, Use, Wish, advise
from app.models.memory_fit import facts_of_detail, predict
from app.models.published_ladders import SOURCES, SPEEDS, WEIGHTS, SpeedRow, typical_quality

PAGE = Path(__file__).parents[1] / "docs" / "recommendations.md"
GIB = 1 << 30
BUDGETS = (4, 5, 6, 7, 8, 10, 12, 16)  # GiB
CONTEXTS = (4096, 8192, 16384, 32768)
MARGIN = round(0.3 * GIB)  # of the prediction, for a host whose build is not known
LAPTOP_BANDWIDTH = 60e9  # bytes a second: two channels of DDR5 as F16 would go through them
# Llama-3.1-8B as `/api/show` has it
SHAPE = {
    "general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336, "llama.vocab_size": 128256, "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8, "llama.context_length": 131072,
}  # fmt: skip


def ladder(bandwidth: float | None = None) -> tuple[Candidate, ...]:
    """Llama-3.1-8B in all formats that both tables have. Speeds as published, or, with `bandwidth` (bytes a second that
    F16 goes through), as they would be there."""
    return tuple(_candidate(row, bandwidth) for row in SPEEDS if typical_quality(row.label) is not None)


def answers(candidates: tuple[Candidate, ...], use: Use) -> dict[tuple[int, int], Recommendation]:
    """By GiB and context."""
    return {
        (budget, context): advise(candidates, Wish(budget * GIB, context, use))
        for budget in BUDGETS
        for context in CONTEXTS
    }


def page() -> str:
    """The whole page."""
    parts = [_HEAD.rstrip()]
    for title, bandwidth in (("On a GPU, speeds as published", None), ("On a laptop, 60 GB/s", LAPTOP_BANDWIDTH)):
        candidates = ladder(bandwidth)
        parts.append(f"\n## {title}\n")
        for use in Use:
            parts.append(_table(use, answers(candidates, use)))
        parts.append(_spelled_out(candidates))
    return "\n".join(parts).rstrip() + "\n"


def _candidate(row: SpeedRow, bandwidth: float | None) -> Candidate:
    share = 1.0 if bandwidth is None else bandwidth / SPEEDS[-1].bandwidth
    decode = row.decode * share
    spread = 2 * row.decode_sd * share
    return Candidate(
        name=f"llama3.1:8b-instruct-{row.label}",
        label=row.label,
        size=row.size,
        bits_per_weight=row.bits,
        memory=tuple(_point(row, context, kind) for kind in ("f16", "q8_0") for context in (2048, 131072)),
        margin=MARGIN,
        decode=Estimate(decode, decode - spread, decode + spread),
        reference=row.label == "F16",
        license="Llama 3.1 Community License",
    )


def _point(row: SpeedRow, context: int, kind: str) -> MemoryPoint:
    facts = facts_of_detail(ModelDetail(info=SHAPE), row.size)
    total = predict(facts, context=context, kv_type=kind).total
    assert total is not None
    return MemoryPoint(context, kind, total)


_HEAD = f"""# Recommendations, replayed on published ladders

What the advisor says when all it knows are published figures of Llama-3.1-8B ({WEIGHTS / 1e9:.2f} billion weights):

* divergence: {SOURCES["quality"]} (the i-quants with an importance matrix, the others without);
* size and speed: {SOURCES["speed"]}.

Made by `python -m benchmarks.advice`; a test holds this page to the code. Nothing here was measured by Loupe, so every
answer is *typical*: a scorecard on your machine comes first.

A cell is what to run with so much memory for the model (columns) and so much context (rows), and what binds: **m**emory
(more of it allows something closer to the original), **s**peed (what is closer answers slower than the use wants),
**q**uality (what fits is degraded, and is not recommended), or nothing (-). `@4k` means: only with so much context;
`kv8`: only with the cache kept as q8_0; "smaller model": nothing of this one. Q2_K, and everything else that is
degraded in the tables, is never recommended. Memory counts weights, cache, buffers and 0.3 GiB to spare.
"""


def _table(use: Use, found: dict[tuple[int, int], Recommendation]) -> str:
    lines = [
        f"### {use.value.capitalize()}, at least {FLOORS[use]:g} tokens/s\n",
        "| context | " + " | ".join(f"{budget} GiB" for budget in BUDGETS) + " |",
        "|---|" + "---|" * len(BUDGETS),
    ]
    for context in CONTEXTS:
        cells = [_cell(found[budget, context], context) for budget in BUDGETS]
        lines.append(f"| {context:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(answer: Recommendation, context: int) -> str:
    binding = {"nothing": "-"}.get(answer.binding, f"**{answer.binding[0]}**")
    if not answer.variant:
        return f"smaller model {binding}"
    label = answer.variant.rpartition("-")[2]
    less = f" @{answer.context // 1024}k" if answer.context and answer.context != context else ""
    return f"{label}{less}{' kv8' if answer.kv_type != 'f16' else ''} {binding}"


def _spelled_out(candidates: tuple[Candidate, ...]) -> str:
    """Some answers in full, one for each way of being bound."""
    shown: dict[str, str] = {}
    for use in Use:
        for (budget, context), answer in answers(candidates, use).items():
            kind = f"{answer.binding} {bool(answer.variant)}"
            if kind in shown:
                continue
            change = "".join(f"\n  - {sentence}" for sentence in answer.change)
            shown[kind] = f"* {use.value.capitalize()}, {budget} GiB, {context:,} tokens: {answer.sentence}{change}"
    return "In full, the first of each kind:\n\n" + "\n".join(shown.values()) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} written")


if __name__ == "__main__":
    main()
