"""Conversations that survive everything: a kill -9 loses no message that was acknowledged.

Owns the history database (SQLite by default, any SQLAlchemy URL otherwise). One thread and one connection do all
the work: SQLite's WAL-reset defect (3.7.0 to 3.51.2) needs two connections, and a single writer needs no retries.
`synchronous=FULL`, because a user's message is acknowledged before it is sent to a model.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from app.core.conversations import Answer, Conversation, ConversationRow, MessageState, StoredMessage
from app.core.errors import BadRequest, ConversationNotFound, DiskFull, StoreError
from app.core.generation import Json
from app.core.ports import Clock, SystemClock
from app.services.history_engine import UnknownSchema, opened, upgrade_file
from app.services.history_file import Damage, HistoryFile, path_of
from app.services.history_rows import conversation_of, listed, messages_of
from app.services.history_schema import conversations, encode_answer, messages

T = TypeVar("T")
TITLE_LENGTH = 60
NOT_OURS = "the conversations are in a database of yours; back it up with its own tools"


def title_from(text: str) -> str:
    """A conversation's first title: the first line of what was asked, cut at a word."""
    line = " ".join(next((row for row in text.splitlines() if row.strip()), "").split())
    if len(line) <= TITLE_LENGTH:
        return line or "New chat"
    return line[:TITLE_LENGTH].rsplit(" ", 1)[0].rstrip(",.;:") + "…"


