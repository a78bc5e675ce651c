"""What the screens show, as text and plain values. Pure: no Streamlit, no services, no clock of its own.

Numbers carry their unit; what is unknown is a dash, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.conversations import ConversationRow, MessageState, StoredMessage
from app.core.generation import Span, Usage
from app.core.hosts import LoadedModel

UNKNOWN = "–"
NARROW = "\u202f"  # NARROW NO-BREAK SPACE between a value and its unit


def duration(seconds: float | None) -> str:
    """8 ms, 1.24 s, 14.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    if 0.00005 <= seconds < 0.00095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ttft(seconds: float | None) -> str:
    """Time to first token always in seconds, so that answers compare at a glance: 0.42 s."""
    if seconds is None or seconds < 0:
        return UNKNOWN
    return f"{seconds:.2f} s" if seconds < 9.995 else duration(seconds)


def about(seconds: float) -> str:
    """An estimate, no more exact than it is: about 12 s, about 2 min, about 2.5 h, about 3 days."""
    if seconds < 59.5:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5970:
        return f"about {round(seconds / 60)} min"
    if seconds < 47.5 * 3600:
        return f"about {round(seconds / 3600, 1 if seconds < 9.95 * 3600 else None):g} h"
    return f"about {round(seconds / 86_400)} days"


def size(count: int | None) -> str:
    """Bytes as 104 MiB or 4.37 GiB: three figures."""
    if count is None or count < 0:
        return UNKNOWN
    value = count / 2**20
    unit = "MiB"
    if value >= 999.5:
        value, unit = value / 1024, "GiB"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def kibibytes(count: int) -> str:
    """The size of something small: 0.4 KiB, 12 KiB; from a mebibyte on as `size` has it."""
    value = count / 1024
    return size(count) if value >= 999.5 else f"{value:.{0 if value >= 9.95 else 1}f} KiB"


def about_size(count: int | None) -> str:
    """An estimate in bytes, to two figures: about 940 MiB, about 7.5 GiB."""
    if not count or count < 0:
        return UNKNOWN
    value, unit = (count / 2**20, "MiB") if count < 995 * 2**20 else (count / 2**30, "GiB")
    if value < 9.95:
        return f"about {value:.1f} {unit}"
    step = 10 if value >= 99.5 else 1
    return f"about {round(value / step) * step} {unit}"


def rate(tokens_per_second: float | None) -> str:
    if tokens_per_second is None or not math.isfinite(tokens_per_second):
        return UNKNOWN
    return f"{tokens_per_second:.0f} tok/s" if tokens_per_second >= 999.5 else f"{tokens_per_second:.1f} tok/s"


def bits(bpw: float | None) -> str:
    """True bits per weight: 4.85 bpw."""
    return UNKNOWN if bpw is None else f"{bpw:.2f} bpw"


def grouped(number: int) -> str:
    """12 034: thousands apart."""
    return f"{number:,}".replace(",", NARROW)


