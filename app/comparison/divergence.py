"""How far a variant's next-token probabilities are from the reference's at one position, from two top-20 lists.

What is computed is the divergence of a coarse-graining: the tokens that both lists name, and one lump of all others.
By the log-sum inequality that is never above the full divergence, and it is 0 for equal lists. A position for which a
list is missing was not compared; it is not agreement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.comparison.results import Alternative

TOP = 20  # as many as Ollama gives
_HALF = 10
_TAIL = 2.0  # the estimate's weight of L20 − L10: within 4 % of the full vocabulary for five variants
_BLUR = 2e-6  # of a lump's probability: logprobs come in single precision, and a bound must not profit from that
_BROKEN = "\ufffd"  # a piece of a character: several tokens look like this

_Masses = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Position:
    """A token of a forced text as one model saw it: `offset` characters into the text, its logprob, and the likeliest
    tokens there, the likeliest first (empty where the host gave none)."""

    offset: int
    token: str
    logprob: float
    top: tuple[Alternative, ...]

    @property
    def end(self) -> int:
        return self.offset + len(self.token)


@dataclass(frozen=True, slots=True)
class Divergence:
    """One compared position: `bound` L20, `half` L10, and whether both find the same token likeliest."""

    bound: float
    half: float
    same_top: bool


def estimate(bound: float, half: float) -> float:
    """The full divergence, from the bounds by twenty and by ten."""
    return bound + _TAIL * max(0.0, bound - half)


def compare(reference: Position, variant: Position) -> Divergence | None:
    """None where one of them has no list of alternatives."""
    if not reference.top or not variant.top:
        return None
    bound = lumped(masses(reference.top), masses(variant.top))
    half = lumped(masses(reference.top[:_HALF]), masses(variant.top[:_HALF]))
    return Divergence(bound, min(half, bound), reference.top[0].token == variant.top[0].token)


def head_to_head(reference: Position, a: Position, b: Position) -> tuple[float, float] | None:
    """The bounds of two variants over the tokens that all three lists name: each alone has a partition of its own,
    and figures of different partitions cannot be set against each other."""
    if not (reference.top and a.top and b.top):
        return None
    told, of_a, of_b = masses(reference.top), masses(a.top), masses(b.top)
    return lumped(told, of_a, of_b), lumped(told, of_b, of_a)


def masses(top: Sequence[Alternative]) -> dict[str, float]:
    """Probability by string. Tokens that look alike are summed, and their name tells how many they are: two of them
    here and one there are not the same event. Pieces of characters and empty strings stay in the lump."""
    counts = Counter(one.token for one in top)
    found: dict[str, float] = {}
    for one in top:
        if one.token and _BROKEN not in one.token:
            name = one.token if counts[one.token] == 1 else f"{one.token}\0{counts[one.token]}"
            found[name] = found.get(name, 0.0) + math.exp(one.logprob)
    return found


def lumped(p: _Masses, q: _Masses, also: Collection[str] | None = None) -> float:
    """Σ p·ln(p/q) over the strings of both (and of `also`, where given) and over the lump of all others."""
    shared = [name for name in p if name in q and (also is None or name in also)]
    terms = [p[name] * math.log(p[name] / q[name]) for name in shared if p[name] and q[name]]
    rest_p = 1 - math.fsum(p[name] for name in shared)
    rest_q = 1 - math.fsum(q[name] for name in shared)
    if rest_p > _BLUR:
        terms.append(rest_p * math.log(rest_p / (max(rest_q, 0.0) + _BLUR)))
    return max(0.0, math.fsum(terms))