class History:
    """Async face of the history store. Every method may raise `StoreError` (`DiskFull` where that is why)."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._engine: Engine | None = None
        path = path_of(url)
        self.file = HistoryFile(path, upgrade_file, self._clock.now) if path else None

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make or upgrade the schema, and mark answers that an earlier process left unfinished as interrupted. A SQLite
        file that is damaged is set aside first (`damage` tells), and a new one begun."""
        await self._run_plain(self._open)

    async def close(self) -> None:
        await self._run_plain(lambda: self._engine.dispose() if self._engine else None)
        self._thread.shutdown(wait=True)

    def _open(self) -> None:
        if self.file is not None:
            self.file.examine()
        try:
            self._engine = opened(self._url)
        except (DatabaseError, UnknownSchema, UnicodeDecodeError) as error:
            if self.file is None or isinstance(error, OperationalError):
                raise
            self.file.set_aside(str(error))
            self._engine = opened(self._url)

    @property
    def damage(self) -> Damage | None:
        """What was wrong with the file that was set aside while this process ran."""
        return self.file.damage if self.file else None

    async def _run_plain(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            try:
                return work()
            except OperationalError as error:
                if "disk is full" in str(error) or "No space" in str(error):
                    raise DiskFull("the disk is full: the conversation could not be saved; free some space") from error
                raise StoreError(f"the conversation store cannot be used: {error.orig}") from error
            except (DatabaseError, UnicodeDecodeError) as error:
                raise StoreError(self._damaged(str(getattr(error, "orig", error)))) from error

        # Shielded: what was handed to the writer is written even if the one who asked goes away.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, guarded))

    def _damaged(self, found: str) -> str:
        """What to say of an error that only a damaged file can give; such a file is set aside at once."""
        if self.file is None or self._engine is None:
            return f"the conversation store is damaged: {found}"
        self._engine.dispose()
        self.file.examine(thoroughly=True)
        self._engine = opened(self._url)
        kept = f"; it was set aside as {self.damage.kept_as.name}, and a new one is in use" if self.damage else ""
        return f"the conversation store is damaged: {found}{kept}"

    async def _run(self, work: Callable[[Connection], T]) -> T:
        engine = self._engine
        if engine is None:
            raise StoreError("the conversation store is not open")

        def transaction() -> T:
            with engine.begin() as connection:
                return work(connection)

        return await self._run_plain(transaction)

    async def on_file(self, work: Callable[[HistoryFile, sqlite3.Connection], T]) -> T:
        """`work` on the file and its one connection, outside of a transaction. Raises `BadRequest` where the database
        is not a file of ours, `DiskFull`, `StoreError`."""
        file, engine = self.file, self._engine
        if file is None:
            raise BadRequest(NOT_OURS)
        if engine is None:
            raise StoreError("the conversation store is not open")

        def run() -> T:
            raw = engine.raw_connection()
            try:
                return work(file, cast(sqlite3.Connection, raw.driver_connection))
            except sqlite3.OperationalError as error:
                kind = DiskFull if "full" in str(error) else StoreError
                raise kind(f"the backup could not be written: {error}") from error
            except OSError as error:
                raise StoreError(f"the backup could not be written: {error.strerror}") from error
            finally:
                raw.close()

        return await self._run_plain(run)

    async def message_count(self) -> int:
        return await self._run(lambda c: c.execute(select(func.count()).select_from(messages)).scalar_one())

    # -- conversations ------------------------------------------------------------------------------------------

    async def conversations(self, principal: str, limit: int = 200) -> tuple[ConversationRow, ...]:
        """The newest first, deleted ones left out."""
        answering = (
            select(func.count())
            .select_from(messages)
            .where(messages.c.conversation_id == conversations.c.id, messages.c.state == MessageState.STREAMING)
            .scalar_subquery()
        )
        query = (
            select(
                conversations.c.id, conversations.c.title, conversations.c.model, conversations.c.updated_at, answering
            )
            .where(conversations.c.principal == principal, conversations.c.deleted_at.is_(None))
            .order_by(conversations.c.updated_at.desc())
            .limit(limit)
        )
        rows = await self._run(lambda c: c.execute(query).all())
        return tuple(map(listed, rows))

    async def create(
        self, principal: str, *, model: str, system: str = "", options: Mapping[str, Json] | None = None
    ) -> Conversation:
        now, new_id = self._clock.now(), uuid.uuid4().hex
        row: dict[str, Any] = {
            "id": new_id, "principal": principal, "title": "New chat", "titled_by_user": False, "model": model,
            "system": system, "options": json.dumps(dict(options or {})), "created_at": now, "updated_at": now,
        }  # fmt: skip
        await self._run(lambda c: c.execute(insert(conversations).values(**row)))
        return Conversation(new_id, principal, "New chat", model, system, dict(options or {}), now, now)

    async def adopt(
        self, principal: str, *, model: str, system: str, options: Mapping[str, Json], turns: Sequence[StoredMessage],
        title: str = "",
    ) -> str:  # fmt: skip
        """A conversation made of messages that were written elsewhere (their ids are given anew); its id."""
        now, new_id = self._clock.now(), uuid.uuid4().hex
        first = next((turn.content for turn in turns if turn.role == "user"), "")
        row: dict[str, Any] = {
            "id": new_id, "principal": principal, "title": title_from(title or first), "titled_by_user": False,
            "model": model, "system": system, "options": json.dumps(dict(options)), "created_at": now,
            "updated_at": now,
        }  # fmt: skip

        def write(connection: Connection) -> str:
            connection.execute(insert(conversations).values(**row))
            for position, turn in enumerate(turns):
                _add(
                    connection, new_id, position, turn.role, turn.content, turn.state, turn.answer, now, turn.thinking
                )  # fmt: skip
            return new_id

        return await self._run(write)

    async def get(self, conversation_id: str, principal: str) -> Conversation:
        """Raises `ConversationNotFound` also when it belongs to somebody else."""

        def read(connection: Connection) -> Conversation:
            row = connection.execute(_visible(conversation_id, principal)).mappings().first()
            if row is None:
                raise ConversationNotFound(conversation_id)
            return conversation_of(dict(row), messages_of(connection, conversation_id))

        return await self._run(read)

    async def rename(self, conversation_id: str, title: str) -> None:
        title = " ".join(title.split())[:200]
        if not title:
            raise BadRequest("a title needs at least one letter", field="title")
        await self._change(conversation_id, title=title, titled_by_user=True)

    async def delete(self, conversation_id: str) -> None:
        """Hide it; `restore` brings it back."""
        await self._change(conversation_id, deleted_at=self._clock.now())

    async def restore(self, conversation_id: str) -> None:
        await self._change(conversation_id, deleted_at=None)

    async def set_variant(self, conversation_id: str, model: str) -> None:
        await self._change(conversation_id, model=model)

    async def set_system(self, conversation_id: str, system: str) -> None:
        await self._change(conversation_id, system=system)

    async def set_options(self, conversation_id: str, options: Mapping[str, Json]) -> None:
        await self._change(conversation_id, options=json.dumps(dict(options)))

    async def _change(self, conversation_id: str, **values: Any) -> None:
        statement = update(conversations).where(conversations.c.id == conversation_id).values(**values)
        if not await self._run(lambda c: c.execute(statement).rowcount):
            raise ConversationNotFound(conversation_id)

    # -- turns --------------------------------------------------------------------------------------------------

    async def begin_turn(
        self, conversation_id: str, principal: str, *, ask: str | None = None, replace_from: str | None = None
    ) -> tuple[Conversation, StoredMessage]:
        """Commit a turn before anything is sent: the user's message (if any) and an empty answer being streamed.

        `replace_from` is the id of the message from which on everything is replaced (edit, regenerate). Returns the
        conversation as the model is to see it (without the new answer) and the new answer.
        """

        def write(connection: Connection) -> tuple[Conversation, StoredMessage]:
            row = connection.execute(_visible(conversation_id, principal)).mappings().first()
            if row is None:
                raise ConversationNotFound(conversation_id)
            now = self._clock.now()
            if replace_from is not None:
                _replace_from(connection, conversation_id, replace_from, now)
            position = _next_position(connection, conversation_id)
            if ask is not None:
                _add(connection, conversation_id, position, "user", ask, MessageState.COMPLETE, Answer(), now)
                position += 1
            so_far = messages_of(connection, conversation_id)
            answer_id = _add(
                connection, conversation_id, position, "assistant", "", MessageState.STREAMING,
                Answer(model=row["model"]), now,
            )  # fmt: skip
            title = row["title"]
            if ask is not None and not row["titled_by_user"] and position <= 1:
                title = title_from(ask)
            connection.execute(
                update(conversations).where(conversations.c.id == conversation_id).values(updated_at=now, title=title)
            )
            answer = StoredMessage(
                answer_id, "assistant", "", now, MessageState.STREAMING, answer=Answer(model=row["model"])
            )
            return conversation_of({**row, "title": title, "updated_at": now}, so_far), answer

        return await self._run(write)

    async def checkpoint(self, message_id: str, content: str, thinking: str) -> None:
        """Keep what has been answered so far; the message stays `streaming`."""
        statement = (
            update(messages)
            .where(messages.c.id == message_id, messages.c.state == MessageState.STREAMING)
            .values(content=content, thinking=thinking)
        )
        await self._run(lambda c: c.execute(statement))

    async def finish(self, message: StoredMessage) -> None:
        """Write the answer's last state."""
        statement = (
            update(messages)
            .where(messages.c.id == message.id)
            .values(
                content=message.content, thinking=message.thinking, state=message.state,
                answer=encode_answer(message.answer),
            )
        )  # fmt: skip
        await self._run(lambda c: c.execute(statement))


def _visible(conversation_id: str, principal: str) -> Any:
    return select(conversations).where(
        conversations.c.id == conversation_id,
        conversations.c.principal == principal,
        conversations.c.deleted_at.is_(None),
    )


def _next_position(connection: Connection, conversation_id: str) -> int:
    query = select(func.max(messages.c.position)).where(messages.c.conversation_id == conversation_id)
    last = connection.execute(query).scalar()
    return 0 if last is None else int(last) + 1


def _replace_from(connection: Connection, conversation_id: str, message_id: str, now: float) -> None:
    position = connection.execute(
        select(messages.c.position).where(
            messages.c.id == message_id,
            messages.c.conversation_id == conversation_id,
            messages.c.replaced_at.is_(None),
        )
    ).scalar()
    if position is None:
        raise BadRequest("that message is not part of this conversation any more; reload the page")
    connection.execute(
        update(messages)
        .where(
            messages.c.conversation_id == conversation_id,
            messages.c.position >= position,
            messages.c.replaced_at.is_(None),
        )
        .values(replaced_at=now)
    )


def _add(
    connection: Connection, conversation_id: str, position: int, role: str, content: str, state: MessageState,
    answer: Answer, now: float, thinking: str = "",
) -> str:  # fmt: skip
    message_id = uuid.uuid4().hex
    connection.execute(
        insert(messages).values(
            id=message_id, conversation_id=conversation_id, position=position, role=role, content=content,
            thinking=thinking, state=state, answer=encode_answer(answer), created_at=now,
        )
    )  # fmt: skip
    return message_id
