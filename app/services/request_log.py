"""The last requests: a ring bounded in bytes, and questions about it. Read by `/loupe/requests` and the pages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from app.services.request_trace import FinishedRequest

KEPT_BYTES = 16 << 20  # some 6,000 requests of the usual kind
MOST = 1000  # rows of one answer
# What CPython takes, more or less: the record with its numbers, each span with its attributes, each moment, a text.
_RECORD, _SPAN, _MOMENT, _TEXT, _OPTION = 1300, 420, 112, 50, 90


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are wanted; "" and None want all. `principal` is also how one sees one's own alone.

    `model` is a name, or the beginning of one up to a colon (`llama3.2` finds all its variants). `status` is "ok",
    "cancelled", an error's code, or "failed" for every error. `since` in seconds since the epoch, by the end of a
    request. `text` is looked for in names (ours and the client's), the error, and question and answer, which are there
    only where they are kept.
    """

    model: str = ""
    principal: str = ""
    status: str = ""
    cache: str = ""
    host: str = ""
    text: str = ""
    since: float | None = None
    slow_first: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True)
class LogSize:
    """What is held: requests, about how many bytes, and how many bytes it may be."""

    requests: int
    bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kept requests have of each, in the order of the alphabet: something to choose from."""

    models: tuple[str, ...]
    principals: tuple[str, ...]
    statuses: tuple[str, ...]
    caches: tuple[str, ...]


class RequestLog:
    """Newest first. Written on the event loop alone; read from any thread, by a copy."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit, self._bytes = limit, 0
        self._records: deque[FinishedRequest] = deque()
        self._sizes: deque[int] = deque()

    def add(self, record: FinishedRequest) -> None:
        """Keep it; the oldest ones go where the room ends. The newest one always stays."""
        records, sizes = self._records, self._sizes
        size = size_of(record)
        records.appendleft(record)
        sizes.appendleft(size)
        self._bytes += size
        while self._bytes > self._limit and len(records) > 1:
            self._bytes -= sizes.pop()
            records.pop()

    def find(self, request_id: str, principal: str = "") -> FinishedRequest | None:
        """By our id, or the newest one that its client named so. With `principal`: of theirs alone."""
        named = None
        for record in tuple(self._records):
            if principal in ("", record.principal):
                if record.id == request_id:
                    return record
                if named is None and record.client_id == request_id:
                    named = record
        return named

    def recent(self, limit: int) -> tuple[FinishedRequest, ...]:
        """The last ones, newest first."""
        return tuple(islice(tuple(self._records), limit))

    def select(self, wanted: RequestFilter) -> tuple[FinishedRequest, ...]:
        """The newest first, or the slowest."""
        fits = (record for record in tuple(self._records) if _fits(record, wanted))
        if wanted.slow_first:
            return tuple(sorted(fits, key=lambda record: -record.seconds)[: wanted.limit])
        return tuple(islice(fits, wanted.limit))

    def seen(self, principal: str = "") -> Seen:
        """Of everybody, or of one."""
        rows = [record for record in tuple(self._records) if principal in ("", record.principal)]
        columns = ({one.model for one in rows}, {one.principal for one in rows}, {one.status for one in rows})
        return Seen(*(tuple(sorted(column - {""})) for column in (*columns, {one.cache.outcome for one in rows})))

    @property
    def size(self) -> LogSize:
        return LogSize(len(self._records), self._bytes, self._limit)


def size_of(record: FinishedRequest) -> int:
    """About how many bytes it takes. What many records share (names of models, hosts, principals) counts for each."""
    size = _RECORD + _SPAN * len(record.spans) + _MOMENT * len(record.pace)
    if record.options:
        size += _OPTION * len(record.options)
    if record.answer or record.question or record.error or record.client_id:
        size += _TEXT + 2 * (len(record.error) + len(record.question) + len(record.answer)) + len(record.client_id)
    return size


def _fits(record: FinishedRequest, wanted: RequestFilter) -> bool:
    status = wanted.status
    if status == "failed":
        right = record.status not in ("ok", "cancelled")
    else:
        right = status in ("", record.status)
    return (
        right
        and wanted.principal in ("", record.principal)
        and wanted.cache in ("", record.cache.outcome)
        and wanted.host in ("", record.host)
        and (not wanted.model or _is_model(record.model, wanted.model))
        and (wanted.since is None or record.started_at + record.seconds >= wanted.since)
        and (not wanted.text or wanted.text.lower() in _text_of(record))
    )


def _text_of(record: FinishedRequest) -> str:
    words = (record.id, record.client_id, record.status, record.error, record.question, record.answer)
    return "\n".join(words).lower()


def _is_model(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}:")
