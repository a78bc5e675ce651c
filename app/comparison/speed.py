"""Load, first token, prefill and decode speed of one variant, from requests made for it: functions over a `Bench`.

Raw prompts without a template, each with a nonce before it (the prompt cache would make prefill 70 times as fast), a
fixed context, no logprobs and no format. A measurement that other work disturbed is made again, twice at most.
`quantization.md` 4.1 says where each rule comes from.
"""

from __future__ import annotations

import math
import secrets
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.comparison.bench import Bench, Reply
from app.comparison.intervals import exponential, mean_of, plain_t
from app.comparison.results import DepthSpeed, Estimate, Speed
from app.core.generation import Json

TTFT_TOKENS = 256
SHORT, LONG = 128, 640  # tokens of the two prompts whose difference is the prefill speed
SHORTEST = 32  # tokens of the shorter one where reading is slow; the longer one is that of the first token
SLOW_READING = 0.5  # seconds for the prompt of a first token
DECODE_TOKENS, LEAST_TOKENS = 64, 48
FIRST_TOKENS = 16
WARM_TOKENS = 8
AGAIN = 2  # times that a disturbed measurement is made anew
SLOW_LOAD = 5.0  # seconds; models that take longer are loaded less often
CACHED_TPS = 25.0  # times the usual prefill speed: then the prompt came from a cache
DEPTHS = (0, 2048, 8192)
SUSTAINED_SECONDS = 60.0
RANGE_LEAST = 2  # samples that a range or an interval needs
Joules = Callable[[], Awaitable[float | None]]


async def no_joules() -> float | None:
    """Of a machine whose counters nobody here can read."""
    return None


_TEXT = (
    "river stone market lantern copper garden window letter winter harbour engine silver forest bridge morning paper "
    "candle village mountain thread island kitchen summer railway button feather orchard mirror corner basket "
    "evening station meadow hammer blanket compass valley ribbon shadow pocket"
)
_WORDS = _TEXT.split()
_OPENINGS = (
    "Once upon a time, in a small town by the sea, there lived a clockmaker who",
    "The history of the city begins with a river, a bridge and a market. In the first years",
    "A long list of things that one can see on a walk through a forest in autumn: first,",
    "Here is a detailed explanation of how bread is made, step by step. First,",
    "The expedition left the harbour at dawn. On the first day",
)


@dataclass(slots=True)
class SpeedSamples:
    """What was measured so far, in the order of measuring. Seconds and tokens a second; `decodes` one list a round."""

    loads: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    prefills: list[float] = field(default_factory=list)
    absurd: int = 0  # prompt pairs whose longer one was read faster: caching
    decodes: list[list[float]] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    words_per_token: float = 0.0
    disturbed: int = 0  # measurements that other work spoiled even when repeated
    short_pairs: bool | None = None  # whether reading is slow, see `measure_answers`; None before it is known


@dataclass(frozen=True, slots=True)
class Visit:
    """How much one visit to a variant measures. The first load of the first visit brings the file into the page cache
    and is not counted."""

    loads: int
    ttfts: int
    pairs: int
    decodes: int
    first: bool = False


QUICK_VISITS = (Visit(2, 3, 2, 2, first=True), Visit(2, 2, 1, 2))
DEEP_VISITS = (Visit(2, 5, 4, 4, first=True), Visit(2, 5, 4, 4))


async def measure_load(
    bench: Bench, model: str, options: Mapping[str, Json], visit: Visit, samples: SpeedSamples
) -> None:
    """Leaves the model loaded and warm."""
    for turn in range(visit.loads):
        await bench.unload(model)
        seconds = await bench.load(model, options)
        if seconds > 0 and not (visit.first and turn == 0):
            samples.loads.append(seconds)
        if seconds > SLOW_LOAD and turn == 0 and samples.loads:
            break
    reply = await _asked(bench, model, options, 72, WARM_TOKENS)
    if reply.usage.prompt_tokens:
        samples.words_per_token = 72 / reply.usage.prompt_tokens


