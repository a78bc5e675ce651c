"""Training data on disk: a folder for each set with `set.json` (what was asked, who teaches, how far it is) and
`lessons.jsonl` (an answer a line). Everything here blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from app.comparison.folder_store import FolderStore
from app.comparison.question_set import MOST
from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.teacher import ANSWER_TOKENS, Lesson, Teacher
from app.core.errors import BadRequest, LoupeError
from app.services.line_file import read_lines
from app.services.small_file import read_small

log = structlog.get_logger(__name__)
MOST_TOKENS = 32_768


class TrainingSetNotFound(LoupeError):
    status = 404
    code = "training_set_not_found"

    def __init__(self, set_id: str) -> None:
        super().__init__(f"there is no training set {set_id[:32]}")


@dataclass(frozen=True, slots=True)
class Teach:
    """What is asked for. Without `questions` those of the shipped set `question_set`."""

    model: str
    questions: tuple[str, ...] = ()
    question_set: str = ""
    system: str = ""
    tokens: int = ANSWER_TOKENS
    host: str = ""

    def checked(self) -> Teach:
        """Raises `BadRequest`."""
        if not self.model.strip():
            raise BadRequest("say which model is the teacher", "model")
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise BadRequest(f"tokens is between 1 and {MOST_TOKENS:,}", "tokens")
        if len(self.questions) > MOST:
            raise BadRequest(f"at most {MOST:,} questions", "questions")
        return self


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """`state` is running, done, cancelled or failed; `answered` of `total` questions, `whole` of them to be used."""

    id: str
    asked: Teach
    teacher: Teacher
    state: str
    total: int
    answered: int = 0
    whole: int = 0


class TrainingStore:
    """`folder` is made when something is written. Raises `StoreError`, or `DiskFull`, where that is not possible."""

    def __init__(self, folder: Path) -> None:
        self._kept = FolderStore(folder, "the answers", TrainingSetNotFound)

    def sets(self) -> list[TrainingSet]:
        """All that can be read."""
        found = []
        for file in sorted(self._kept.root.glob("*/set.json")):
            try:
                found.append(from_json(TrainingSet, read_small(file)))
            except Unreadable:
                log.warning("a training set cannot be read", file=str(file))
        return found

    def write(self, made: TrainingSet) -> None:
        self._kept.write(made.id, "set.json", to_json(made))

    def append(self, set_id: str, lesson: Lesson) -> None:
        self._kept.append(self._kept.of(set_id) / "lessons.jsonl", [to_json(lesson)])

    def lessons(self, set_id: str) -> list[Lesson]:
        return [from_json(Lesson, row) for row in read_lines(self._kept.of(set_id) / "lessons.jsonl")]

    def delete(self, set_id: str) -> None:
        self._kept.delete(set_id)
