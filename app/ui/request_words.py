"""What the Requests view says of requests. Pure: records in, words and plain values out."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

from app.core.generation import GenerationRequest, Json
from app.services.request_trace import Attribute, FinishedRequest, Pace
from app.services.span_tree import SpanNode, tree_of
from app.ui import view_models as vm

COMMAND_LIMIT = 100_000  # bytes; Linux takes one argument of 128 KiB
ENDED = {
    "stop": "the model ended it", "length": "cut at the token limit", "load": "the model was loaded",
    "unload": "the model was unloaded",
}  # fmt: skip
CACHED = ("hit", "joined")
LABELS = vm.SPAN_LABELS | {"host": "Host", "write": "Write"}


def status(record: FinishedRequest) -> tuple[str, str]:
    """How it ended in a word or two, and the tone: good, warn, bad, busy or ""."""
    tones = {"ok": "", "cancelled": "warn", "running": "busy"}
    return record.status.replace("_", " "), tones.get(record.status, "bad")


def clock(moment: float, now: float) -> str:
    """14:32:08 today, 3 Nov 14:32 before."""
    then, today = time.localtime(moment), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M:%S", then)
    return f"{then.tm_mday} {vm.MONTHS[then.tm_mon - 1][:3]} {time.strftime('%H:%M', then)}"


def split_name(model: str) -> tuple[str, str]:
    """The name in two: what may be cut on a narrow page, and the end that tells variants apart."""
    cut = max(model.rfind("-"), model.rfind(":")) + 1
    return model[:cut], model[cut:]


def spent(record: FinishedRequest, name: str) -> float | None:
    """Seconds in the spans of that name; None where there was none."""
    found = [span.seconds for span in record.spans if span.name == name]
    return sum(found) if found else None


def speed(record: FinishedRequest) -> float | None:
    """Decode speed in tokens per second; None where no model ran for it."""
    return record.usage.decode_tps if record.usage and record.cache.outcome not in CACHED else None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list. `what` is the question where it is kept, else what was asked for."""

    id: str
    when: str
    model: tuple[str, str]
    what: str
    user: str
    cache: str
    why: str
    host: str
    queue: str
    ttft: str
    speed: str
    tokens: str
    total: str
    share: float  # of the slowest, 0 to 100
    status: str
    tone: str
    error: str


def row(record: FinishedRequest, user: str, now: float, slowest: float) -> Row:
    words, tone = status(record)
    usage, cached = record.usage, record.cache.outcome == "hit"
    return Row(
        record.id, clock(record.started_at, now), split_name(record.model),
        " ".join(record.question.split()) or _asked_for(record), user, record.cache.outcome, record.cache.reason,
        record.host, vm.duration(spent(record, "queue")), vm.duration(record.ttft), vm.rate(speed(record)),
        vm.grouped(usage.output_tokens) if usage and usage.output_tokens and not cached else vm.UNKNOWN,
        vm.duration(record.seconds), 100 * record.seconds / slowest if slowest > 0 else 0.0, words, tone, record.error,
    )  # fmt: skip


def _asked_for(record: FinishedRequest) -> str:
    kind = "chat of a page" if record.chat else record.endpoint
    return f"{kind}, as {record.route.alias}" if record.route else kind


# -- one request ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure: value, and a quiet line that says what it is made of."""

    name: str
    value: str
    note: str


def figures(record: FinishedRequest) -> tuple[Fact, ...]:
    usage, cached = record.usage, record.cache.outcome in CACHED
    parts = [f"{LABELS[name].lower()} {vm.duration(took)}" for name in ("queue", "load", "prefill")
             if (took := spent(record, name)) is not None and record.ttft is not None]  # fmt: skip
    ended = ENDED.get(record.finish_reason, record.finish_reason) if record.status == "ok" else status(record)[0]
    read = vm.grouped(usage.prompt_tokens) if usage and usage.prompt_tokens else vm.UNKNOWN
    written = vm.grouped(usage.output_tokens) if usage and usage.output_tokens else vm.UNKNOWN
    unknown = "told when it ends" if record.status == "running" else "not measured"
    slow = "no model ran for this one" if cached else "decoding alone" if speed(record) is not None else unknown
    tokens = f"{read} → {written}" if usage else vm.UNKNOWN
    counted = "of the first answer" if cached else "read → written" if usage else unknown.replace("measured", "counted")
    return (
        Fact("In all", vm.duration(record.seconds), "out of the cache" if cached and record.status == "ok" else ended),
        Fact("TTFT", vm.duration(record.ttft), ", ".join(parts) or ("" if record.ttft is not None else "no text came")),
        Fact("Speed", vm.rate(speed(record)), slow),
        Fact("Tokens", tokens, counted),
    )


