"""Questions whose answers are measured: sets shipped under `prompts/compare`, and a user's own file or conversation.

A set is known by its name and the SHA-256 of its questions, so that figures of other questions are never taken for the
same. Questions stand in an order in which every beginning, and every third, has all domains alike.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from app.core.errors import BadRequest
from app.services.prompt_library import split_front_matter

LARGEST = 4 << 20  # bytes of a file
LONGEST = 8_000  # characters of a question: what is longer leaves no room for an answer in the contexts measured
MOST = 5_000
OWN = "own"  # the domain of questions that are the user's
_DOMAIN = re.compile(r"^##\s+([a-z][a-z0-9-]*)\s*$")
_QUESTION = re.compile(r"^- (.+)$")
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")


@dataclass(frozen=True, slots=True)
class Question:
    """`id` is stable within a version of its set: the domain and the place in it."""

    id: str
    domain: str
    text: str


@dataclass(frozen=True, slots=True)
class QuestionSet:
    name: str
    title: str
    version: int
    questions: tuple[Question, ...]

    @property
    def sha256(self) -> str:
        """Of domains, ids and questions, in order."""
        listed = [[question.id, question.domain, question.text] for question in self.questions]
        return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Name, version and enough of the digest, for keys and reports."""
        return f"{self.name}@{self.version}:{self.sha256[:16]}"

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(question.domain for question in self.questions))

    def third(self, number: int) -> QuestionSet:
        """One of three disjoint parts (0, 1, 2), each with every domain that has as many as three questions."""
        if number not in (0, 1, 2):
            raise BadRequest("there are three thirds, 0, 1 and 2", field="questions")
        seen: dict[str, int] = {}
        kept = []
        for question in self.questions:
            place = seen[question.domain] = seen.get(question.domain, -1) + 1
            if place % 3 == number:
                kept.append(question)
        return QuestionSet(f"{self.name}-third-{number + 1}", self.title, self.version, tuple(kept))


def shipped_sets(folder: Path) -> tuple[tuple[QuestionSet, ...], tuple[str, ...]]:
    """The sets in a folder by name, and what is wrong with the files that cannot be used, each named."""
    found, problems = [], []
    for path in sorted(folder.glob("*.md")) if folder.is_dir() else ():
        try:
            found.append(read_set(path))
        except BadRequest as problem:
            problems.append(problem.message)
    return tuple(found), tuple(problems)


def read_set(path: Path) -> QuestionSet:
    """A file of the format in `prompts/README.md`. Raises `BadRequest` with its name and what is wrong."""
    text = _text(path)
    if not _NAME.match(path.stem):
        raise BadRequest(f"{path.name}: a set's file name has lower-case letters, digits and - only")
    try:
        front, body = split_front_matter(text, path.name)
        told = tomllib.loads(front)
    except tomllib.TOMLDecodeError as problem:
        raise BadRequest(f"{path.name}: {problem}") from problem
    unknown = sorted(set(told) - {"title", "version", "description"})
    if unknown:
        raise BadRequest(f"{path.name}: unknown: {', '.join(unknown)}; known are title, version, description")
    title, version = told.get("title"), told.get("version")
    if not isinstance(title, str) or not title.strip():
        raise BadRequest(f"{path.name}: title is missing")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadRequest(f"{path.name}: version has to be a whole number from 1")
    return QuestionSet(path.stem, title, version, _interleaved(_by_domain(body, path.name)))


def _by_domain(body: str, name: str) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {}
    domain = ""
    for number, line in enumerate(body.splitlines(), start=1):
        if match := _DOMAIN.match(line):
            domain = match[1]
            if domain in found:
                raise BadRequest(f"{name}: the domain {domain} begins twice")
            found[domain] = []
        elif match := _QUESTION.match(line):
            if not domain:
                raise BadRequest(f"{name}: the question {match[1][:40]!r} stands before any domain (## name)")
            found[domain].append(Question(f"{domain}-{len(found[domain]) + 1:02}", domain, match[1].strip()))
        elif line.strip():
            raise BadRequest(f"{name}: line {number} of the text is neither a domain (## name) nor a question (- …)")
    empty = [domain for domain, questions in found.items() if not questions]
    if empty or not found:
        raise BadRequest(f"{name}: no questions" + (f" under {', '.join(empty)}" if empty else ""))
    _check_texts([question.text for questions in found.values() for question in questions], name)
    return found


def _interleaved(by_domain: dict[str, list[Question]]) -> tuple[Question, ...]:
    rounds = zip_longest(*by_domain.values())
    return tuple(question for one in rounds for question in one if question is not None)


def read_questions(path: Path) -> QuestionSet:
    """A user's own file: a set (`.md` with front matter), JSON lines, or plain text with a question on every line.

    A JSON line is a text, or an object with `prompt`, `question`, `text`, `content` or `messages` (its first user
    message). Raises `BadRequest` with the file's name and the line that cannot be used.
    """
    text = _text(path)
    if path.suffix == ".md" and text.startswith("+++\n"):
        return read_set(path)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    structured = path.suffix in (".jsonl", ".ndjson") or all(line.startswith(("{", '"')) for _, line in lines)
    texts = [_from_json(line, f"{path.name}, line {number}") if structured else line for number, line in lines]
    return own_set(re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or OWN, path.name, texts)


def own_set(name: str, title: str, texts: Sequence[str]) -> QuestionSet:
    """Questions of a user, for example those of a past conversation; the same one twice is asked once."""
    unique = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    _check_texts(unique, title)
    return QuestionSet(
        name, title, 1, tuple(Question(f"{OWN}-{i:03}", OWN, text) for i, text in enumerate(unique, start=1))
    )


def _check_texts(texts: Sequence[str], name: str) -> None:
    if not texts:
        raise BadRequest(f"{name}: there is no question in it")
    if len(texts) > MOST:
        raise BadRequest(f"{name}: {len(texts)} questions, at most {MOST} can be used")
    if doubled := sorted({text for text in texts if texts.count(text) > 1} if len(texts) <= 500 else ()):
        raise BadRequest(f"{name}: asked twice: {doubled[0][:60]!r}")
    long = [text for text in texts if len(text) > LONGEST]
    if long:
        raise BadRequest(f"{name}: longer than {LONGEST} characters: {long[0][:60]!r}…")


def _from_json(line: str, where: str) -> str:
    try:
        told = json.loads(line)
    except ValueError as problem:
        raise BadRequest(f"{where}: not JSON: {problem}") from problem
    if isinstance(told, str):
        return told
    if isinstance(told, dict):
        for key in ("prompt", "question", "text", "content"):
            if isinstance(told.get(key), str):
                return str(told[key])
        messages = told.get("messages")
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
                return str(message["content"])
    raise BadRequest(f"{where}: has neither prompt, question, text nor content, and no user message")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise BadRequest(f"{path.name}: larger than {LARGEST >> 20} MiB")
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadRequest(f"{path.name}: {problem}") from problem
