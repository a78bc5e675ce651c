"""Batches on disk: one SQLite file, a row for each prompt, so that what was answered is never asked again.

An answer and the fact that there is one are the same row, written in one transaction: a process that is killed loses
what it had in hand and nothing else. Safe from several threads; everything here blocks. Raises `StoreError`, or
`DiskFull`, where the file cannot be read or written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from app.core.errors import DiskFull, StoreError
from app.services.batches.values import Batch, BatchState, Form, Outcome, Prompt

log = structlog.get_logger(__name__)
TODO, ANSWERED, FAILED = 0, 1, 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, form TEXT NOT NULL, created_at REAL NOT NULL,
    total INTEGER NOT NULL, models TEXT NOT NULL, state TEXT NOT NULL, ended_at REAL, error TEXT NOT NULL,
    source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, purpose TEXT NOT NULL, created_at REAL NOT NULL,
    size INTEGER NOT NULL, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS prompts (
    batch TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL, url TEXT NOT NULL,
    body TEXT NOT NULL, given TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0, place INTEGER, outcome TEXT,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (batch, seq));
CREATE INDEX IF NOT EXISTS prompts_place ON prompts (batch, place);
CREATE INDEX IF NOT EXISTS prompts_state ON prompts (batch, state, prompt_tokens, output_tokens);
"""
_COUNTS = "SELECT sum(state = 1), sum(state = 2), sum(prompt_tokens), sum(output_tokens) FROM prompts WHERE batch = ?"


