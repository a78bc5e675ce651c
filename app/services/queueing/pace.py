"""How long requests take: learned per host and model from what was measured, and per flow and model from how long
answers became.

Speeds are medians of the last measurements. Lengths are kept with the mark whether the answer ended by itself: of one
that its limit cut, all that is known is that it would have been longer (a censored observation, spread over the longer
ones as Kaplan and Meier do).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from app.core.generation import Usage
from app.services.queueing.tickets import Ticket

KEPT = 12  # measurements behind a speed
LENGTHS_KEPT = 64
FLOWS_KEPT = 512
ENOUGH = 4  # answers after which a flow's own lengths are believed, not everybody's
NEWEST = 0.1  # weight of the newest request in what is usual
DRAWS = 31  # equally likely outcomes that stand for a distribution; prime, so that any stride visits them all
CHARS_PER_TOKEN, TEMPLATE_TOKENS = 4.0, 20.0  # until they were measured
UNSEEN = 128  # tokens that an answer is thought to have before any was seen
COLD_SECONDS = 0.05  # a load shorter than this was none


@dataclass(frozen=True, slots=True)
class Service:
    """What serving one request takes: seconds before its first token without and with loading, and the seconds of
    decoding that are equally likely. `tokens` is the mean length of the answer."""

    start: float
    load: float
    decode: tuple[float, ...]
    tokens: float
    per_token: float = 0.0

    @property
    def mean(self) -> float:
        """Seconds, the model being loaded."""
        return self.start + sum(self.decode) / len(self.decode)


@dataclass(slots=True)
class _Speeds:
    """Seconds: `load` of a load, `prefill` of a prompt token, `decode` of a token of the answer, `other` of a request
    beside these, `whole` of one that reports no counts, `took` of any one, its load not counted."""

    load: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    prefill: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    decode: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    other: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    whole: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    took: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))


class Pace:
    """`known` is False until the first request has ended."""

    def __init__(self) -> None:
        self._speeds: dict[tuple[str, str], _Speeds] = {}
        self._lengths: OrderedDict[Hashable, deque[tuple[int, bool]]] = OrderedDict()
        self._medians: dict[tuple[str, str, str], float | None] = {}
        self._drawn: dict[tuple[int, int | None], list[float]] = {}
        self._chars: deque[float] = deque(maxlen=KEPT)
        self._last_prefill: deque[float] = deque()
        self.usual = (0.0, 0.0)
        """Tokens of the prompt and of the answer that requests have on average, the newest counting most."""

    @property
    def known(self) -> bool:
        return bool(self._speeds)

    @property
    def prefill(self) -> float | None:
        """Seconds a prompt token takes, where one was read last; None until measured."""
        return median(self._last_prefill) if self._last_prefill else None

    def prompt_tokens(self, chars: int) -> int:
        """How many tokens so many characters make, about."""
        per_token = median(self._chars) if self._chars else CHARS_PER_TOKEN
        return round(chars / per_token + TEMPLATE_TOKENS) if chars else 0

    def learn(self, ticket: Ticket, took: float, usage: Usage | None) -> None:
        """A request has ended as it should, after `took` seconds in its slot."""
        self._medians.clear()
        self._drawn.clear()
        place = (ticket.host, ticket.model)
        speeds = self._speeds.get(place) or self._speeds.setdefault(place, _Speeds())
        speeds.took.append(max(0.0, took - (usage.load_ns / 1e9 if usage and ticket.cold else 0.0)))
        if usage is None or not usage.output_tokens:
            speeds.whole.append(took)
            return
        load, prefill, decode = usage.load_ns / 1e9, usage.prefill_ns / 1e9, usage.decode_ns / 1e9
        if load > COLD_SECONDS and ticket.cold:
            speeds.load.append(load)
        else:
            prefill += load  # looking the loaded model up is part of every request
        if usage.prompt_tokens:
            speeds.prefill.append(prefill / usage.prompt_tokens)
            self._last_prefill = speeds.prefill
            if ticket.ask.prompt_chars > 200:
                self._chars.append(ticket.ask.prompt_chars / max(1.0, usage.prompt_tokens - TEMPLATE_TOKENS))
        if usage.output_tokens > 1:  # the first one comes with the end of the prefill: alone it tells no speed
            speeds.decode.append(decode / usage.output_tokens)
        speeds.other.append(max(0.0, took - usage.load_ns / 1e9 - usage.prefill_ns / 1e9 - decode))
        self._learn_length(ticket, usage.output_tokens)
        read, written = self.usual if any(self.usual) else (usage.prompt_tokens, usage.output_tokens)
        self.usual = (
            read + NEWEST * (usage.prompt_tokens - read),
            written + NEWEST * (usage.output_tokens - written),
        )

    def _learn_length(self, ticket: Ticket, tokens: int) -> None:
        most = ticket.ask.most_tokens
        seen = (tokens, most is None or tokens < most)
        for key in _keys(ticket):
            kept = self._lengths.get(key)
            if kept is None:
                kept = self._lengths[key] = deque(maxlen=LENGTHS_KEPT)
            kept.append(seen)
            self._lengths.move_to_end(key)
        while len(self._lengths) > FLOWS_KEPT:
            self._lengths.popitem(last=False)

    def decode(self, host: str, model: str) -> float | None:
        """Tokens/s with which the model writes its answers there; None until any was measured there."""
        speeds = self._speeds.get((host, model))
        seconds = median(speeds.decode) if speeds and speeds.decode else 0.0
        return 1 / seconds if seconds > 0 else None

    def load(self, host: str, model: str) -> float:
        """Seconds to load the model there; 0 until any load was measured."""
        return self._typical("load", host, model) or 0.0

    def typical(self, host: str, model: str) -> float | None:
        """Seconds that requests for the model take there, it being loaded; None until some were measured there."""
        speeds = self._speeds.get((host, model))
        return median(speeds.took) if speeds and speeds.took else None

    def service(self, ticket: Ticket, host: str) -> Service | None:
        """What the request would take on that host ("": on any); None until anything was measured."""
        if not self.known:
            return None
        model, load = ticket.model, self.load(host, ticket.model)
        per_token = self._typical("decode", host, model)
        if not ticket.ask.generates or per_token is None:
            whole = self._typical("whole", host, model)
            if whole is not None:
                return Service(whole, load, (0.0,), 0.0)
        per_token = per_token or 0.0  # answers of one token tell no speed of writing, and take none
        start = (self._typical("other", host, model) or 0.0) + ticket.prompt_tokens * (
            self._typical("prefill", host, model) or 0.0
        )
        lengths = self.lengths(ticket)
        return Service(
            start, load, tuple(length * per_token for length in lengths), sum(lengths) / len(lengths), per_token
        )

    def lengths(self, ticket: Ticket) -> list[float]:
        """Equally likely lengths of its answer in tokens, in no order; the limit it has set itself holds."""
        if not ticket.ask.generates:
            return [0.0]
        most = ticket.ask.most_tokens
        found = [kept for key in _keys(ticket) if (kept := self._lengths.get(key))]
        seen = next((kept for kept in found if len(kept) >= ENOUGH), found[-1] if found else None)
        if seen is None:
            return [float(min(most or UNSEEN, UNSEEN))]
        known = (id(seen), most)
        if known not in self._drawn:
            self._drawn[known] = list(_draws(seen, most))
        drawn, stride = self._drawn[known], 1 + ticket.serial % (DRAWS - 1)
        return [drawn[(index * stride + ticket.serial) % DRAWS] for index in range(DRAWS)]

    def _typical(self, what: str, host: str, model: str) -> float | None:
        """The median there; else of the model anywhere, of the host, of everything."""
        known = (what, host, model)
        if known not in self._medians:
            self._medians[known] = self._median(*known)
        return self._medians[known]

    def _median(self, what: str, host: str, model: str) -> float | None:
        found = {key: list(values) for key, speeds in self._speeds.items() if (values := getattr(speeds, what))}
        for near in (
            [(host, model)],
            [key for key in found if key[1] == model],
            [key for key in found if key[0] == host],
        ):
            values = [value for key in near for value in found.get(key, ())]
            if values:
                return float(median(values))
        everything = [value for values in found.values() for value in values]
        return float(median(everything)) if everything else None


def _keys(ticket: Ticket) -> tuple[Hashable, ...]:
    """Under which lengths are kept, the most telling first."""
    return (ticket.flow, ticket.model), (ticket.flow,), (ticket.model, ""), ()


def _draws(seen: Iterable[tuple[int, bool]], most: int | None) -> Iterator[float]:
    """`DRAWS` equally likely lengths. The weight of a cut answer goes to the longer ones (redistribution to the right);
    where there is none, to the limit that holds now, or half as much again as was seen."""
    weights: list[tuple[float, float]] = []
    ordered = sorted(seen, key=lambda one: (one[0], not one[1]))
    carried, left = 0.0, len(ordered)
    for tokens, ended in ordered:
        weight = 1.0 + carried / left
        carried -= carried / left
        left -= 1
        if ended or (most is not None and tokens >= most) or not left:
            beyond = not ended and (most is None or tokens < most)
            length = tokens * 1.5 if beyond else float(tokens)
            weights.append((min(length, float(most)) if most is not None else length, weight))
        else:
            carried += weight
    total, at, passed = sum(weight for _, weight in weights), 0, 0.0
    for draw in range(DRAWS):
        wanted = (draw + 0.5) / DRAWS * total
        while at < len(weights) - 1 and passed + weights[at][1] < wanted:
            passed += weights[at][1]
            at += 1
        yield weights[at][0]
