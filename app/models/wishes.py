"""What is asked of the advisor: how much memory, how long a context, how fast, for what. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from app.models.candidates import Candidate, Weighed

GIB = 1 << 30
UNLIMITED = 1 << 62  # bytes: a budget that excludes nothing
_GPU_MARGIN = GIB  # llama.cpp leaves so much of a GPU's memory free


class Use(StrEnum):
    CHAT = "chat"
    CODE = "code"
    EXTRACTION = "extraction"


# Tokens a second below which the use is no pleasure: reading along; long answers and agents; short answers in a batch.
FLOORS = {Use.CHAT: 8.0, Use.CODE: 20.0, Use.EXTRACTION: 4.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: `budget` bytes for the model in all (`UNLIMITED` where nobody knows); `least_tps` None for
    what the use usually wants; `smaller` are variants of other families with fewer parameters, to fall back on."""

    budget: int
    context: int = 8192
    use: Use = Use.CHAT
    least_tps: float | None = None
    kv_type: str = "f16"
    smaller: tuple[Candidate, ...] = ()

    @property
    def floor(self) -> float:
        return FLOORS[self.use] if self.least_tps is None else self.least_tps


@dataclass(frozen=True, slots=True)
class Case:
    """A question with all that is known for it. `apart` are the pairs of names that measurement could tell apart, None
    where pairs were not compared: then intervals that overlap count as not told apart."""

    weighed: tuple[Weighed, ...]
    wish: Wish
    apart: Collection[frozenset[str]] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What would be better than the choice: with more memory (`freed`), at a lower speed (`hurried`), with both."""

    freed: Weighed | None
    hurried: Weighed | None
    both: Weighed | None

    @property
    def binding(self) -> str:
        if self.freed is not None:
            return "memory"
        if self.hurried is not None:
            return "speed"
        return "nothing" if self.both is None else "memory"


def memory_budget(free_memory: int, free_gpu: int | None = None) -> int:
    """What a model may take: the GPU's free memory less what llama.cpp keeps free there, so that all of it runs on the
    GPU; without a GPU the machine's, less 2 GiB or a tenth for everything else. Bytes, at least 0."""
    if free_gpu:
        return max(0, free_gpu - _GPU_MARGIN)
    return max(0, free_memory - max(2 * GIB, free_memory // 10))