def count(number: int, noun: str) -> str:
    """1 token, 128 tokens, 12 034 tokens, 3 entries."""
    if number == 1:
        return f"1 {noun}"
    return f"{grouped(number)} " + (f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s")


def ago(seconds: float) -> str:
    """How long something is past, in its largest unit: just now, 12 s ago, 3 min ago, 5 h ago, 2 days ago."""
    if seconds < 2:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h ago"
    return f"{count(int(seconds // 86_400), 'day')} ago"


def percent(fraction: float | None) -> str:
    """Whole percent, rounded down: 100 % is only said when it is done."""
    return UNKNOWN if fraction is None else f"{math.floor(min(1.0, max(0.0, fraction)) * 100)} %"


def sentence(text: str) -> str:
    """A message as a sentence: a capital in front, a full stop behind."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", ":", "…")) else ".") if text else ""


def plain(text: str) -> str:
    """A text that people or models wrote, for a label that reads Markdown: nothing in it is markup."""
    return "".join("\\" + c if c in "\\`*_{}[]()#+-.!|<>~:$" else c for c in text)


ORDINALS = ("next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def between(low: float, high: float) -> str:
    """A range of seconds, no more exact than it is: 4–9 s, 48 s–2 min, 2–3 min; "a moment" below a second."""
    if high < 1:
        return "a moment"
    if low < 59.5 <= high:
        return f"{math.floor(max(0.0, low))} s–{math.ceil(high / 60)} min"
    step, unit = (1, "s") if high < 59.5 else (60, "min")
    first, last = math.floor(max(0.0, low) / step), math.ceil(high / step)
    return f"{last} {unit}" if first == last else f"{first}–{last} {unit}"


def waiting(phase: str, variant: str, position: int | None = None, eta: tuple[float, float] | None = None) -> str:
    """What an answer waits for, in words. `eta`: between which seconds its turn comes."""
    if phase in ("queued", "paused"):
        place = ORDINALS[position - 1] if position and position <= len(ORDINALS) else f"number {position}"
        words = f"{place} in the queue" if position else "waiting in the queue"
        if phase == "paused":
            return f"{words}, which an administrator has paused"
        return words + (f", begins in {between(*eta)}" if eta is not None else "")
    return {
        "held": "no model host answers; waiting a moment for one to come back",
        "cache": "looking in the cache",
        "loading": f"loading {variant}…",
        "prefill": "reading the prompt…",
        "decode": "writing…",
    }.get(phase, "asking the model…")


def answer_facts(message: StoredMessage, variant: str, now: float) -> tuple[str, ...]:
    """The parts of the quiet line under an answer: variant, TTFT, decode speed, tokens, and how it ended.

    `now` in seconds since the epoch: an answer out of the cache says how long ago it was made.
    """
    facts = [variant]
    if message.ttft is not None:
        facts.append(f"TTFT {ttft(message.ttft)}")
    usage = message.usage
    if usage is not None and not message.cached and usage.decode_tps is not None:
        facts.append(rate(usage.decode_tps))
    if usage is not None and usage.output_tokens:
        facts.append(count(usage.output_tokens, "token"))
    if message.cached:
        made = None if message.cached_age is None else message.created_at - message.cached_age
        facts.append("cached" if made is None else f"cached, {ago(now - made)}")
    if message.answer.done_reason == "length":
        facts.append("cut at the token limit")
    facts += [fact for span in message.spans if span.name == "alias" for fact in _alias_facts(span)]
    ended = STOPPED_BY.get(message.answer.done_reason) if message.state is MessageState.STOPPED else None
    ended = ended or ENDED.get(message.state)
    if ended and (message.content or message.state is not MessageState.ERROR):
        facts.append(ended)
    return tuple(facts)


def _alias_facts(span: Span) -> Iterator[str]:
    """By which name it was asked, whether a fallback answered, and whether the prompt did not fit."""
    told = span.attributes
    place = told.get("place")
    yield f"as {told.get('alias')}" + (f", choice {place}" if isinstance(place, int) and place > 1 else "")
    if told.get("cut"):
        known = told.get("tokens") and told.get("limit")
        sizes = f": {told['tokens']} tokens, {told['limit']} fit" if known else ""
        yield f"the beginning did not fit the context{sizes}"


STOPPED_BY = {  # why it was, where the reader did not press Stop
    "operator": "ended by an administrator",
    "page closed": "stopped: its page was closed while others waited",
}
ENDED = {
    MessageState.STOPPED: "stopped",
    MessageState.INTERRUPTED: "interrupted",
    MessageState.ERROR: "broke off",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a waterfall; `left` and `width` in percent of the whole. `depth`: inside how many others it is."""

    name: str
    label: str
    left: float
    width: float
    time: str
    note: str = ""
    depth: int = 0


SPAN_LABELS = {
    "cache": "Cache",
    "queue": "Queue",
    "connect": "Connect",
    "load": "Load",
    "prefill": "Prefill",
    "first_token": "First token",
    "decode": "Decode",
}


def waterfall(spans: Sequence[Span], usage: Usage | None) -> tuple[Bar, ...]:
    """The rows for queue, load, prefill, decode and whatever else took part, on one time axis."""
    known = [span for span in spans if span.name.replace(" ", "_") in SPAN_LABELS]
    if {"load", "prefill"} & {span.name for span in known}:  # the wait for the first token is these two
        known = [span for span in known if span.name.replace(" ", "_") != "first_token"]
    end = max((span.end for span in known), default=0.0)
    if end <= 0:
        return ()
    return tuple(
        Bar(
            name := span.name.replace(" ", "_"),
            SPAN_LABELS[name],
            round(100 * span.start / end, 2),
            round(max(0.4, 100 * span.seconds / end), 2),
            duration(span.seconds),
            _span_note(name, usage),
        )
        for span in known
    )


def _span_note(name: str, usage: Usage | None) -> str:
    if usage is None:
        return ""
    if name == "prefill" and usage.prompt_tokens:
        return count(usage.prompt_tokens, "token")
    if name == "decode" and usage.output_tokens:
        return f"{count(usage.output_tokens, 'token')}, {rate(usage.decode_tps)}"
    return ""


@dataclass(frozen=True, slots=True)
class Day:
    """Conversations of one stretch of time, under one heading."""

    title: str
    rows: tuple[ConversationRow, ...]


def by_day(rows: Iterable[ConversationRow], now: datetime) -> tuple[Day, ...]:
    """Today, Yesterday, the last seven days, then months. Order within is kept. `now` bears the user's zone."""
    groups: dict[str, list[ConversationRow]] = {}
    for row in rows:
        then = datetime.fromtimestamp(row.updated_at, now.tzinfo)
        groups.setdefault(_day_title(then, now), []).append(row)
    return tuple(Day(title, tuple(members)) for title, members in groups.items())


MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _day_title(then: datetime, now: datetime) -> str:
    days = (now.date() - then.date()).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    if days < 7:
        return "Last seven days"
    return MONTHS[then.month - 1] + ("" if then.year == now.year else f" {then.year}")


def until(moment: datetime, now: datetime) -> str:
    """When a loaded model goes: 'until 14:32', 'for good' where it is kept for ever (Ollama says year 2300 or so)."""
    if moment - now > timedelta(days=365):
        return "kept loaded"
    local = moment.astimezone(now.tzinfo)
    return f"until {local:%H:%M}" if local.date() == now.date() else f"until {local.day} {MONTHS[local.month - 1][:3]}"


def in_memory(model: LoadedModel, now: datetime) -> tuple[str, str]:
    """(what a loaded model holds, where and until when; the same at length). Without a GPU nothing is said of one."""
    held, when = size(model.size), until(model.expires_at, now)
    if not model.size_vram:
        return f"loaded, {held}, {when}", ""
    share = percent(min(1.0, model.size_vram / model.size) if model.size else None)
    return f"{held}, {share} GPU, {when}", f"Loaded: {held} in memory, {share} of it in that of GPUs."
