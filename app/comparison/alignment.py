"""Bringing the rows of two models over one text together, where they cut it into other tokens.

A literal grammar lets any token through that begins the text that is left, so a variant may take a shorter one than
the reference. Positions are set against each other where both begin a token at the same character, and where the cuts
differ the walk goes on at the next common one. It never stops at the first difference: what comes after is where bad
variants are worst. But a word in fragments is a context that no model has seen, and what a variant thinks right behind
it says nothing of its quantization: the few positions until it has settled are left out. (One such stretch made a Q8_0
three times as far from its reference as it is. With this, the figures are those at the reference's own tokens.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.comparison.divergence import Position

SETTLING = 4  # common positions behind a stretch of other cuts


@dataclass(frozen=True, slots=True)
class Pair:
    """Both models at one character. `variant_logprob` is what the variant gives the reference's token, also where it
    took another one; None where the token is not among its likeliest."""

    reference: Position
    variant: Position
    variant_logprob: float | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """`lost` positions of the reference have no partner, one without a list, or one that had not settled;
    `retokenised`: other cuts somewhere."""

    pairs: tuple[Pair, ...]
    lost: int
    retokenised: bool


def align(reference: Sequence[Position], variant: Sequence[Position]) -> Alignment:
    """The rows of one text, each in the order of their offsets. Without a list of alternatives a position counts as
    lost: nothing is known of it, and its logprob may be made up (that of an accepted draft)."""
    ours = {position.offset: position for position in variant if position.top}
    pairs, unsettled = [], 0
    for one in reference:
        if (other := ours.get(one.offset)) is None:
            continue
        if one.top and not unsettled:
            pairs.append(Pair(one, other, _logprob_of(one.token, other)))
        unsettled = SETTLING if other.token != one.token else max(0, unsettled - 1)
    cuts = [[position.end for position in rows] for rows in (reference, variant)]
    return Alignment(tuple(pairs), len(reference) - len(pairs), cuts[0] != cuts[1])


def _logprob_of(token: str, position: Position) -> float | None:
    """The forced token's own logprob always comes; another token's where it is among the likeliest."""
    if position.token == token:
        return position.logprob
    return next((one.logprob for one in position.top if one.token == token), None)
