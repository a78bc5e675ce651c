"""The running record of one request, and what is kept of it when it has ended.

A trace is written by the layers while a request runs and read by the page that shows it; when the request ends it
becomes a `FinishedRequest`. Everything on the way of a request is cheap: tuples, no locks, no formatting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple, Self

from app.core.generation import Chunk, GenerationRequest, Json, Span, Usage
from app.core.ports import Clock
from app.core.trace_context import TraceContext, span_id
from app.services.cached_answer import one_question, question_of
from app.services.queueing.views import Eta
from app.wire.requests import INTEGER_OPTIONS, REAL_OPTIONS

PACE_POINTS = 32  # moments of an answer that are kept, half of them after they have become too many
TEXT_LIMIT = 4000  # characters of a question or an answer, where they are kept at all
ERROR_LIMIT = 500  # characters of an error
_PLAIN = INTEGER_OPTIONS | REAL_OPTIONS | {"use_mmap", "numa"}
_LARGEST = 2**63 - 1
_when = itemgetter(1, 2)  # start and end of a span

Attribute = str | int | float | bool
Pace = tuple[tuple[float, int], ...]
_NO_OPTIONS: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Phase:
    """What a request is doing now. `name` is one of: new, cache, queued, held, paused, connect, loading, prefill,
    decode, done.

    Held: queued, and no model host answers, but one did a moment ago. Paused: queued, and an operator lets nothing
    begin. `position` counts from 1; `eta` is None where nothing has been measured yet. Both only while queued.
    """

    name: str
    position: int | None = None
    eta: Eta | None = None


class CacheDecision(NamedTuple):
    """What the cache did: hit, miss, joined (shared a running generation), refresh or bypass, and why.

    A tuple like the record below: each request makes one, and a frozen dataclass takes several times as long to make.
    """

    outcome: str = "bypass"
    reason: str = ""
    age: float | None = None  # seconds since the answer was stored, for a hit


_UNDECIDED = CacheDecision()


class Overflow(NamedTuple):
    """A prompt that is longer than the context: both in tokens, None where the host did not tell."""

    tokens: int | None
    limit: int | None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """By which alias a request came, and which of its models answers: 1 is the first choice, `reason` tells why an
    earlier one does not. `cut`: the host was let cut the prompt."""

    alias: str
    place: int = 1
    reason: str = ""
    cut: Overflow | None = None


class FinishedRequest(NamedTuple):
    """One line of the ring. `started_at` in seconds since the epoch, `seconds` and `ttft` in seconds.

    `status` is "ok", "cancelled" or the code of the error. `ttft` (to the first non-empty text) and `usage` are None
    where there was none; for a cached answer `usage` is that of the original. `client_id` is the client's own name for
    the request, `options` those of its options that are numbers, `pace` some moments of the answer (seconds, pieces
    so far), `question` and `answer` their words where those are kept (`whole`: with `options` they are all that was
    asked), `route` the alias that it came by. `chat` and `message`: where history has the answer, for a page's request.
    """

    id: str
    principal: str
    flow: str
    model: str
    digest: str
    host: str
    endpoint: str
    status: str
    error: str
    cache: CacheDecision
    started_at: float
    seconds: float
    ttft: float | None
    usage: Usage | None
    spans: tuple[Span, ...]
    client_id: str = ""
    context: TraceContext | None = None
    options: Mapping[str, Json] = _NO_OPTIONS
    pace: Pace = ()
    finish_reason: str = ""
    question: str = ""
    answer: str = ""
    route: Route | None = None
    chat: str = ""
    message: str = ""
    whole: bool = False

    @property
    def measured(self) -> bool:
        """Whether its times say something about a host's speed."""
        return self.status == "ok" and self.cache.outcome not in ("hit", "joined") and self.usage is not None


def new_id() -> str:
    """A name for a request, not a secret."""
    return f"{random.getrandbits(64):016x}"  # noqa: S311


