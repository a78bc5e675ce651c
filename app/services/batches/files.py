"""Files that OpenAI's clients send before they ask for a batch of them, kept beside the batches."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from app.core.ports import Clock
from app.services.batches.store import BatchStore
from app.services.batches.values import FileNotFound, StoredFile

_ALL = "SELECT id, name, owner, purpose, created_at, size FROM files ORDER BY created_at DESC"
_ONE = "SELECT id, name, owner, purpose, created_at, size FROM files WHERE id = ?"


class BatchFiles:
    """`owner` is whose files are meant, "" for everybody's. Raises `StoreError`."""

    def __init__(self, store: BatchStore, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def keep(self, name: str, purpose: str, content: str, owner: str) -> StoredFile:
        now, size = self._clock.now(), len(content.encode())
        file = StoredFile(f"file-{secrets.token_hex(12)}", name[:120] or "file", owner, purpose, now, size)
        await asyncio.to_thread(self._add, file, content)
        return file

    async def list(self, owner: str = "") -> tuple[StoredFile, ...]:
        """The newest first."""
        rows = await asyncio.to_thread(self._rows, _ALL, ())
        return tuple(file for row in rows if owner in ("", (file := StoredFile(*row)).owner))

    async def get(self, file_id: str, owner: str = "") -> StoredFile:
        """Raises `FileNotFound`."""
        rows = await asyncio.to_thread(self._rows, _ONE, (file_id,))
        file = StoredFile(*rows[0]) if rows else None
        if file is None or owner not in ("", file.owner):
            raise FileNotFound(file_id)
        return file

    async def content(self, file_id: str, owner: str = "") -> str:
        """Raises `FileNotFound`."""
        await self.get(file_id, owner)
        rows = await asyncio.to_thread(self._rows, "SELECT content FROM files WHERE id = ?", (file_id,))
        return str(rows[0][0]) if rows else ""

    async def delete(self, file_id: str, owner: str = "") -> None:
        """Raises `FileNotFound`. A batch that was begun with it goes on: it has its prompts."""
        await self.get(file_id, owner)
        await asyncio.to_thread(self._rows, "DELETE FROM files WHERE id = ?", (file_id,))

    def _add(self, file: StoredFile, content: str) -> None:
        with self._store.using() as database:
            row = (file.id, file.name, file.owner, file.purpose, file.created_at, file.size, content)
            database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _rows(self, statement: str, values: tuple[str, ...]) -> Sequence[Any]:
        with self._store.using() as database:
            return [tuple(row) for row in database.execute(statement, values)]
