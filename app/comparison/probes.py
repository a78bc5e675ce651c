"""Measuring quality on a host: the reference's own answers, forced on every variant. Figures come from `quality.py`.

The way of a measurement, each step an async generator that yields after every text, so that the caller can show
progress, let others go first, and keep what is there:

    probe = plan(speeds, seconds, available=len(questions))
    pairs = [p async for p in answered(bench, reference, questions, probe, options)]  # texts and the reference's rows
    texts, rows = …                                                                   # kept by `reference_key`
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

from app.comparison.bench import Bench, Reply
from app.comparison.forcing import (
    FIXED_OPTIONS,
    TextRows,
    forcing_body,
    plain,
    read_rows,
    speaking_body,
    spoken,
)
from app.comparison.question_set import Question
from app.comparison.results import ProbeText
from app.core.errors import HostRefused
from app.core.generation import Json

PANGRAM = "The quick brown fox jumps over the lazy dog; 1,234.56 + 7 = {x}?\n\n\tPack my box with five dozen jugs."
SINCE = (0, 12, 11)  # the first Ollama with logprobs
_LEAST, _MOST = 192, 768  # tokens of a quick run for each variant
_TEXTS, _MOST_TEXTS = 24, 32
_SHORTEST, _LONGEST = 8, 24  # tokens of a text
_DEEP_TEXTS, _DEEP_TOKENS, _DEEP_CONTROL = 96, 64, 8
_CONTROL = 4
_OVERHEAD = 6  # of a request, in tokens: prefill of a short question, both quotes, transport
_SLOWER = 1.2  # a token with probabilities under a grammar, beside one of plain decoding
_USUAL = 5  # models, the reference among them, that the time is given for
_FEWEST_CHARACTERS = 16  # of an answer that is worth forcing


@dataclass(frozen=True, slots=True)
class Plan:
    """`texts` answers of at most `tokens` tokens; `control` of them are forced on the reference once more."""

    texts: int
    tokens: int
    control: int = _CONTROL


def plan(speeds: Sequence[float], seconds: float, *, available: int, deep: bool = False) -> Plan:
    """What fits into `seconds`, for models that decode `speeds` tokens a second, the reference first. The time is for
    five of them; more take longer in proportion, for each has to be measured well enough to be told from the others.

    Planned from speed alone, before anything is known of quality. Many short texts rather than few long ones: texts are
    what the interval counts. Deep runs have their fixed size.
    """
    if deep:
        return Plan(min(_DEEP_TEXTS, available), _DEEP_TOKENS, _DEEP_CONTROL)
    usable = [speed for speed in speeds if speed > 0] or [10.0]
    seconds *= max(1.0, len(usable) / _USUAL)
    cost = _SLOWER * (sum(1 / speed for speed in usable) + _CONTROL / _TEXTS / usable[0])  # seconds a token
    total = min(_MOST, max(_LEAST, seconds / cost - _OVERHEAD * _TEXTS))
    tokens = round(min(_LONGEST, max(_SHORTEST, total / _TEXTS)))
    return Plan(min(available, max(_TEXTS, min(_MOST_TEXTS, int(total / tokens)))), tokens)


async def answered(
    bench: Bench, reference: str, questions: Sequence[Question], probe: Plan,
    options: Mapping[str, Json] = FIXED_OPTIONS, done: Collection[str] = (),
) -> AsyncIterator[tuple[ProbeText, TextRows]]:  # fmt: skip
    """The reference's greedy answers to the first questions that it has one to, until `probe.texts` are there, each
    with its rows: `measure` of the reference has nothing left to do.

    Questions in `done` are not asked again and their answers not yielded. An answer that is too short, that the host
    broke off, or whose prompt would not fit the context, is passed over. Raises `LoupeError`s of the bench.
    """
    found = len(done)
    for question in questions:
        if found >= probe.texts:
            return
        if question.id in done:
            continue
        prompt = await rendered(bench, reference, question.text)
        if (text := await _answer(bench, reference, question, prompt, probe, options)) is not None:
            found += 1
            yield text


async def _answer(
    bench: Bench, reference: str, question: Question, prompt: str, probe: Plan, options: Mapping[str, Json]
) -> tuple[ProbeText, TextRows] | None:
    """Said within a JSON string, as it will be forced; on a host that cannot, said freely and then forced."""
    try:
        reply = await bench.generate(reference, speaking_body(prompt, probe.tokens, options))
        answer = spoken(reply.text)
    except HostRefused:
        answer = None
    if answer is not None:
        text = ProbeText(question.id, question.domain, question.text, answer, prompt)
        return (text, read_rows(text, reply)) if _usable(answer, reply, probe, options) else None
    asked: dict[str, Json] = {
        "prompt": prompt, "raw": True, "think": False, "options": {**options, "num_predict": probe.tokens},
    }  # fmt: skip
    reply = await bench.generate(reference, asked)
    text = ProbeText(question.id, question.domain, question.text, plain(reply.text), prompt)
    if not _usable(text.answer, reply, probe, options):
        return None
    return text, read_rows(text, await bench.generate(reference, forcing_body(text, options)))


def _usable(answer: str, reply: Reply, probe: Plan, options: Mapping[str, Json]) -> bool:
    context = options.get("num_ctx")
    fits = not isinstance(context, int) or context - reply.usage.prompt_tokens >= probe.tokens * 2
    return reply.complete and fits and len(answer) >= _FEWEST_CHARACTERS


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
        "plan": asdict(probe), "method": 2,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
