"""The history store on a real SQLite file (its only dependency)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.core.conversations import Answer, MessageState
from app.core.errors import BadRequest, ConversationNotFound
from app.core.generation import Span, Usage
from app.services.history import History, title_from
from app.services.history_schema import HEAD, decode_answer, encode_answer

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[History]:
    history = History(f"sqlite:///{path}")
    await history.open()
    try:
        yield history
    finally:
        await history.close()


async def test_a_turn_commits_the_question_before_anything_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m:q8_0")
        await history.begin_turn(chat.id, "local", ask="What is the capital of France?")
        with sqlite3.connect(tmp_path / "h.db") as other:
            rows = other.execute("SELECT role, content, state FROM messages ORDER BY position").fetchall()
    assert rows == [("user", "What is the capital of France?", "complete"), ("assistant", "", "streaming")]


async def test_an_answer_left_unfinished_is_interrupted_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        _, answer = await history.begin_turn(chat.id, "local", ask="hi")
        await history.checkpoint(answer.id, "Hello th", "")
    async with opened(tmp_path / "h.db") as history:
        stored = (await history.get(chat.id, "local")).messages[-1]
    assert (stored.content, stored.state) == ("Hello th", MessageState.INTERRUPTED)


async def test_a_checkpoint_never_overwrites_a_finished_answer(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        _, answer = await history.begin_turn(chat.id, "local", ask="hi")
        done = type(answer)(answer.id, "assistant", "whole", answer.created_at, MessageState.COMPLETE)
        await history.finish(done)
        await history.checkpoint(answer.id, "who", "")
        assert (await history.get(chat.id, "local")).messages[-1].content == "whole"


async def test_an_edit_hides_what_came_after_and_throws_nothing_away(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        seen, first = await history.begin_turn(chat.id, "local", ask="one")
        await history.begin_turn(chat.id, "local", ask="better", replace_from=seen.messages[0].id)
        now = await history.get(chat.id, "local")
        with sqlite3.connect(tmp_path / "h.db") as other:
            kept = other.execute("SELECT count(*) FROM messages WHERE replaced_at IS NOT NULL").fetchone()
        with pytest.raises(BadRequest):
            await history.begin_turn(chat.id, "local", replace_from=first.id)
    assert [m.content for m in now.messages] == ["better", ""]
    assert kept == (2,)


async def test_a_conversation_of_somebody_else_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        with pytest.raises(ConversationNotFound):
            await history.get(chat.id, "key-2")
        with pytest.raises(ConversationNotFound):
            await history.begin_turn(chat.id, "key-2", ask="hi")
        assert await history.conversations("key-2") == ()


async def test_a_deleted_conversation_comes_back_with_undo(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        await history.delete(chat.id)
        assert await history.conversations("local") == ()
        await history.restore(chat.id)
        assert [row.id for row in await history.conversations("local")] == [chat.id]


async def test_the_title_follows_the_first_question_until_the_user_gives_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as history:
        chat = await history.create("local", model="m")
        await history.begin_turn(chat.id, "local", ask="\n Why is  the sky blue?\nand so on")
        assert (await history.get(chat.id, "local")).title == "Why is the sky blue?"
        await history.rename(chat.id, "  Physics ")
        await history.begin_turn(chat.id, "local", ask="Something else")
        assert (await history.get(chat.id, "local")).title == "Physics"
        with pytest.raises(BadRequest):
            await history.rename(chat.id, "   ")


async def test_the_migrations_end_at_the_revision_the_code_expects(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db"):
        with sqlite3.connect(tmp_path / "h.db") as other:
            assert other.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)


async def test_the_migrations_make_exactly_the_tables_the_code_queries(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    from app.services.history_schema import metadata

    async with opened(tmp_path / "migrated.db"):
        pass
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    metadata.create_all(engine)
    engine.dispose()

    def columns(name: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(tmp_path / name) as db:
            return [
                (table, *row[1:4], row[5])
                for table in ("conversations", "messages")
                for row in db.execute(f"PRAGMA table_info({table})")
            ]

    assert columns("migrated.db") == columns("direct.db")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", "New chat"),
        ("  \n\n", "New chat"),
        ("short", "short"),
        ("a " * 80, ("a " * 30).strip() + "…"),
    ],
)
def test_titles_are_one_short_line(text: str, title: str) -> None:
    assert title_from(text) == title


def test_an_answers_cost_survives_the_round_trip() -> None:
    answer = Answer(
        model="m", digest="d", host="h", usage=Usage(1, 2, 3, 4, 5, 6), ttft=0.4,
        spans=(Span("queue", 0.0, 0.5, {"position": 2}),), cached=True, error="e", done_reason="stop",
    )  # fmt: skip
    assert decode_answer(encode_answer(answer)) == answer