def cache_story(record: FinishedRequest) -> str:
    """What the cache decided, why, and what would change it."""
    outcome, reason, age = record.cache
    if record.status == "running" and (outcome, reason) == ("bypass", ""):
        return "Not decided yet."
    if outcome == "hit":
        before = f"{vm.duration(age)} before" if age is not None else "before"
        return f"Answered from the cache: the same request was answered {before}. Its times tell of no model."
    told = {
        ("miss", ""): "Looked for it: not there. Where it came to its end, the same request is answered from there.",
        ("refresh", ""): "Made anew because that was asked for; the new answer takes the old one's place.",
        ("bypass", "not deterministic"): "Not looked for: an answer that is drawn by chance may differ each time. "
        "Temperature 0, or a seed, lets it be kept.",
        ("bypass", "asked for"): "Left out, because the request asked for that.",
        ("bypass", "loads or unloads a model"): "Not looked for: it loads or unloads a model, and asks for no text.",
        ("bypass", "not a generation"): "Not looked for: only answers in words are kept.",
        ("bypass", ""): "Not looked for: the request ended before.",
    }
    usual = {"miss": "Looked for it: not there", "joined": "Shared", "refresh": "Made anew", "bypass": "Not looked for"}
    return (
        told.get((outcome, reason))
        or f"{usual.get(outcome, outcome)}: {vm.sentence(reason)[:1].lower()}{vm.sentence(reason)[1:]}"
    )


def facts(record: FinishedRequest, user: str, flow: str) -> tuple[tuple[str, str], ...]:
    """Where it came from, and what answered: what is known."""
    tries = sum(span.name == "host" for span in record.spans)
    route = record.route
    told = (
        ("Host", record.host + (f", after {vm.count(tries - 1, 'failed attempt')}" if tries > 1 else "")),
        ("Variant", record.model),
        ("Digest", record.digest[:12]),
        (
            "Alias",
            f"{route.alias}, choice {route.place}" + (f": {route.reason}" if route.reason else "") if route else "",
        ),
        ("User", user),
        ("From", flow),
        ("Asked for", record.endpoint),
        ("Id", record.id),
        ("Client's id", record.client_id),
        ("Trace", record.context.trace_id if record.context else ""),
    )
    return tuple((name, value) for name, value in told if value)


def axis(record: FinishedRequest) -> float:
    """Seconds that the time axis of a request covers: all of it."""
    return max([record.seconds, *(span.end for span in record.spans)])


def layers(record: FinishedRequest) -> tuple[vm.Bar, ...]:
    """Every span as a row, on the axis of the whole request."""
    nodes = list(_nodes(tree_of(record)))
    if {"load", "prefill"} & {node.name for node, _ in nodes}:  # the wait for the first token is these two
        nodes = [(node, depth) for node, depth in nodes if node.name != "first token"]
    whole = round(axis(record) * 1e9) or 1
    return tuple(
        vm.Bar(
            node.name.replace(" ", "-"), LABELS.get(node.name.replace(" ", "_"), node.name.capitalize()),
            round(100 * node.start_ns / whole, 2), round(max(0.4, 100 * node.duration_ns / whole), 2),
            vm.duration(_took(node)), _note(node), depth,
        )
        for node, depth in nodes
    )  # fmt: skip


def _nodes(node: SpanNode, depth: int = 0) -> Iterator[tuple[SpanNode, int]]:
    for child in node.children:
        if child.name == "key":  # microseconds of the cache's own
            continue
        yield child, depth
        yield from _nodes(child, depth + 1)


def _took(node: SpanNode) -> float:
    """Seconds; of what a host told, what it said and not how much of it fits into our time line."""
    said = node.attributes.get("seconds") if node.name in ("load", "prefill", "decode") else None
    return node.duration_ns / 1e9 if said is None else _number(said)


def _note(node: SpanNode) -> str:
    told = node.attributes
    if node.name == "host":
        attempt = told.get("attempt", 1)
        return f"{told.get('host')}: {told.get('outcome')}" + (f", attempt {attempt}" if attempt != 1 else "")
    if node.name in ("prefill", "decode"):
        tokens, seconds = _number(told.get("tokens")), _number(told.get("seconds"))
        return f"{vm.count(int(tokens), 'token')}, {vm.rate(tokens / seconds)}" if tokens and seconds else ""
    if node.name == "write":
        return f"handing over took {vm.duration(_number(told.get('seconds')))}"
    if node.name == "queue" and told.get("again"):
        return "for another host"
    return str(told["outcome"]) if "outcome" in told else ""


