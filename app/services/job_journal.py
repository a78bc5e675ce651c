"""Which pulls and makes were under way, kept in a file of the data folder: after a restart they can be gone on with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from app.core.generation import Json
from app.models.gguf_writer import write_error
from app.models.naming import parse_name
from app.services.small_file import read_small, write_small

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What a job was asked: enough to begin it again. `model` is the name to pull, or the source of a make."""

    kind: str
    model: str
    host: str
    level: str = ""
    insecure: bool = False

    @property
    def key(self) -> str:
        return " ".join((self.kind, self.host, "/".join(parse_name(self.model).folded), self.level)).strip()


class Journal:
    """A file that cannot be written costs only the list after a restart, so that is logged and not raised."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: dict[str, Interrupted] = {}
        self._writing = asyncio.Lock()

    async def open(self) -> tuple[Interrupted, ...]:
        """What an earlier process had not finished."""
        told = await asyncio.to_thread(read_small, self._file)
        rows = [_row(one) for one in told] if isinstance(told, list) else []
        self._rows = {row.key: row for row in rows if row is not None}
        return tuple(self._rows.values())

    async def add(self, row: Interrupted) -> None:
        self._rows[row.key] = row
        await self._write()

    async def remove(self, row: Interrupted) -> None:
        if self._rows.pop(row.key, None) is not None:
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            text = json.dumps([asdict(row) for row in self._rows.values()])
            try:
                await asyncio.shield(asyncio.to_thread(write_small, self._file, text))
            except OSError as error:
                log.warning("unfinished jobs are not kept", error=write_error(self._file, error).message)


def _row(value: Json) -> Interrupted | None:
    row = value if isinstance(value, dict) else {}
    kind, model, host, level = (row.get(key) for key in ("kind", "model", "host", "level"))
    texts = all(isinstance(text, str) and text for text in (model, host)) and isinstance(level, str)
    if kind not in ("pull", "make") or not texts:
        return None
    return Interrupted(str(kind), str(model), str(host), str(level), row.get("insecure") is True)
