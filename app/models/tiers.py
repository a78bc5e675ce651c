"""How close a quantization is to its reference, in five words. Pure.

The limits are conventions, calibrated on llama.cpp's published tables of Llama-2-7B and Llama-3-8B (Q8_0 97.7 to 98.8 %
of the likeliest tokens the same, Q6_K 96.0 to 97.5, Q4_K_M 91.9 to 94.7, Q2_K 71.1 to 85.6). They depend on model and
text: a tier is a way to talk about figures, not a figure.
"""

from __future__ import annotations

from app.core.measures import Estimate, Tier

# tier, least share of positions with the same likeliest token, largest KLD (nats)
LIMITS = (
    (Tier.NEAR_LOSSLESS, 0.975, 0.01),
    (Tier.VERY_CLOSE, 0.94, 0.03),
    (Tier.CLOSE, 0.90, 0.06),
    (Tier.NOTICEABLE, 0.82, 0.15),
)
ORDER = tuple(Tier)


def tier_of(kld: float, same_top: float | None = None) -> Tier:
    """The best tier whose limits both figures keep; without a same-top share the KLD alone decides."""
    for tier, least, most in LIMITS:
        if kld <= most and (same_top is None or same_top >= least):
            return tier
    return Tier.DEGRADED


def measured_tier(kld: Estimate, same_top: Estimate | None = None) -> Tier:
    """The tier of the worse ends of the intervals: what can be promised."""
    worst = kld.value if kld.high is None else kld.high
    least = None if same_top is None else (same_top.value if same_top.low is None else same_top.low)
    return tier_of(worst, least)


def may_be_near_lossless(kld: Estimate, same_top: Estimate | None = None) -> bool:
    """Whether the better ends of the intervals are in the best tier: it is not shown to be worse."""
    least = kld.value if kld.low is None else kld.low
    most = None if same_top is None else (same_top.value if same_top.high is None else same_top.high)
    return tier_of(least, most) is Tier.NEAR_LOSSLESS


def rank(tier: Tier) -> int:
    """0 for the best."""
    return ORDER.index(tier)