class BatchStore:
    """`file` is made when it is first needed. One that is damaged is set aside, and another begun."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def batches(self) -> list[Batch]:
        """All of them, the oldest first."""
        with self.using() as database:
            rows = database.execute("SELECT * FROM batches ORDER BY created_at, id").fetchall()
            return [_batch(row, database.execute(_COUNTS, (row["id"],)).fetchone()) for row in rows]

    def add(self, batch: Batch, prompts: Sequence[Prompt]) -> None:
        with self.using() as database:
            database.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (batch.id, batch.name, batch.owner, batch.form, batch.created_at, batch.total,
                 json.dumps(batch.models), batch.state, batch.ended_at, batch.error,
                 json.dumps(dict(batch.source))),
            )  # fmt: skip
            database.executemany(
                "INSERT INTO prompts (batch, seq, name, model, url, body, given) VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((batch.id, one.seq, one.name, one.model, one.url, json.dumps(dict(one.body)),
                  json.dumps(dict(one.given))) for one in prompts),
            )  # fmt: skip

    def set_state(self, batch_id: str, state: BatchState, ended_at: float | None, error: str) -> None:
        with self.using() as database:
            database.execute(
                "UPDATE batches SET state = ?, ended_at = ?, error = ? WHERE id = ?", (state, ended_at, error, batch_id)
            )

    def todo(self, batch_id: str) -> list[int]:
        """What is to be asked, by its place in the file; prompts of one model together, so that it is loaded once."""
        question = (
            "SELECT seq FROM prompts JOIN (SELECT model AS wanted, min(seq) AS first FROM prompts WHERE batch = ?1 "
            "GROUP BY model) ON model = wanted WHERE batch = ?1 AND state = 0 ORDER BY first, seq"
        )
        with self.using() as database:
            return [int(row[0]) for row in database.execute(question, (batch_id,))]

    def prompt(self, batch_id: str, seq: int) -> Prompt | None:
        """None where the batch was deleted meanwhile."""
        with self.using() as database:
            row = database.execute("SELECT * FROM prompts WHERE batch = ? AND seq = ?", (batch_id, seq)).fetchone()
            return _prompt(row) if row is not None else None

    def finish(self, batch_id: str, seq: int, outcome: Outcome) -> bool:
        """Keep what became of a prompt; False where that was known already, or the batch is gone."""
        with self.using() as database:
            changed = database.execute(
                "UPDATE prompts SET state = ?, outcome = ?, prompt_tokens = ?, output_tokens = ?, place = "
                "(SELECT coalesce(max(place), 0) + 1 FROM prompts WHERE batch = ?) "
                "WHERE batch = ? AND seq = ? AND state = 0",
                (FAILED if outcome.failed else ANSWERED, json.dumps(asdict(outcome)), outcome.prompt_tokens,
                 outcome.output_tokens, batch_id, batch_id, seq),
            )  # fmt: skip
            return changed.rowcount == 1

    def again(self, batch_id: str) -> int:
        """Ask those that failed once more; how many. Their places are not given away: whoever reads what has ended
        since a place meets what comes of them now."""
        with self.using() as database:
            changed = database.execute(
                "UPDATE prompts SET state = 0, outcome = NULL WHERE batch = ? AND state = 2", (batch_id,)
            )
            return changed.rowcount

    def columns(self, batch_id: str) -> tuple[str, ...]:
        """What the rows of its file name, as they came, in the order in which they first do."""
        with self.using() as database:
            rows = database.execute("SELECT given FROM prompts WHERE batch = ? ORDER BY seq", (batch_id,))
            return tuple(dict.fromkeys(name for row in rows for name in json.loads(row["given"])))

    def results(self, batch_id: str, after: int, limit: int, *, as_ended: bool) -> list[tuple[int, Prompt, Outcome]]:
        """What is over, from behind `after` on: (place, prompt, outcome), in the order of the file by `seq`, or
        (`as_ended`) in the order in which it ended by a number that rises with each."""
        place = "place" if as_ended else "seq"
        question = (
            f"SELECT *, {place} AS at FROM prompts WHERE batch = ? AND {place} > ? AND state != 0 "  # noqa: S608
            f"ORDER BY {place} LIMIT ?"
        )
        with self.using() as database:
            rows = database.execute(question, (batch_id, after, limit)).fetchall()
        return [(int(row["at"]), _prompt(row), Outcome(**json.loads(row["outcome"]))) for row in rows]

    def latest(self, batch_id: str, most: int) -> list[tuple[Prompt, Outcome]]:
        """What has ended last, the newest first."""
        question = "SELECT * FROM prompts WHERE batch = ? AND place > 0 AND state != 0 ORDER BY place DESC LIMIT ?"
        with self.using() as database:
            rows = database.execute(question, (batch_id, most)).fetchall()
        return [(_prompt(row), Outcome(**json.loads(row["outcome"]))) for row in rows]

    def delete(self, batch_id: str) -> None:
        with self.using() as database:
            database.execute("DELETE FROM prompts WHERE batch = ?", (batch_id,))
            database.execute("DELETE FROM batches WHERE id = ?", (batch_id,))

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The database inside one transaction."""
        with self._lock:
            try:
                database = self._connection()
                with database:
                    yield database
            except OSError as error:
                raise StoreError(f"the batches cannot be kept: {error.strerror or error}") from error
            except sqlite3.Error as error:
                if "full" in str(error):
                    raise DiskFull("the disk with Loupe's data folder is full: the batches cannot be kept") from error
                raise StoreError(f"the batches cannot be kept: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._database = _opened(self._file)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                aside = self._file.with_name(f"{self._file.name}.damaged")
                log.error("the file of the batches is damaged; it was set aside", kept_as=aside.name, error=str(error))
                self._file.replace(aside)
                for suffix in ("-wal", "-shm"):
                    self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
                self._database = _opened(self._file)
        return self._database


def _opened(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, check_same_thread=False, timeout=5)
    try:
        database.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "mmap_size=0"):
            database.execute(f"PRAGMA {pragma}")
        database.executescript(_SCHEMA)
        if "source" not in {row["name"] for row in database.execute("PRAGMA table_info(batches)")}:
            database.execute("ALTER TABLE batches ADD COLUMN source TEXT NOT NULL DEFAULT '{}'")
        with suppress(OSError):
            file.chmod(0o600)
    except BaseException:
        database.close()
        raise
    return database


def _batch(row: Any, counts: Any) -> Batch:
    answered, failed, read, written = (int(count or 0) for count in counts)
    return Batch(
        row["id"], row["name"], row["owner"], Form(row["form"]), row["created_at"], row["total"],
        tuple(json.loads(row["models"])), BatchState(row["state"]), answered, failed, read, written, row["ended_at"],
        row["error"], json.loads(row["source"]),
    )  # fmt: skip


def _prompt(row: Any) -> Prompt:
    return Prompt(row["seq"], row["name"], row["url"], json.loads(row["body"]), json.loads(row["given"]))