def _number(value: Attribute | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the time axis; `left` in percent."""

    left: float
    label: str


def ticks(seconds: float) -> tuple[Tick, ...]:
    """Three to six round marks, the first at 0."""
    if seconds <= 0:
        return ()
    power = 10.0 ** math.floor(math.log10(seconds / 5))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= seconds / 5)
    return tuple(
        Tick(100 * place * step / seconds, _mark(place * step, step) if place else "0")
        for place in range(int(seconds / step) + 1)
        if place * step <= 0.94 * seconds  # the last one's words would stand outside
    )


def _mark(moment: float, step: float) -> str:
    """50 ms, 1.5 s, 3 min 20 s: with no more digits than the steps need."""
    if step >= 60 or moment >= 60:
        return vm.duration(moment)
    value, unit, step = (1000 * moment, "ms", 1000 * step) if moment < 0.9995 else (moment, "s", step)
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f} {unit}"


@dataclass(frozen=True, slots=True)
class Growth:
    """The pieces of an answer over time: `points` in percent of the whole time and of all pieces."""

    points: tuple[tuple[float, float], ...]
    total: str
    note: str
    told: str


def growth(record: FinishedRequest) -> Growth | None:
    """None where fewer than three moments are known: two make a line that says nothing."""
    whole = axis(record)
    if len(record.pace) < 3 or whole <= 0:
        return None
    pieces = record.pace[-1][1]
    points = tuple((100 * min(1.0, at / whole), 100 * so_far / pieces) for at, so_far in record.pace)
    rates = _rates(record.pace)
    # What a host had written before we came to read it arrives at once, and its pace is nobody's.
    late = record.usage is not None and record.pace[-1][0] - record.pace[0][0] < record.usage.decode_ns / 2e9
    note = "came together" if late else f"{min(rates):.0f}–{max(rates):.0f} a second" if rates else ""
    total = vm.count(pieces, "piece")
    return Growth(points, total, note, f"{total} in {vm.duration(record.seconds)}, {note}")


def _rates(pace: Pace) -> list[float]:
    """Pieces a second, each over an eighth of the answer at least: pieces that arrive together are no speed."""
    (at, so_far), rates = pace[0], []
    least = max(0.05, (pace[-1][0] - at) / 8)
    for later, more in pace[1:]:
        if later - at >= least:
            rates.append((more - so_far) / (later - at))
            at, so_far = later, more
    return rates


# -- asking once more -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """A line for a shell; `missing` says what has to be put into it."""

    text: str
    missing: str = ""


def curl(record: FinishedRequest, request: GenerationRequest | None, base: str, *, key: bool) -> Command:
    """The request as a command. `base` is where Loupe is, `key`: it wants one."""
    missing = ""
    if request is not None:
        text = _command(request.endpoint, request.body, base, key=key)
        if len(text.encode()) <= COMMAND_LIMIT:
            return Command(text)
        missing = "it is longer than a command line may be"
    body: dict[str, Json] = {"model": record.route.alias if record.route else record.model}
    if record.endpoint == "chat":
        body["messages"] = [{"role": "user", "content": "…"}]
    else:
        body["prompt" if record.endpoint in ("generate", "embeddings") else "input"] = "…"
    if record.options:
        body["options"] = dict(record.options)
    return Command(_command(record.endpoint, body, base, key=key), missing or "put the question where “…” stands")


def _command(endpoint: str, body: object, base: str, *, key: bool) -> str:
    known = body if isinstance(body, dict) else dict(body)  # type: ignore[call-overload]
    parts = ["curl -sN", shlex.quote(f"{base}/api/{endpoint}")]
    if key:
        parts.append('-H "Authorization: Bearer $LOUPE_KEY"')
    return " ".join([*parts, "-d", shlex.quote(json.dumps(known, ensure_ascii=False))])


AGAIN_HEAD = ("", "In all", "TTFT", "Queue", "Load", "Prefill", "Speed", "Written", "Cache")


def again_row(name: str, record: FinishedRequest) -> tuple[str, ...]:
    """One request among those that asked the same."""
    written = vm.grouped(record.usage.output_tokens) if record.usage else vm.UNKNOWN
    waits = [vm.duration(spent(record, each)) for each in ("queue", "load", "prefill")]
    return (
        name, vm.duration(record.seconds), vm.duration(record.ttft), *waits, vm.rate(speed(record)), written,
        record.cache.outcome,
    )  # fmt: skip
