"""What a comparison found: one value tree for page, report, command line and store. Standard library only.

Seconds, bytes, tokens a second, nats. None means that it was not measured; the reason then stands in `notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.core.generation import Json
from app.core.measures import Estimate, Memory, Recommendation, Tier

__all__ = [
    "Alternative",
    "DepthSpeed",
    "Environment",
    "Estimate",
    "Finding",
    "Memory",
    "ProbeText",
    "Quality",
    "Recommendation",
    "Scorecard",
    "Separation",
    "Severity",
    "Speed",
    "TaskScore",
    "Tier",
    "TokenRow",
    "VariantResult",
]


class Severity(StrEnum):
    REFUSED = "refused"  # nothing to compare: it was not measured, or its figures are withheld
    MISLEADING = "misleading"  # shown, with the sentence beside it
    NOTE = "note"  # worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the validity guard found. `code` is stable (for tests and the command line), `text` one sentence that a
    layman understands, `advice` what to do. `variants` are the names it is about, empty for the whole comparison."""

    code: str
    severity: Severity
    text: str
    advice: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Speed:
    """From requests made for it: warmed up, interleaved, a nonce before each prompt, no logprobs."""

    load: Estimate | None = None  # seconds, from the page cache; n loads, low and high are the range
    ttft: Estimate | None = None  # seconds by the client's clock; low and high are the range
    prefill_tps: Estimate | None = None  # slope between two prompt lengths
    decode_tps: Estimate | None = None
    joules_per_token: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Divergence from the reference on its own answers, by literal forcing. `n` of the estimates counts texts.

    `kld_bound` is the top-20 lower bound L20, `kld` the estimate L20 + 2·(L20 − L10); `floor` the same measurement of
    the reference against itself. `domains` is the bound by domain. `first_difference` is the median count of tokens
    until a greedy answer differs.
    """

    kld: Estimate
    kld_bound: Estimate
    same_top: Estimate
    ppl_ratio: Estimate
    floor: float
    tokens: int
    texts: int
    lost: int = 0  # positions of the reference that could not be compared
    retokenised: int = 0  # texts that came out in other tokens
    rms_delta_p: float | None = None
    first_difference: Estimate | None = None
    kld_p99: float | None = None
    domains: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One kind of generated task, paired with the reference (deep only). Shares 0…1; `difference` is the variant's
    minus the reference's, `detectable` the least difference that this many items would have shown (80 % power).
    `credit` (choices) is the difference in the probability given to the right one, finer than passed or not."""

    kind: str
    items: int
    passed: float
    reference_passed: float
    difference: Estimate
    flips: float
    p_value: float  # exact McNemar, Holm over the variants
    detectable: float
    equivalent: bool  # TOST inside ± 2 points
    answers_changed: float = 0.0  # share of items answered in other words, or with another letter
    credit: Estimate | None = None


@dataclass(frozen=True, slots=True)
class DepthSpeed:
    """Decode speed with `depth` tokens in the context (deep only)."""

    depth: int
    decode_tps: Estimate


@dataclass(frozen=True, slots=True)
class VariantResult:
    """Everything about one variant. `types` is the share of weights by tensor type; `bits_per_weight` from tensors."""

    name: str
    digest: str
    quantization: str
    size: int
    bits_per_weight: float | None
    aliases: tuple[str, ...] = ()
    types: Mapping[str, float] = field(default_factory=dict)
    reference: bool = False
    memory: Memory | None = None
    speed: Speed | None = None
    quality: Quality | None = None  # None for the reference itself
    tier: Tier | None = None
    tasks: tuple[TaskScore, ...] = ()
    depths: tuple[DepthSpeed, ...] = ()
    sustained_ratio: float | None = None  # decode speed at the end of the sustained run to its beginning
    license: str = ""
    notes: tuple[str, ...] = ()
    decode_limit: float | None = None  # tokens/s that the machine's memory allows; None on a GPU or another machine


@dataclass(frozen=True, slots=True)
class Separation:
    """Whether two variants can be told apart by their divergence: the paired log ratio `ln(KLD b / KLD a)`."""

    a: str
    b: str
    log_ratio: Estimate
    separated: bool  # after Holm over all pairs


@dataclass(frozen=True, slots=True)
class Environment:
    """What the figures were measured on."""

    loupe: str
    host: str
    server: str  # kind, version and build as the host tells them
    machine: str  # processor, cores, memory, GPU and driver in one line
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """A whole comparison. `state` is running, paused, done, cancelled or failed; `options` are the fixed ones of every
    request; `probe_set` identifies the questions (name and SHA-256)."""

    id: str
    family: str
    depth: str  # quick or deep
    state: str
    started_at: float
    environment: Environment
    reference: str
    probe_set: str
    seed: int
    options: Mapping[str, Json]
    variants: tuple[VariantResult, ...]
    separations: tuple[Separation, ...] = ()
    findings: tuple[Finding, ...] = ()
    recommendation: Recommendation | None = None
    ended_at: float | None = None
    seconds: float | None = None  # of measuring, pauses left out


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One compared position: the reference's token, its L20, and both top-20 lists (nats, the likeliest first)."""

    text_id: str
    offset: int  # characters into the text
    token: str
    kld: float
    reference_logprob: float
    variant_logprob: float
    reference_top: tuple[Alternative, ...]
    variant_top: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class ProbeText:
    """A question and the reference's own greedy answer to it, which is forced on every variant. `prompt` is what the
    reference's template made of the question, as it is sent (raw) to all of them."""

    id: str
    domain: str
    question: str
    answer: str
    prompt: str = ""
