"""Rows of the history store as values. A row with a damaged field is shown as far as it can be read: SQLite keeps no
checksums, so a flipped bit inside a text or a number is nobody's error until somebody reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from app.core.conversations import Answer, Conversation, ConversationRow, MessageState, StoredMessage
from app.core.generation import Json
from app.services.history_schema import decode_answer, messages


def messages_of(connection: Connection, conversation_id: str) -> tuple[StoredMessage, ...]:
    query = (
        select(messages)
        .where(messages.c.conversation_id == conversation_id, messages.c.replaced_at.is_(None))
        .order_by(messages.c.position)
    )
    return tuple(
        StoredMessage(
            str(row["id"]), str(row["role"]), str(row["content"]), _number(row["created_at"]), _state(row["state"]),
            str(row["thinking"]), _answer(row["answer"]),
        )
        for row in connection.execute(query).mappings()
    )  # fmt: skip


def conversation_of(row: Mapping[str, Any], stored: tuple[StoredMessage, ...]) -> Conversation:
    return Conversation(
        row["id"], row["principal"], str(row["title"]), str(row["model"]), str(row["system"]),
        _options(row["options"]), _number(row["created_at"]), _number(row["updated_at"]), stored,
    )  # fmt: skip


def listed(row: Any) -> ConversationRow:
    """A row of the list: id, title, model, time of the last change, count of answers being written."""
    return ConversationRow(str(row[0]), str(row[1]), str(row[2]), _number(row[3]), bool(row[4]))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _state(value: object) -> MessageState:
    return next((state for state in MessageState if state == value), MessageState.INTERRUPTED)


def _answer(text: object) -> Answer:
    try:
        return decode_answer(str(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer()


def _options(text: object) -> dict[str, Json]:
    try:
        options = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}
