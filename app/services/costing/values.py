"""What is counted for the cost of answers. Raw facts only: money is worked out when somebody looks, from the
assumptions of then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

HERE = "here"  # the machine that Loupe runs on, whatever its hosts are called
DAY = 86_400


class UsageKey(NamedTuple):
    """`day` counts from the epoch, in UTC. `alias` is "" where the model was asked by its own name. `machine` is
    `HERE`, or the name of a host elsewhere."""

    day: int
    model: str
    principal: str
    alias: str
    machine: str


@dataclass(slots=True)
class Used:
    """`seconds`: of the machine's time; where two answers run at once, each has half of it. `joules` were drawn in
    `measured` of these seconds; in the others nobody knows. The `cached` ones came out of the cache, or were shared
    with another request: no model ran for them, and they are in none of the other figures."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    joules: float = 0.0
    measured: float = 0.0
    cached: int = 0
    cached_prompt_tokens: int = 0
    cached_output_tokens: int = 0

    def __iadd__(self, other: Used) -> Self:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True)
class Rested:
    """What this machine did in a day while no answer was being made: seconds, and joules in `measured` of them.
    `began`: when Loupe first looked that day, in seconds since the epoch."""

    began: float
    seconds: float = 0.0
    joules: float = 0.0
    measured: float = 0.0

    def __iadd__(self, other: Rested) -> Self:
        self.began = min(self.began, other.began)
        self.seconds += other.seconds
        self.joules += other.joules
        self.measured += other.measured
        return self


@dataclass(frozen=True, slots=True)
class Books:
    """All that was counted in some days. `began` is the very first look that is kept, also of an earlier day."""

    used: Mapping[UsageKey, Used]
    rested: Mapping[int, Rested]
    began: float | None = None

    def sum(self) -> Used:
        total = Used()
        for used in self.used.values():
            total += used
        return total

    def grouped(self, by: str) -> Iterator[tuple[str | int, dict[UsageKey, Used]]]:
        """By a field of the key, as found."""
        groups: dict[str | int, dict[UsageKey, Used]] = {}
        for key, used in self.used.items():
            groups.setdefault(getattr(key, by), {})[key] = used
        yield from groups.items()
