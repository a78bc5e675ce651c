"""Forcing a known text on a model in one request, and reading what it thought of every token.

`format: {"const": text}` compiles to a grammar of that one JSON string, while the logprobs that come back are those of
the whole vocabulary before the grammar. Source of the holes that are looked after here: llama-server and Ollama 0.33.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.comparison.bench import Reply
from app.comparison.divergence import TOP, Position
from app.comparison.results import Alternative, ProbeText
from app.core.generation import Json

FIXED_OPTIONS: Mapping[str, Json] = {
    "num_ctx": 4096,
    "num_batch": 512,
    "draft_num_predict": 0,  # accepted drafts come with a probability of 1 and without alternatives
    "temperature": 0,
    "top_k": 1,
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "seed": 1,
}
_HOLE = 40  # characters that may be missing between two entries
_DIGITS = 6  # of a logprob that is kept: single precision tells no more
_LIKE_ASCII = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "æ": "ae", "ø": "o", "×": "x"}
    | dict.fromkeys("–—−•", "-") | dict.fromkeys("‘’", "'") | dict.fromkeys("“”„«»\"\\", "") | {"…": "...", "÷": "/"}
)  # fmt: skip


class RowState(StrEnum):
    OK = "ok"
    DEGENERATE = "degenerate"  # the host broke the answer off: more than 30 equal pieces in a row
    OTHER_TEXT = "other text"  # what came is not the text that was to be forced
    NO_LOGPROBS = "no logprobs"


@dataclass(frozen=True, slots=True)
class TextRows:
    """What one model thought of one text. `forced` and `prompt_tokens` are the host's counts."""

    text_id: str
    positions: tuple[Position, ...]
    state: RowState = RowState.OK
    forced: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0


def plain(answer: str) -> str:
    """The text of an answer that can be forced: one line of ASCII without quotes and backslashes, whose JSON string is
    itself between quotes. Letters with accents become what one writes where there are none."""
    flat = unicodedata.normalize("NFC", answer).translate(_LIKE_ASCII)
    bare = unicodedata.normalize("NFKD", flat).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", re.sub(r"[\x00-\x1f\x7f]", " ", bare)).strip()


def speaking_body(prompt: str, tokens: int, options: Mapping[str, Json]) -> dict[str, Json]:
    """The body of `/api/generate` that lets a model answer within one JSON string of printable ASCII.

    What it says there is what it will be held to, at the very contexts that a forced text has: greedy, it takes at each
    place the likeliest token of more than a forced text would leave it, so its rows are those of the forced text.
    """
    return {
        "prompt": prompt,
        "raw": True,
        "think": False,
        "logprobs": True,
        "top_logprobs": TOP,
        "format": {"type": "string", "pattern": r"^[ !#-\[\]-~]+$"},
        "options": {**options, "num_predict": tokens + 1},
    }


def spoken(text: str) -> str | None:
    """The text of one JSON string, cut off or closed (grammars allow white space behind it); None for another form."""
    closed = text.rstrip()
    inner = closed[1:-1] if len(closed) > 1 and closed.endswith('"') else text[1:]
    return inner if text.startswith('"') and json.dumps(inner) == f'"{inner}"' else None


def forcing_body(text: ProbeText, options: Mapping[str, Json]) -> dict[str, Json]:
    """The body of `/api/generate` that forces the answer after the prompt. There is room for a token a character."""
    return {
        "prompt": text.prompt,
        "raw": True,
        "think": False,
        "logprobs": True,
        "top_logprobs": TOP,
        "format": {"const": text.answer},
        "options": {**options, "num_predict": len(text.answer) + 8},
    }


def read_rows(text: ProbeText, reply: Reply) -> TextRows:
    """The rows of one reply. What is missing is missing: it is no position, and never one that agrees."""
    found = positions(text.answer, reply.logprobs)
    return TextRows(
        text.id, found, _state(text.answer, reply, found), reply.usage.output_tokens, reply.usage.prompt_tokens,
        reply.seconds,
    )  # fmt: skip


def _state(answer: str, reply: Reply, found: Sequence[Position]) -> RowState:
    if not reply.complete:
        return RowState.DEGENERATE
    if spoken(reply.text) != answer:
        return RowState.OTHER_TEXT
    return RowState.OK if any(position.top for position in found) else RowState.NO_LOGPROBS


def positions(answer: str, entries: Sequence[Mapping[str, Json]]) -> tuple[Position, ...]:
    """Entries placed in the text by what they spell. The opening quote is dropped, and what begins at the closing one;
    where an entry does not follow on the one before (a hole), the next place that it fits is taken."""
    whole, at = json.dumps(answer), 0
    placed = []
    for entry in entries:
        token = entry.get("token")
        if not isinstance(token, str) or not token:
            continue
        start = at if whole.startswith(token, at) else whole.find(token, at, at + _HOLE + len(token))
        if start < 0:
            continue
        at = start + len(token)
        if 1 <= start <= len(answer):
            placed.append(Position(start - 1, token, _logprob(entry.get("logprob")), _alternatives(entry)))
    return tuple(placed)


def _alternatives(entry: Mapping[str, Json]) -> tuple[Alternative, ...]:
    listed = entry.get("top_logprobs")
    found = [
        Alternative(str(one.get("token", "")), _logprob(one.get("logprob")))
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]
    return tuple(sorted(found, key=lambda one: -one.logprob))


def _logprob(value: Json) -> float:
    number = float(value) if isinstance(value, int | float) else -math.inf
    return round(max(number, -1e6), _DIGITS) if number == number else -1e6  # noqa: PLR0124 — not a number


def rows_to_json(rows: TextRows) -> dict[str, Json]:
    """Compact enough to keep: some 400 bytes a token."""
    listed: list[Json] = [
        [p.offset, p.token, p.logprob, [[one.token, one.logprob] for one in p.top]] for p in rows.positions
    ]
    return {
        "text": rows.text_id, "state": rows.state.value, "forced": rows.forced, "prompt_tokens": rows.prompt_tokens,
        "seconds": rows.seconds, "positions": listed,
    }  # fmt: skip


def rows_from_json(data: Mapping[str, Json]) -> TextRows:
    """Raises `ValueError` for what `rows_to_json` did not make."""
    try:
        listed: list[list] = data["positions"]  # type: ignore[assignment,type-arg]
        found = tuple(
            Position(int(at), str(token), float(logprob), tuple(Alternative(str(t), float(lp)) for t, lp in top))
            for at, token, logprob, top in listed
        )
        return TextRows(
            str(data["text"]), found, RowState(str(data["state"])), int(data["forced"]),  # type: ignore[arg-type]
            int(data["prompt_tokens"]), float(data["seconds"]),  # type: ignore[arg-type]
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"these are no rows of a probe: {problem}") from problem


def text_to_json(text: ProbeText) -> dict[str, Json]:
    return {
        "id": text.id, "domain": text.domain, "question": text.question, "answer": text.answer, "prompt": text.prompt,
    }  # fmt: skip


def text_from_json(data: Mapping[str, Json]) -> ProbeText:
    """Raises `ValueError` where a field is missing."""
    names = ("id", "domain", "question", "answer", "prompt")
    if not all(isinstance(data.get(name), str) for name in names):
        raise ValueError(f"a probe text has the fields {', '.join(names)}, all of them texts")
    return ProbeText(*(str(data[name]) for name in names))