def new_context() -> TraceContext:
    """A trace that begins here."""
    return TraceContext(f"{random.getrandbits(128) or 1:032x}")  # noqa: S311


class OpenSpan:
    """A layer whose time is being taken."""

    __slots__ = ("_attributes", "_began", "_name", "_trace")

    def __init__(self, trace: Trace, name: str, attributes: dict[str, Attribute]) -> None:
        self._trace, self._name, self._attributes = trace, name, attributes
        self._began = trace.elapsed

    def __enter__(self) -> dict[str, Attribute]:
        return self._attributes

    def __exit__(self, *_: object) -> None:
        trace, began = self._trace, self._began
        trace._spans.append(Span(self._name, began, max(began, trace.elapsed), self._attributes))


class Writing:
    """How long the pieces of an answer take to be taken: the writing of them, and a reader that is slow."""

    __slots__ = ("_first", "_handed", "_now", "_spent", "_trace")

    def __init__(self, trace: Trace) -> None:
        self._trace, self._now = trace, trace.now
        self._first = self._handed = self._spent = 0.0

    def begun(self) -> None:
        self._handed = self._now()
        if not self._first:
            self._first = self._handed

    def done(self) -> None:
        self._spent += self._now() - self._handed
        self._handed = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """One span from the first piece to the end; `seconds` of it were spent on handing pieces over."""
        if not self._first:
            return
        if self._handed:  # the reader left with a piece in hand
            self.done()
        trace, began = self._trace, self._first - self._trace.began
        trace.add_span("write", began, trace.elapsed, seconds=self._spent)


