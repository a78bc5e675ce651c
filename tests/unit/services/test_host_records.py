"""A pull's layers as one count of bytes that never falls, with the recordings of a real Ollama."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.core.errors import HostError, HostProtocolError, HostRefused
from app.services.host_records import HostRecord, PullProgress, records
from tests.fakes import FakeBackend
from tests.recordings import recording


class Telling(FakeBackend):
    def __init__(self, *lines: str) -> None:
        super().__init__("one")
        self.lines = lines

    async def forward_stream(self, method: str, path: str, body: object) -> AsyncGenerator[bytes, None]:
        for line in self.lines:
            yield line.encode()


def read(*lines: str) -> list[HostRecord]:
    async def gather() -> list[HostRecord]:
        async with aclosing(records(Telling(*lines), "/api/pull", {})) as told:
            return [record async for record in told]

    return asyncio.run(gather())


@pytest.mark.parametrize("name", ["pull_ok", "pull_cut", "pull_again"])
def test_a_recorded_pull_only_rises_and_ends_whole(name: str) -> None:
    lines = [line for line in recording(name).lines if line.startswith("{")]
    seen, counted = PullProgress(), []
    for record in read(*lines):
        seen.tell(record)
        counted.append(seen.completed)
    assert counted == sorted(counted) and counted[-1] == seen.total > 0
    layers = {json.loads(line).get("digest") for line in lines} - {None}
    assert len(layers) > 1


def test_a_layer_that_is_begun_again_takes_nothing_back() -> None:
    seen = PullProgress()
    for completed in (10, 60, 0, 30):
        seen.tell(HostRecord("pulling a", "a", 100, completed))
    assert (seen.completed, seen.total, seen.moved) == (60, 100, 50)
    seen.tell(HostRecord("pulling b", "b", 50, 50))  # was there before: it counts, but did not come in now
    assert (seen.completed, seen.total, seen.moved) == (110, 150, 50)
    seen.tell(HostRecord("verifying sha256 digest"))
    assert seen.completed == seen.total


@pytest.mark.parametrize(
    ("lines", "error", "words"),
    [
        (['{"status":"pulling manifest"}'], HostProtocolError, "ended before it was done"),
        (["nonsense"], HostProtocolError, "not JSON"),
        (['{"error":"pull model manifest: file does not exist"}'], HostRefused, "file does not exist"),
        (['{"error":"context canceled"}'], HostProtocolError, "context canceled"),
    ],
)
def test_what_is_no_success_is_an_error(lines: list[str], error: type[HostError], words: str) -> None:
    with pytest.raises(error, match=words):
        read(*lines)


def test_the_records_end_with_success() -> None:
    assert [record.status for record in read('{"status":"a"}', '{"status":"success"}', '{"status":"b"}')] == [
        "a",
        "success",
    ]
