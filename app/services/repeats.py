"""Questions that were answered from the cache before, and come again: the same entry at once, if all still holds.

What is kept of such a question is what its key was made of. Whether that is still so is looked at each time (the
content that the name leads to now, the build that would answer, the context in force, the entry itself); where anything
differs or would have to be asked for, the question takes the usual way, by `ChatService.ask`, which decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from app.core.generation import Chunk, GenerationRequest, Json, Span
from app.core.ports import Clock
from app.services.cached_answer import StoredAnswer, one_question
from app.services.host_pool import HostPool, ResolvedModel
from app.services.request_trace import TEXT_LIMIT, plain_options
from app.services.response_cache import ResponseCache, cache_key
from app.services.telemetry import CacheDecision, FinishedRequest, RequestName, Telemetry

_HIT: Mapping[str, str] = MappingProxyType({"outcome": "hit"})
_CREATED = re.compile(rb'"created_at":"[^"]*"')


@dataclass(frozen=True, slots=True)
class Repeat:
    """A question that had an answer in the cache, and what `key` stands for. `num_ctx` None: the host's own. `whole`:
    what is kept of its words, with `options`, is all of it."""

    model: str
    endpoint: str
    principal: str
    num_ctx: int | None
    identity: tuple[str, str, int | None]
    key: str
    options: Mapping[str, Json]
    whole: bool = False


class Given(NamedTuple):
    """One time that an answer is given again. `at` is monotonic, `started_at` in seconds since the epoch."""

    name: RequestName
    at: float
    started_at: float
    age: float


class Repeats:
    """`is_alias`: what such a name leads to is found by the usual way each time."""

    def __init__(
        self, cache: ResponseCache, pool: HostPool, telemetry: Telemetry, clock: Clock,
        is_alias: Callable[[str], object] = lambda _: None,
    ) -> None:  # fmt: skip
        self._cache, self._pool, self._telemetry, self._clock = cache, pool, telemetry, clock
        self._is_alias = is_alias

    def learn(self, request: GenerationRequest, principal: str) -> Repeat | None:
        """What to know of a question that has just been answered from the cache; None where that is open again."""
        model = self._pool.known(request.model)
        if model is None or self._is_alias(request.model):
            return None
        key = key_of(request, principal, model, self._pool)
        identity = self._identity(model, request.num_ctx)
        options = plain_options(request.options)
        whole = self._telemetry.words and len(options) == len(request.options) and one_question(request)
        return Repeat(request.model, request.endpoint, principal, request.num_ctx, identity, key, options, whole)

    def find(self, repeat: Repeat) -> StoredAnswer | None:
        """The answer; None where it is to be looked for by the usual way. Counts nothing."""
        model = self._pool.known(repeat.model)
        if model is None or self._is_alias(repeat.model) or self._identity(model, repeat.num_ctx) != repeat.identity:
            return None
        return self._cache.held(repeat.key)

    def count(self, answer: StoredAnswer, name: RequestName) -> Given:
        """The answer is given, now."""
        return Given(name, self._clock.monotonic(), self._clock.now(), self._cache.hit(answer).age)

    def finish(self, repeat: Repeat, answer: StoredAnswer, given: Given, flow: str, *, sent: bool) -> None:
        """Write down what `ChatService` would of an answer from the cache."""
        took = self._clock.monotonic() - given.at
        self._telemetry.add(
            FinishedRequest(
                given.name.own, repeat.principal, flow, repeat.model, repeat.identity[0], "", repeat.endpoint,
                "ok" if sent else "cancelled", "", CacheDecision("hit", "", given.age), given.started_at, took, took,
                answer.usage, (Span("cache", 0.0, took, _HIT),), given.name.client,
                given.name.context or self._telemetry.own_context(), repeat.options, (),
                answer.chunks[-1].done_reason, *self._words(answer), whole=repeat.whole,
            )
        )  # fmt: skip

    def _words(self, answer: StoredAnswer) -> tuple[str, str]:
        """Question and answer, where they are kept."""
        if not self._telemetry.words:
            return "", ""
        text = "".join(chunk.text for chunk in answer.chunks)
        return answer.origin.question, text[:TEXT_LIMIT]

    def _identity(self, model: ResolvedModel, num_ctx: int | None) -> tuple[str, str, int | None]:
        return model.digest, model.server, num_ctx or self._pool.default_context(model)


def key_of(request: GenerationRequest, principal: str, model: ResolvedModel, pool: HostPool) -> str:
    """The cache's key of a question that `model` would answer now.

    The manifest's digest covers the template too: it is a layer of the model. An unknown context finds nothing, because
    answers are stored only when the context is known.
    """
    return cache_key(
        request, digest=model.digest, template_digest="", server=model.server,
        context=request.num_ctx or pool.default_context(model), namespace=principal,
    )  # fmt: skip


def stamp(created: bytes) -> bytes:
    """The field of a record that says when it was made."""
    return b'"created_at":"' + created + b'"'


def moment(at: float) -> bytes:
    """Seconds since the epoch as RFC 3339 in UTC."""
    seconds, part = divmod(at, 1)
    return _second(int(seconds)) + b"%06dZ" % int(part * 1e6)


@lru_cache(2)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()


def made_at(chunk: Chunk, created: bytes, *, more: bool = False) -> Chunk:
    """The record as it was, but made then. The field stands before the model's text: the first match is it."""
    return replace(chunk, line=_CREATED.sub(stamp(created), chunk.line, count=1), more=more)
