"""Measuring quality on a host: the reference's own answers, forced on every variant. Figures come from `quality.py`.

The way of a measurement, each step an async generator that yields after every text, so that the caller can show
progress, let others go first, and keep what is there:

    probe = plan(speeds, seconds, available=len(questions))
    texts = [t async for t in answers(bench, reference, questions, probe, options)]      # kept with the rows
    rows = [r async for r in measure(bench, reference, texts, options)]                  # cached by `reference_key`
    control = [r async for r in measure(bench, reference, texts[: probe.control], options)]  # A/A, every time
    for variant: [r async for r in measure(bench, variant, texts, options, done=kept)]

Only decoding is compared with decoding, at the same contexts, one request at a time: then a model set against itself
differs by exactly 0 on a deterministic machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from app.comparison.bench import Bench
from app.comparison.forcing import FIXED_OPTIONS, TextRows, forcing_body, plain, read_rows
from app.comparison.question_set import Question
from app.comparison.results import ProbeText
from app.core.errors import HostRefused
from app.core.generation import Json

PANGRAM = "The quick brown fox jumps over the lazy dog; 1,234.56 + 7 = {x}?\n\n\tPack my box with five dozen jugs."
SINCE = "0.12.11"  # the first Ollama with logprobs
_LEAST, _MOST = 192, 768  # tokens of a quick run for each variant
_TEXTS, _MOST_TEXTS = 24, 32
_SHORTEST, _LONGEST = 8, 24  # tokens of a text
_DEEP_TEXTS, _DEEP_TOKENS = 96, 64
_OVERHEAD = 5  # of a request, in tokens: prefill of a short question, grammar, transport
_FEWEST_CHARACTERS = 16  # of an answer that is worth forcing


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` answers of at most `tokens` tokens; `control` of them are forced on the reference once more."""

    texts: int
    tokens: int
    control: int = 4


def plan(speeds: Sequence[float], seconds: float, *, available: int, deep: bool = False) -> Plan:
    """What fits into `seconds`, for models that decode `speeds` tokens a second, the reference first.

    Planned from speed alone, before anything is known of quality. Many short texts rather than few long ones: texts are
    what the interval counts. Deep runs have their fixed size.
    """
    if deep:
        return Plan(min(_DEEP_TEXTS, available), _DEEP_TOKENS, 8)
    usable = [speed for speed in speeds if speed > 0] or [10.0]
    cost = sum(1 / speed for speed in usable) + 1 / usable[0]  # seconds a token: all are forced, the reference answers
    total = min(_MOST, max(_LEAST, seconds / cost - _OVERHEAD * _TEXTS))
    tokens = round(min(_LONGEST, max(_SHORTEST, total / _TEXTS)))
    return Plan(min(available, max(_TEXTS, min(_MOST_TEXTS, int(total / tokens)))), tokens)


async def answers(
    bench: Bench, reference: str, questions: Sequence[Question], probe: Plan,
    options: Mapping[str, Json] = FIXED_OPTIONS, done: Sequence[ProbeText] = (),
) -> AsyncIterator[ProbeText]:  # fmt: skip
    """The reference's greedy answers to the first questions that it has one to, until `probe.texts` are there.

    Those in `done` are not asked again and not yielded. An answer that is too short, that the
    host broke off, or whose prompt would not fit the context, is passed over. Raises `LoupeError`s of the bench.
    """
    known, found = {text.id for text in done}, len(done)
    for question in questions:
        if found >= probe.texts:
            return
        if question.id not in known and (text := await _answer(bench, reference, question, probe, options)):
            found += 1
            yield text


async def _answer(
    bench: Bench, reference: str, question: Question, probe: Plan, options: Mapping[str, Json]
) -> ProbeText | None:
    prompt = await rendered(bench, reference, question.text)
    asked: dict[str, Json] = {
        "prompt": prompt, "raw": True, "think": False, "options": {**options, "num_predict": probe.tokens},
    }  # fmt: skip
    reply = await bench.generate(reference, asked)
    answer, context = plain(reply.text), options.get("num_ctx")
    room = context - reply.usage.prompt_tokens if isinstance(context, int) else len(answer) + 8
    if not reply.complete or len(answer) < _FEWEST_CHARACTERS or room < probe.tokens * 2:
        return None
    return ProbeText(question.id, question.domain, question.text, answer, prompt)


async def rendered(bench: Bench, model: str, question: str) -> str:
    """The prompt of a chat with this one question; a base model without a template goes on from the question itself."""
    try:
        return await bench.render(model, question) or question
    except HostRefused:
        return question


async def measure(
    bench: Bench, model: str, texts: Sequence[ProbeText], options: Mapping[str, Json] = FIXED_OPTIONS,
    done: Collection[str] = (),
) -> AsyncIterator[TextRows]:  # fmt: skip
    """Forces the texts on `model`, one after the other, leaving out those whose ids are in `done`."""
    for text in texts:
        if text.id not in done:
            yield read_rows(text, await bench.generate(model, forcing_body(text, options)))


async def pangram_tokens(bench: Bench, model: str, options: Mapping[str, Json] = FIXED_OPTIONS) -> int:
    """Tokens of one fixed text: two models that count differently have different tokenizers."""
    body: dict[str, Json] = {
        "prompt": PANGRAM, "raw": True, "think": False, "options": {**options, "num_predict": 1},
    }  # fmt: skip
    return (await bench.generate(model, body)).usage.prompt_tokens


def reference_key(
    digest: str, server: tuple[str, str], probe_set: str, options: Mapping[str, Json], probe: Plan
) -> str:
    """Names answers and rows of a reference that may be used again: its digest, the host's version and build, the
    questions, the options and the plan are the same."""
    whole = {
        "digest": digest, "server": list(server), "probe_set": probe_set, "options": dict(options),
        "plan": asdict(probe), "method": 1,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
