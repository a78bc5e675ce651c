"""So many requests at the same moment, each of its own words, and what came of them by our own clock.

All begin together and are of one length, so that every slot is filled from the first token to the last and no tail of
a few late ones is counted. The model counts on from one number to the next, which it does without ending by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.comparison.batching.study import Point, Shape
from app.comparison.speed import log_t, words
from app.core.errors import GenerationFailed
from app.core.generation import GenerationRequest, Json
from app.core.ports import Backend, Clock

_COUNT = "\n\nAll whole numbers, one after the other: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,"
_COUNT_TOKENS = 60  # roughly, in whatever tokenizer
USUAL_WORDS = 0.75  # a token, until it was measured
FIXED: Mapping[str, Json] = {"temperature": 0, "top_k": 1, "seed": 1, "repeat_penalty": 1}


@dataclass(frozen=True, slots=True)
class Answered:
    """One request of a wave: seconds since the wave began at its first and last token, and the longest pause."""

    first: float
    last: float
    tokens: int
    pause: float
    prompt_tokens: int

    @property
    def token(self) -> float:
        """Time for each token after the first."""
        return (self.last - self.first) / max(1, self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Wave:
    answers: tuple[Answered, ...]

    @property
    def seconds(self) -> float:
        return max(one.last for one in self.answers)

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.answers)

    @property
    def at_once(self) -> int:
        """How many answers were being written at the same moment, at most."""
        return max(sum(other.first <= one.first <= other.last for other in self.answers) for one in self.answers)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit to a level measured: some waves in a row."""

    waves: tuple[Wave, ...]

    @property
    def rate(self) -> float:
        return sum(wave.tokens for wave in self.waves) / sum(wave.seconds for wave in self.waves)

    @property
    def answers(self) -> tuple[Answered, ...]:
        return tuple(one for wave in self.waves for one in wave.answers)


def prompt_of(tokens: int, words_per_token: float) -> str:
    """About so many tokens, with a number before everything so that no host has read the beginning already."""
    filler = words(round(max(0, tokens - _COUNT_TOKENS) * words_per_token))
    return f"[{secrets.token_hex(4)}] {filler}{_COUNT}"


async def run_wave(
    backend: Backend, model: str, shape: Shape, count: int, options: Mapping[str, Json], clock: Clock,
    words_per_token: float,
) -> Wave:  # fmt: skip
    """Raises `HostError`s; cancelling it hangs up on all."""
    limits: dict[str, Json] = {**FIXED, **options, "num_predict": shape.output}
    requests = [
        GenerationRequest("generate", {
            "model": model, "prompt": prompt_of(shape.prompt, words_per_token), "raw": True, "think": False,
            "options": limits,
        })
        for _ in range(count)
    ]  # fmt: skip
    began = clock.monotonic()
    tasks = [asyncio.ensure_future(_answered(backend, request, clock, began)) for request in requests]
    try:
        return Wave(tuple(await asyncio.gather(*tasks)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answered(backend: Backend, request: GenerationRequest, clock: Clock, began: float) -> Answered:
    times: list[float] = []
    tokens = prompt_tokens = 0
    async with aclosing(backend.stream(request)) as chunks:
        async for chunk in chunks:
            if chunk.text:
                times.append(clock.monotonic() - began)
            if chunk.usage is not None:
                tokens, prompt_tokens = chunk.usage.output_tokens, chunk.usage.prompt_tokens
    if not times or not tokens:
        raise GenerationFailed(request.model, "it answered nothing to a prompt that asks it to count on")
    pauses = [after - before for before, after in zip(times, times[1:], strict=False)]
    return Answered(times[0], times[-1], tokens, max(pauses, default=0.0), prompt_tokens)


def point_of(shape: Shape, slots: int, visits: Sequence[Visit]) -> Point:
    """The figures of one level, an interval over its visits."""
    answers = [one for visit in visits for one in visit.answers]
    return Point(
        shape=shape, slots=slots, rates=tuple(visit.rate for visit in visits),
        rate=log_t([visit.rate for visit in visits]),
        ttft=log_t([_mean([one.first for one in visit.answers]) for visit in visits]),
        worst_ttft=max(one.first for one in answers),
        token=log_t([max(1e-6, _mean([one.token for one in visit.answers])) for visit in visits]),
        whole=log_t([_mean([one.last for one in visit.answers]) for visit in visits]),
        pause=max(one.pause for one in answers),
        at_once=max(wave.at_once for visit in visits for wave in visit.waves),
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
