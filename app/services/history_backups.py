"""One backup of the conversations a day, and bringing one back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from app.core.errors import BadRequest, StoreError
from app.core.ports import Clock
from app.services.history import NOT_OURS, History
from app.services.history_file import Backup, Damage, Missing

log = structlog.get_logger(__name__)
DAY_SECONDS = 24 * 3600.0
LOOK_SECONDS = 600.0


class HistoryBackups:
    """`start` belongs on the loop of the services, after the history is open."""

    def __init__(self, history: History, clock: Clock) -> None:
        self._history, self._clock = history, clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._history.file is not None:
            self._task = asyncio.create_task(self._keep(), name="history backups")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def damage(self) -> Damage | None:
        """What was wrong with the file that was set aside, until a backup was brought back."""
        return self._history.damage

    @property
    def folder(self) -> Path:
        """Raises `BadRequest` where the database is not a file of ours."""
        if self._history.file is None:
            raise BadRequest(NOT_OURS)
        return self._history.file.folder

    def dismiss(self) -> None:
        """Say no more of the file that was set aside; it stays where it is."""
        if self._history.file:
            self._history.file.damage = None

    async def list(self) -> tuple[Backup, ...]:
        """The newest first. Raises `BadRequest` where the database is not a file of ours."""
        return await self._history.on_file(lambda file, _: file.backups())

    async def make(self) -> Backup:
        """Raises `BadRequest`, `StoreError`."""
        return await self._history.on_file(lambda file, connection: file.back_up(connection))

    async def path(self, name: str) -> Path:
        """The file of a backup. Raises `BadRequest` for a name that is none."""
        return await self._history.on_file(lambda file, _: file.backup(name))

    async def missing(self, name: str) -> Missing:
        """What bringing this backup back would add. Raises `BadRequest`, `StoreError`."""
        return await self._history.on_file(lambda file, connection: file.missing(connection, name))

    async def bring_back(self, name: str) -> int:
        """Add what a backup holds and is not here any more; how many conversations came. Raises `BadRequest`,
        `StoreError`."""
        return await self._history.on_file(lambda file, connection: file.bring_back(connection, name))

    async def make_if_due(self) -> Backup | None:
        """The day's backup, if there is anything to keep and the newest is older than a day (or of the future)."""
        newest = next(iter(await self.list()), None)
        now = self._clock.now()
        if newest is not None and now - DAY_SECONDS < newest.made_at <= now + DAY_SECONDS:
            return None
        return await self.make() if await self._history.message_count() else None

    async def _keep(self) -> None:
        """A failure is logged, and tried again with the next look."""
        while True:
            try:
                if made := await self.make_if_due():
                    log.info("conversations backed up", name=made.name, conversations=made.conversations)
            except StoreError as error:
                log.warning("the conversations could not be backed up", error=error.message)
            await asyncio.sleep(LOOK_SECONDS)
