"""The records of a long management request (pull, create), read; and the bytes of a pull over all of its layers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from app.core.errors import HostProtocolError, HostRefused
from app.core.generation import Json
from app.core.ports import Backend
from app.wire.answers import error_text, parse_object
from app.wire.go_json import dumps

# The last words of a host that is being stopped (Go's context, our own runtime): nothing was refused.
_GOING_DOWN = ("context canceled", "request canceled", "server is shutting down")


@dataclass(frozen=True, slots=True)
class HostRecord:
    """One record. `completed` and `total` in bytes, 0 where absent."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


async def records(backend: Backend, path: str, body: Mapping[str, Json]) -> AsyncGenerator[HostRecord, None]:
    """POST and read to the record "success". Raises `HostRefused` for an error record, `HostProtocolError` where the
    stream ends without success, and what the backend raises. Closing the generator closes the connection."""
    host = backend.address.name
    async with aclosing(backend.forward_stream("POST", path, dumps(dict(body)))) as lines:
        async for line in lines:
            record = parse_object(line, host)
            if "error" in record:
                raise _refused(host, error_text(line) or str(record["error"]))
            told = HostRecord(
                _text(record, "status"), _text(record, "digest"), _count(record, "total"), _count(record, "completed")
            )
            yield told
            if told.status == "success":
                return
    raise HostProtocolError(host, "the answer ended before it was done")


async def uploaded(backend: Backend, digest: str, chunks: AsyncIterator[bytes]) -> None:
    """Send a blob, unless the host has it. Raises what the backend raises."""
    path = f"/api/blobs/{digest}"
    if (await backend.forward("HEAD", path)).status == 200:
        return
    async with aclosing(backend.forward_stream("POST", path, chunks)) as lines:
        async for _ in lines:
            pass


def _refused(host: str, text: str) -> HostProtocolError | HostRefused:
    if any(words in text for words in _GOING_DOWN):
        return HostProtocolError(host, text)
    return HostRefused(host, 500, text)


def _text(record: Mapping[str, Json], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _count(record: Mapping[str, Json], key: str) -> int:
    value = record.get(key)
    return value if isinstance(value, int) and value > 0 else 0


@dataclass(slots=True)
class PullProgress:
    """The layers of one pull together. `completed` never falls, also when a layer or the whole pull is begun again."""

    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)  # digest → (completed, total)
    _found: dict[str, int] = field(default_factory=dict)  # digest → what was there before

    def tell(self, record: HostRecord) -> None:
        if record.status.startswith("verifying"):  # every layer has arrived, whatever was told of it last
            self._layers = {digest: (total, total) for digest, (_, total) in self._layers.items()}
        if not record.digest:
            return
        done, total = self._layers.get(record.digest, (0, 0))
        self._found.setdefault(record.digest, record.completed)
        total = max(total, record.total)
        self._layers[record.digest] = (min(max(done, record.completed), total), total)

    @property
    def completed(self) -> int:
        return sum(done for done, _ in self._layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())

    @property
    def moved(self) -> int:
        """Bytes that came in now, without those that were there before."""
        return self.completed - sum(self._found.values())
