"""Opening a history database: its connection, its schema, and the answers that an earlier process left unfinished."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text, update
from sqlalchemy.pool import StaticPool

from app.core.conversations import MessageState
from app.core.errors import StoreError
from app.services.history_schema import HEAD, messages, metadata


class UnknownSchema(StoreError):
    """The version in the file is none that any Loupe ever wrote."""


def opened(url: str) -> Engine:
    """One connection where it is SQLite. Makes or upgrades the schema; raises SQLAlchemy's errors."""
    sqlite = url.startswith("sqlite")
    engine = create_engine(url, poolclass=StaticPool) if sqlite else create_engine(url)
    if sqlite:
        event.listen(engine, "connect", _sqlite_settings)
    try:
        with engine.connect() as connection:
            current = (
                connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
                if inspect(connection).has_table("alembic_version")
                else None
            )
        if current is not None and re.fullmatch(r"\d{4}", str(current)) and current > HEAD:
            raise StoreError(
                f"the conversations were written by a newer Loupe (schema {current}; this one knows {HEAD}): "
                "start that one, or set another LOUPE_DATA"
            )
        if current != HEAD:
            _upgrade(engine)
        with engine.begin() as connection:
            _check_columns(connection)
            connection.execute(
                update(messages)
                .where(messages.c.state == MessageState.STREAMING)
                .values(state=MessageState.INTERRUPTED)
            )
    except BaseException:
        engine.dispose()
        raise
    return engine


def upgrade_file(path: Path) -> None:
    """The schema of a SQLite file to the newest, its unfinished answers marked."""
    opened(f"sqlite:///{path}").dispose()


def _check_columns(connection: Connection) -> None:
    """The tables as they are, against those that queries are made for: a flipped bit in a name is found by no check of
    SQLite's own."""
    for table in metadata.sorted_tables:
        missing = {column.name for column in table.columns} - {
            str(column["name"]) for column in inspect(connection).get_columns(table.name)
        }
        if missing:
            raise UnknownSchema(f"the table {table.name} has no column {', '.join(sorted(missing))}")


def _sqlite_settings(connection: Any, _record: Any) -> None:
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")  # one damaged letter must not hide a list
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _upgrade(engine: Engine) -> None:
    # Imported here: Alembic costs a tenth of a second, and is needed once in a store's life.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, HEAD)
        except CommandError as error:
            raise UnknownSchema(f"the conversation store has a schema that is none: {error}") from error
