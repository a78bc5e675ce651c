"""What a history file says of chats, held against what their people were told."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path


def faults(file: Path, asked: Sequence[str], answered: Sequence[str], answer: str) -> list[str]:
    """What is wrong: a question that was taken and is lost, anything doubled, an answer that is not (the beginning of)
    `answer`, or not all of it where it was said to be finished; a file that is not sound."""
    with closing(sqlite3.connect(file)) as stored:
        sound = stored.execute("PRAGMA integrity_check").fetchall()
        rows = stored.execute(
            "SELECT conversation_id, position, role, content, state FROM messages ORDER BY conversation_id, position"
        ).fetchall()
    return [*([] if sound == [("ok",)] else [f"integrity_check: {sound}"]), *_wrong(rows, asked, answered, answer)]


def _wrong(
    rows: Sequence[tuple[str, int, str, str, str]], asked: Sequence[str], answered: Sequence[str], answer: str
) -> Iterator[str]:
    there = Counter(content for _, _, role, content, _ in rows if role == "user")
    yield from (f"{question} is lost" for question in asked if not there[question])
    yield from (f"{question} is there {times} times" for question, times in there.items() if times > 1)
    places = Counter((conversation, position) for conversation, position, *_ in rows)
    yield from (f"place {place} is taken twice" for place, times in places.items() if times > 1)
    finished, question = set(answered), ""
    for _, position, role, content, state in rows:
        if role == "user":
            question = content
        elif position % 2 == 0 or not answer.startswith(content):
            yield f"the answer to {question} is {content[:60]!r} at {position}"
        elif question in finished and (content, state) != (answer, "complete"):
            yield f"the finished answer to {question} is {state} with {len(content)} characters"


def unfinished(file: Path) -> int:
    """Answers that the file says are still being streamed."""
    with closing(sqlite3.connect(file)) as stored:
        (count,) = stored.execute("SELECT count(*) FROM messages WHERE state = 'streaming'").fetchone()
    return int(count)