async def measure_answers(
    bench: Bench, model: str, options: Mapping[str, Json], visit: Visit, samples: SpeedSamples, joules: Joules
) -> None:
    """First token, prefill and decode of a variant that is loaded.

    Where reading is slow, each prompt of a first token is also the longer one of a pair, and `visit.pairs` are left
    out: five such pairs add less than a tenth of the tokens that three long ones do to those of the first tokens, and
    five give the narrower interval. Where it is fast, the times of short prompts are too short for that, and long ones
    cost nothing. Models that are compared are to be measured alike: `samples.short_pairs` may be set before.
    """
    context = _context(options)
    for _ in range(visit.ttfts):
        short = await _read_shortest(bench, model, options, samples) if samples.short_pairs else None
        filled = partial(_filled, bench, model, options, min(TTFT_TOKENS, context // 2), 2, samples)
        reply = await _clean(filled, samples)
        samples.ttfts.append(reply.ttft)
        if samples.short_pairs is None:
            samples.short_pairs = reply.usage.prefill_ns > SLOW_READING * 1e9
        if samples.short_pairs:
            _add_pair(short or await _read_shortest(bench, model, options, samples), reply, samples)
    for _ in range(0 if samples.short_pairs else visit.pairs):
        await _measure_pair(bench, model, options, context, samples)
    samples.decodes.append([])
    await _long_answer(bench, model, options, FIRST_TOKENS)  # the first repetition is dropped, so a short one will do
    for _ in range(visit.decodes):
        before = await joules()
        reply = await _clean(partial(_long_answer, bench, model, options), samples)
        after = await joules()
        speed = reply.usage.decode_tps
        if speed is None or reply.usage.output_tokens < LEAST_TOKENS:
            continue
        samples.decodes[-1].append(speed)
        if before is not None and after is not None:
            samples.joules.append((after - before) / reply.usage.output_tokens)


async def measure_depths(
    bench: Bench, model: str, options: Mapping[str, Json], samples: SpeedSamples, depths: Sequence[int] = DEPTHS
) -> tuple[DepthSpeed, ...]:
    """Decode speed with so many tokens before it, as far as the context goes."""
    found = []
    for depth in depths:
        if depth + 2 * DECODE_TOKENS > _context(options):
            continue
        speeds = []
        for _ in range(3):
            filled = partial(_filled, bench, model, options, depth, DECODE_TOKENS, samples)
            reply = await _clean(filled if depth else partial(_long_answer, bench, model, options), samples)
            if reply.usage.decode_tps and reply.usage.output_tokens >= LEAST_TOKENS // 2:
                speeds.append(reply.usage.decode_tps)
        if speeds:
            found.append(DepthSpeed(depth, log_t(speeds)))
    return tuple(found)


async def measure_sustained(
    bench: Bench, model: str, options: Mapping[str, Json], seconds: float = SUSTAINED_SECONDS
) -> float | None:
    """Decode speed in the last quarter of so many seconds of decoding to that in the first quarter."""
    speeds: list[tuple[float, float]] = []
    spent = 0.0
    while spent < seconds:
        reply = await _long_answer(bench, model, options)
        spent += max(reply.seconds, 0.05)
        if reply.usage.decode_tps and not reply.disturbed:
            speeds.append((spent, reply.usage.decode_tps))
    first = [speed for at, speed in speeds if at <= seconds / 4]
    last = [speed for at, speed in speeds if at >= seconds * 3 / 4]
    return statistics.median(last) / statistics.median(first) if first and last else None


def speed_of(samples: SpeedSamples) -> tuple[Speed, tuple[str, ...]]:
    """The figures, and for each that is missing the reason."""
    decodes = [speed for one in samples.decodes for speed in one]
    notes = []
    if samples.absurd:
        notes.append("prefill speed was not measured: the host answered from its prompt cache")
    if not decodes:
        notes.append(f"decode speed was not measured: no answer had {LEAST_TOKENS} tokens")
    if not samples.joules:
        notes.append("energy is not measurable here")
    speed = Speed(
        load=spread(samples.loads),
        ttft=spread(samples.ttfts),
        prefill_tps=None if samples.absurd or not samples.prefills else log_t(samples.prefills),
        decode_tps=log_t(decodes) if decodes else None,
        joules_per_token=spread(samples.joules),
    )
    return speed, tuple(notes)


def words(count: int) -> str:
    """So many plain words, other ones each time."""
    at = secrets.randbelow(len(_WORDS))
    return " ".join(_WORDS[(at + 7 * i + i // len(_WORDS)) % len(_WORDS)] for i in range(count))


def spread(values: Sequence[float]) -> Estimate | None:
    """Median and range."""
    if not values:
        return None
    many = len(values) >= RANGE_LEAST
    return Estimate(
        statistics.median(values), min(values) if many else None, max(values) if many else None, len(values)
    )


def log_t(values: Sequence[float]) -> Estimate:
    """Geometric mean with the t interval of the logarithms."""
    return exponential(plain_t(mean_of([[math.log(value)] for value in values])))


# -- requests ---------------------------------------------------------------------------------------------------------


async def _measure_pair(
    bench: Bench, model: str, options: Mapping[str, Json], context: int, samples: SpeedSamples
) -> None:
    short, long = (SHORT, LONG) if context > LONG + WARM_TOKENS else (context // 8, context // 2)
    one = await _clean(partial(_filled, bench, model, options, short, 1, samples), samples)
    two = await _clean(partial(_filled, bench, model, options, long, 1, samples), samples)
    _add_pair(one, two, samples)


async def _read_shortest(bench: Bench, model: str, options: Mapping[str, Json], samples: SpeedSamples) -> Reply:
    return await _clean(partial(_filled, bench, model, options, SHORTEST, 1, samples), samples)


def _add_pair(one: Reply, two: Reply, samples: SpeedSamples) -> None:
    """The shorter prompt and the longer one."""
    tokens = two.usage.prompt_tokens - one.usage.prompt_tokens
    seconds = (two.usage.prefill_ns - one.usage.prefill_ns) / 1e9
    if tokens <= 0:
        return
    usual = statistics.median(samples.prefills) if samples.prefills else math.inf
    if seconds <= 0 or tokens / seconds > CACHED_TPS * usual:
        samples.absurd += 1
    else:
        samples.prefills.append(tokens / seconds)


async def _clean(ask: Callable[[], Awaitable[Reply]], samples: SpeedSamples) -> Reply:
    """An answer that nothing disturbed; after so many tries one that was, which is counted."""
    for _ in range(AGAIN):
        reply = await ask()
        if not reply.disturbed:
            return reply
    reply = await ask()
    samples.disturbed += reply.disturbed
    return reply


async def _filled(
    bench: Bench, model: str, options: Mapping[str, Json], tokens: int, most: int, samples: SpeedSamples
) -> Reply:
    """An answer to a prompt of about so many tokens."""
    return await _asked(bench, model, options, round(tokens * (samples.words_per_token or 0.75)), most)


async def _long_answer(bench: Bench, model: str, options: Mapping[str, Json], tokens: int = DECODE_TOKENS) -> Reply:
    """An answer of at least `LEAST_TOKENS` (where so many are asked for): other openings are tried where the model
    ends early."""
    replies: list[Reply] = []
    for opening in _OPENINGS:
        replies.append(await bench.generate(model, _body(options, f"{_nonce()} {opening}", tokens)))
        if replies[-1].usage.output_tokens >= min(LEAST_TOKENS, tokens * 3 // 4):
            break
    return max(replies, key=lambda reply: reply.usage.output_tokens)


async def _asked(bench: Bench, model: str, options: Mapping[str, Json], count: int, most: int) -> Reply:
    return await bench.generate(model, _body(options, f"{_nonce()} {words(count)}", most))


def _body(options: Mapping[str, Json], prompt: str, most: int) -> dict[str, Json]:
    return {"prompt": prompt, "raw": True, "think": False, "options": {**options, "num_predict": most}}


def _nonce() -> str:
    return f"[{secrets.token_hex(4)}]"


def _context(options: Mapping[str, Json]) -> int:
    context = options.get("num_ctx")
    return context if isinstance(context, int) else 4096