class Trace:
    """The running record of one request; times are seconds since it began. `root` is the request whose span a host's
    work belongs to: itself, or for work that several share the one that began it."""

    # What most requests do not have is said once, here.
    client_id = finish_reason = question = chat = message = ""
    whole = False
    options: Mapping[str, Json] = _NO_OPTIONS
    context: TraceContext | None = None
    route: Route | None = None
    ttft: float | None = None
    usage: Usage | None = None
    _pieces, _next, _stride = 0, 1, 4
    _said: list[str] | None = None
    _said_length = 0

    def __init__(self, clock: Clock, *, principal: str = "local", flow: str = "local", own_id: str = "") -> None:
        self.now = clock.monotonic
        self.began = self.now()
        self._phase: str | Callable[[], Phase] = "new"
        self._shared: Trace | None = None
        self._spans: list[Span] = []
        self._pace: list[tuple[float, int]] = []
        self.id = self.root = own_id or new_id()
        self.principal, self.flow = principal, flow
        self.started_at = clock.now()
        self.model = self.endpoint = self._host = self._digest = ""
        self.cache = _UNDECIDED

    @property
    def elapsed(self) -> float:
        return self.now() - self.began

    @property
    def phase(self) -> Phase:
        """What the request waits for now. Cheap and safe to read from another thread."""
        own = Phase(self._phase) if isinstance(self._phase, str) else self._phase()
        return self._shared.phase if self._shared is not None and own.name != "done" else own

    def enter(self, phase: str | Callable[[], Phase]) -> None:
        """Say what the request does now; a callable is asked anew at each reading (a queue position falls)."""
        self._phase = phase

    @property
    def work(self) -> str:
        """By which id the queue knows it: its own, or that of the work that it shares."""
        return self._shared.id if self._shared is not None else self.id

    @property
    def host(self) -> str:
        return self._shared.host if self._shared is not None else self._host

    @host.setter
    def host(self, name: str) -> None:
        self._host = name

    @property
    def digest(self) -> str:
        """The digest of the model that answers; "" while that is not known."""
        return self._shared.digest if self._shared is not None else self._digest

    @digest.setter
    def digest(self, digest: str) -> None:
        self._digest = digest

    def describe(self, request: GenerationRequest, *, words: bool) -> None:
        """What is asked: the options that are numbers, and with `words` the question, and later the answer."""
        self.model, self.endpoint = request.model, request.endpoint
        if options := request.options:
            self.options = plain_options(options)
        if words:
            self.question, self._said = question_of(request)[:TEXT_LIMIT], []
            self.whole = one_question(request) and len(self.options) == len(options)

    def span(self, name: str, **attributes: Attribute) -> OpenSpan:
        """Record a layer's time, also when it fails; what is entered takes attributes that are known later."""
        return OpenSpan(self, name, attributes)

    def add_span(self, name: str, start: float, end: float, **attributes: Attribute) -> None:
        self._spans.append(Span(name, start, max(start, end), attributes))

    def add_host_spans(self, usage: Usage, began: float, first: float) -> None:
        """Lay the durations the host counted on our time line: `began` is the sending, `first` the first record.

        A host tells how long, not when. Loading comes first, prefill ends with the first token, decoding follows;
        what remains between them is the host's own waiting and the network.
        """
        load, prefill, decode = usage.load_ns / 1e9, usage.prefill_ns / 1e9, usage.decode_ns / 1e9
        loaded, last = min(began + load, first), max(first, min(first + decode, self.elapsed))
        self._spans += (
            Span("load", began, loaded, {"seconds": load}),
            Span("prefill", max(loaded, first - prefill), first, {"seconds": prefill, "tokens": usage.prompt_tokens}),
            Span("first token", began, first),
            Span("decode", first, last, {"seconds": decode, "tokens": usage.output_tokens}),
        )

    def share(self, other: Trace) -> None:
        """This request waits for the work recorded in `other` (a generation that several callers share)."""
        self._shared = other

    def passed_on(self, attempt: int) -> tuple[tuple[str, str], ...]:
        """The headers that tell a host which trace its work belongs to; nothing where there is none."""
        return () if self.context is None else self.context.headers(span_id(self.root, attempt))

    @property
    def spans(self) -> tuple[Span, ...]:
        """All spans so far by start. Of shared work only what happened while this request waited."""
        spans = self._spans
        if self._shared is not None:
            shift = self._shared.began - self.began
            moved = [span._replace(start=span.start + shift, end=span.end + shift) for span in self._shared.spans]
            seen = [span._replace(start=max(span.start, 0.0)) for span in moved if span.end > 0 or span.start >= 0]
            spans = [*spans, *seen]
        return tuple(sorted(spans, key=_when))

    def saw_text(self, chunk: Chunk) -> None:
        """A piece of the answer that is not empty has come."""
        self._pieces += 1
        if self._pieces == self._next:
            self._note_pace()
        if self._said is not None and self._said_length < TEXT_LIMIT:
            self._said.append(chunk.text)
            self._said_length += len(chunk.text)

    def _note_pace(self) -> None:
        now = self.elapsed
        if self.ttft is None:
            self.ttft = now
        self._pace.append((now, self._pieces))
        if len(self._pace) == PACE_POINTS:
            del self._pace[1::2]  # the first one stays: it is the first token
            self._stride *= 2
        self._next += self._stride

    def finished(self, status: str, error: str) -> FinishedRequest:
        """The record of it, now that it has ended."""
        seconds, pace = self.elapsed, tuple(self._pace)
        if pace and pace[-1][1] != self._pieces:
            pace += ((seconds, self._pieces),)
        return FinishedRequest(
            self.id, self.principal, self.flow, self.model, self.digest, self.host, self.endpoint, status,
            error[:ERROR_LIMIT], self.cache, self.started_at, seconds, self.ttft, self.usage, self.spans,
            self.client_id, self.context, self.options, pace, self.finish_reason, self.question,
            "".join(self._said)[:TEXT_LIMIT] if self._said else "", self.route, self.chat, self.message, self.whole,
        )  # fmt: skip


def plain_options(options: Mapping[str, Json]) -> Mapping[str, Json]:
    """Those that Ollama knows and that are numbers or switches: nothing that somebody wrote."""
    return {
        name: value
        for name, value in options.items()
        if name in _PLAIN and isinstance(value, int | float) and abs(value) <= _LARGEST
    }
