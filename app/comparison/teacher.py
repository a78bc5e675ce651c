"""A teacher's answers as training data for a student: greedy answers to a set of questions, with where they are from.

Two forms, both of the usual makers of training tools: `messages` (JSON lines of OpenAI's chat form) and `sharegpt` (one
JSON list of conversations). Beside them a manifest says which model answered, by digest, under which licence, with
which options: data without that cannot be used by anybody careful.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.comparison.bench import Bench, Reply
from app.comparison.question_set import Question
from app.comparison.report_words import moment
from app.core.generation import Json
from app.models.licenses import is_free, license_name, restriction

# Greedy, and no more than that: a penalty or a seed of somebody's own would make other answers than the teacher's.
OPTIONS: Mapping[str, Json] = {"temperature": 0, "seed": 1, "num_ctx": 4096}
ANSWER_TOKENS = 1024


class Form(StrEnum):
    MESSAGES = "messages"
    SHAREGPT = "sharegpt"


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question and the teacher's answer. `whole` is false where it was cut off: by the limit of tokens, by the host's
    guard against repetition, or before it said anything."""

    id: str
    domain: str
    question: str
    answer: str
    system: str = ""
    thinking: str = ""
    whole: bool = True
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who answered. `license` is the text that the model carries."""

    model: str
    digest: str
    quantization: str
    license: str
    server: str
    loupe: str
    prompt_set: str
    made_at: float
    options: Mapping[str, Json] = field(default_factory=lambda: dict(OPTIONS))


async def lessons(
    bench: Bench, model: str, questions: Sequence[Question], *, system: str = "", tokens: int = ANSWER_TOKENS,
    done: Collection[str] = (),
) -> AsyncIterator[Lesson]:  # fmt: skip
    """The answers one by one, in the order of the questions; those in `done` (by id) are not asked again.

    Raises the bench's `LoupeError`s.
    """
    options: dict[str, Json] = {**OPTIONS, "num_predict": tokens}
    for question in questions:
        if question.id in done:
            continue
        body: dict[str, Json] = {"prompt": question.text, "options": options, "think": False}
        if system:
            body["system"] = system
        yield _lesson(question, system, await bench.generate(model, body))


def _lesson(question: Question, system: str, reply: Reply) -> Lesson:
    answer = reply.text.strip()
    whole = reply.complete and reply.done_reason == "stop" and bool(answer)
    return Lesson(
        question.id, question.domain, question.text, answer, system, whole=whole,
        tokens=reply.usage.output_tokens or 0,
    )  # fmt: skip


def training_data(taught: Sequence[Lesson], form: Form) -> str:
    """The file of one form. Answers that are not whole are left out: a student would learn to stop in a sentence."""
    kept = [lesson for lesson in taught if lesson.whole]
    if form is Form.MESSAGES:
        return "".join(json.dumps({"messages": _messages(one)}, ensure_ascii=False) + "\n" for one in kept)
    told = [{"id": one.id, "conversations": _turns(one)} for one in kept]
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def _messages(lesson: Lesson) -> list[dict[str, str]]:
    system = [{"role": "system", "content": lesson.system}] if lesson.system else []
    return [
        *system,
        {"role": "user", "content": lesson.question},
        {"role": "assistant", "content": lesson.answer},
    ]


def _turns(lesson: Lesson) -> list[dict[str, str]]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[one["role"]], "value": one["content"]} for one in _messages(lesson)]


def manifest(teacher: Teacher, taught: Sequence[Lesson], form: Form) -> dict[str, Json]:
    """What belongs beside the file: who taught, under which licence, what was left out, and the file's digest."""
    kept = [one for one in taught if one.whole]
    return {
        "format": "loupe-training-data/1",
        "form": form.value,
        "sha256": hashlib.sha256(training_data(taught, form).encode()).hexdigest(),
        "examples": len(kept),
        "left_out": [one.id for one in taught if not one.whole],
        "answer_tokens": sum(one.tokens for one in kept),
        "teacher": {
            "model": teacher.model, "digest": teacher.digest, "quantization": teacher.quantization,
            "license": license_name(teacher.license), "license_text": teacher.license,
        },
        "caution": caution(teacher.license),
        "prompt_set": teacher.prompt_set,
        "options": dict(teacher.options),
        "server": teacher.server,
        "loupe": teacher.loupe,
        "made_at": moment(teacher.made_at),
    }  # fmt: skip


def caution(license_text: str) -> str:
    """What to look at before training with the answers: a licence may bind what is made from a model's output."""
    if not license_text.strip():
        return "The teacher tells no licence: find out what may be done with its answers before you train with them."
    if found := restriction(license_text):
        return (
            f"{found} It may also bind models that are trained with its answers: read it before you train or publish."
        )
    if is_free(license_text):
        return ""
    return f"Read the teacher's licence ({license_name(license_text)}) before you train with its answers."
