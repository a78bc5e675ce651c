"""Tables of the history store, and how a message's cost is written as JSON.

The schema is made and changed by the Alembic scripts under `migrations/`; this module is what queries are built
from. `HEAD` is the newest revision: Alembic itself is imported only when a file is not there yet.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

from app.core.conversations import Answer
from app.core.generation import Span, Usage

HEAD = "0001"

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("principal", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("titled_by_user", Boolean, nullable=False),
    Column("model", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    Index("conversations_by_principal", "principal", "updated_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("conversation_id", String(32), ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("thinking", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    # Set when an edit or a new answer took its place: nothing that was written is thrown away.
    Column("replaced_at", Float),
    Index("messages_by_conversation", "conversation_id", "position"),
    Index("messages_by_state", "state"),
)


def encode_answer(answer: Answer) -> str:
    spans = [{**span._asdict(), "attributes": dict(span.attributes)} for span in answer.spans]
    return json.dumps({**asdict(replace(answer, spans=())), "spans": spans}, separators=(",", ":"))


def decode_answer(text: str) -> Answer:
    """The inverse of `encode_answer`; keys that a newer version wrote are ignored."""
    raw: dict[str, Any] = json.loads(text) if text else {}
    usage = raw.get("usage")
    spans = raw.get("spans") or ()
    plain = ("model", "digest", "host", "ttft", "cached", "cached_age", "error", "error_code", "done_reason")
    known = {key: raw[key] for key in plain if key in raw}
    return Answer(
        **known,
        usage=Usage(**usage) if usage else None,
        spans=tuple(Span(s["name"], s["start"], s["end"], s.get("attributes") or {}) for s in spans),
    )
