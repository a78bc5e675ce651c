"""How one text differs from another, word by word. Pure.

Blanks belong to the word after them, so that the pieces of either text put together are that text again (but for what
is blank at its end).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

LONGEST = 3000  # words that are compared; a difference is to be read by a person
_WORD = re.compile(r"\s*\S+")
Kind = Literal["same", "only here", "only there"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words. "only there": words of the other text that stand here no more."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`first` is the number of the first word that differs, counted from 1; None where the words are the same.
    `shared` is the share of words (0…1) that both have in order. `cut`: more words than are compared."""

    pieces: tuple[Piece, ...]
    first: int | None
    shared: float
    cut: bool = False

    @property
    def same(self) -> bool:
        return self.first is None


def words(text: str) -> list[str]:
    return _WORD.findall(text)


@lru_cache(256)
def compare(here: str, there: str) -> Difference:
    """What stands `here` and not `there` (the reference), and the other way round.

    Remembered, since a page draws the same pair many times.
    """
    ours, theirs = words(here), words(there)
    cut = max(len(ours), len(theirs)) > LONGEST
    ours, theirs = ours[:LONGEST], theirs[:LONGEST]
    ours_keys, their_keys = [word.lstrip() for word in ours], [word.lstrip() for word in theirs]
    if ours_keys == their_keys and not cut:
        return Difference((Piece("same", here),) if here else (), None, 1.0)
    first = next(
        (at for at, (one, other) in enumerate(zip(ours_keys, their_keys, strict=False)) if one != other),
        min(len(ours_keys), len(their_keys)),
    )
    matcher = SequenceMatcher(None, their_keys, ours_keys, autojunk=False)
    shared = 2 * sum(block.size for block in matcher.get_matching_blocks()) / max(1, len(ours) + len(theirs))
    return Difference(_apart(list(_pieces(matcher, ours, theirs))), first + 1, shared, cut)


def _pieces(matcher: SequenceMatcher[str], ours: list[str], theirs: list[str]) -> Iterator[Piece]:
    for tag, low, high, begin, end in matcher.get_opcodes():
        if tag == "equal":
            yield Piece("same", "".join(ours[begin:end]))
            continue
        if high > low:
            yield Piece("only there", "".join(theirs[low:high]))
        if end > begin:
            yield Piece("only here", "".join(ours[begin:end]))


def _apart(pieces: list[Piece]) -> tuple[Piece, ...]:
    """With a blank behind the other text's first words, where ours follow that have none before them."""
    for at, (piece, after) in enumerate(zip(pieces, pieces[1:], strict=False)):
        if piece.kind == "only there" and not after.text[:1].isspace():
            pieces[at] = Piece(piece.kind, piece.text + " ")
    return tuple(pieces)
