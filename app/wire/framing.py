"""Lines and server-sent events out of chunks of bytes, and back. Knows nothing of what the lines say.

Only b"\\n" ends a line. Text splitters (and httpx's `aiter_lines`) also split on U+0085, U+2028 and U+2029, which
are legal inside a JSON string, and so tear records apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

LINE_LIMIT = 8 << 20
"""Bytes. The Go client and Ollama's own reader of llama-server events use the same bound."""


class LineTooLong(ValueError):
    """A line went on past the limit; what follows it cannot be trusted to begin at a record."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a line is longer than {limit} bytes")
        self.limit = limit


async def line_batches(chunks: AsyncIterable[bytes], limit: int = LINE_LIMIT) -> AsyncIterator[list[bytes]]:
    """The lines of `chunks`, without their ends: those that one chunk completes together, never none of them. Blank
    lines are skipped and a last line needs no newline.

    At most `limit` bytes of one line are ever held. A carriage return before the newline is dropped: outside a
    string it is white space to JSON.
    """
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        batch: list[bytes] = []
        head, *rest = chunk.split(b"\n")
        size += len(head)
        held.append(head)
        for part in rest:
            if size > limit:
                break
            if line := b"".join(held).rstrip(b"\r"):
                batch.append(line)
            size, held = len(part), [part]
        if batch:
            yield batch
        if size > limit:
            raise LineTooLong(limit)
    if line := b"".join(held).rstrip(b"\r"):
        yield [line]


async def split_lines(chunks: AsyncIterable[bytes], limit: int = LINE_LIMIT) -> AsyncIterator[bytes]:
    """The same, one by one."""
    async for batch in line_batches(chunks, limit):
        for line in batch:
            yield line


def ndjson(line: bytes) -> bytes:
    """One record as it goes on the wire."""
    return line + b"\n"


def sse_event(data: bytes, event: str | None = None) -> bytes:
    """One server-sent event. Newlines in `data` become several `data:` fields, as the standard says."""
    name = f"event: {event}\n".encode() if event else b""
    fields = b"".join(b"data: " + part + b"\n" for part in data.split(b"\n"))
    return name + fields + b"\n"


SSE_DONE = sse_event(b"[DONE]")
"""How an OpenAI stream ends."""


async def sse_data(chunks: AsyncIterable[bytes], limit: int = LINE_LIMIT) -> AsyncIterator[bytes]:
    """The `data` of each server-sent event. Comments and other fields are skipped.

    An event ends at a blank line or at the end of the stream; `split_lines` drops blank lines, so the events are
    found here by hand. Llama-server writes one `data:` field per event.
    """
    held = b""
    fields: list[bytes] = []
    async for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        if len(held) > limit:
            raise LineTooLong(limit)
        for line in (line.rstrip(b"\r") for line in lines):
            if line.startswith(b"data:"):
                fields.append(line[5:].removeprefix(b" "))
            elif not line and fields:
                yield b"\n".join(fields)
                fields = []
    if held.startswith(b"data:"):
        fields.append(held.rstrip(b"\r")[5:].removeprefix(b" "))
    if fields:
        yield b"\n".join(fields)
