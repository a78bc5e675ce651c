"""Lines and events come out whole, however their bytes were cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.framing import SSE_DONE, LineTooLong, line_batches, ndjson, split_lines, sse_data, sse_event

# Everything that some splitter takes for the end of a line, and ordinary text.
LINE = st.text(st.sampled_from("ab\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e é漢\U0001f600"), min_size=1).map(
    lambda text: text.encode()
)


def cut(body: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({min(edge, len(body)) for edge in at} | {0, len(body)})
    return [body[a:b] for a, b in zip(edges, edges[1:], strict=False)]


async def chunks_of(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def lines_of(pieces: list[bytes], limit: int = 1000) -> list[bytes]:
    async def read() -> list[bytes]:
        return [line async for line in split_lines(chunks_of(pieces), limit)]

    return asyncio.run(read())


def data_of(pieces: list[bytes]) -> list[bytes]:
    async def read() -> list[bytes]:
        return [data async for data in sse_data(chunks_of(pieces))]

    return asyncio.run(read())


@given(st.lists(LINE, max_size=6), st.lists(st.integers(0, 200), max_size=20), st.booleans())
def test_lines_survive_any_cut(lines, at, last_newline):
    body = b"".join(map(ndjson, lines))
    if not last_newline:
        body = body.removesuffix(b"\n")
    assert lines_of(cut(body, at)) == lines


@given(st.lists(LINE, max_size=6), st.lists(st.integers(0, 300), max_size=20))
def test_events_survive_any_cut(payloads, at):
    body = b"".join(map(sse_event, payloads))
    assert data_of(cut(body, at)) == payloads


def test_lines_that_come_together_are_told_together_and_those_before_one_that_is_too_long_are_told() -> None:
    async def read(pieces: list[bytes], limit: int) -> list[list[bytes] | str]:
        told: list[list[bytes] | str] = []
        try:
            async for batch in line_batches(chunks_of(pieces), limit):
                told.append(batch)
        except LineTooLong:
            told.append("too long")
        return told

    assert asyncio.run(read([b"a\nb\nc", b"d\n", b"\n\n", b"e"], 100)) == [[b"a", b"b"], [b"cd"], [b"e"]]
    assert asyncio.run(read([b"a\nb\n" + b"x" * 11 + b"\nc\n"], 10)) == [[b"a", b"b"], "too long"]


def test_python_text_splitting_would_tear_these_lines():
    line = '{"text":"a\u0085b\u2028c"}'
    assert lines_of([ndjson(line.encode())]) == [line.encode()]
    assert len(line.splitlines()) == 3


def test_blank_lines_and_carriage_returns_are_dropped():
    assert lines_of([b"\n\r\na\r\n", b"\n", b"b"]) == [b"a", b"b"]


def test_a_line_at_the_limit_passes_and_one_byte_more_is_refused():
    assert lines_of([b"x" * 10 + b"\n"], limit=10) == [b"x" * 10]
    for pieces in ([b"x" * 11], [b"x" * 6, b"x" * 5], [b"a\n" + b"x" * 11]):
        with pytest.raises(LineTooLong, match="longer than 10 bytes"):
            lines_of(pieces, limit=10)


def test_an_event_keeps_its_newlines_and_comments_are_skipped():
    assert data_of([sse_event(b"a\nb", "message"), b": ping\n\n", b"data:c\r\n\r\n", SSE_DONE, b"data: last"]) == [
        b"a\nb",
        b"c",
        b"[DONE]",
        b"last",
    ]


def test_an_endless_event_line_is_refused():
    async def read() -> None:
        async for _ in sse_data(chunks_of([b"data: " + b"x" * 50]), limit=20):
            pass

    with pytest.raises(LineTooLong):
        asyncio.run(read())
