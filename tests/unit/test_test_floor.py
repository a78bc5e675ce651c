"""The floor that the other tests stand on: loopback only, a clean environment, recordings that must be there."""

from __future__ import annotations

import os
import socket

import pytest

from tests.conftest import OffLoopback
from tests.recordings import FOLDER, RecordingMissing, names, recording


def test_a_connection_off_loopback_is_refused(off_loopback_attempts):
    with socket.socket() as client, pytest.raises(OffLoopback):
        client.connect(("192.0.2.1", 80))
    assert off_loopback_attempts == ["192.0.2.1"]
    off_loopback_attempts.clear()


def test_a_name_off_loopback_is_not_looked_up(off_loopback_attempts):
    with pytest.raises(OffLoopback):
        socket.getaddrinfo("example.invalid", 80)
    off_loopback_attempts.clear()


@pytest.mark.anyio
async def test_the_guard_holds_for_async_code_too(off_loopback_attempts):
    import asyncio

    with pytest.raises(OffLoopback):
        await asyncio.open_connection("192.0.2.1", 80)
    off_loopback_attempts.clear()


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_settings_of_the_developer_do_not_reach_a_test():
    assert not [name for name in os.environ if name.startswith("OLLAMA_") or name.lower().endswith("_proxy")]


def test_every_recording_can_be_read():
    for name in names():
        exchange = recording(name)
        assert exchange.name == name
        assert exchange.status in range(200, 600)
        assert exchange.text is not None or exchange.body is not None or exchange.lines


def test_a_missing_recording_fails_instead_of_being_skipped():
    with pytest.raises(RecordingMissing):
        recording("never_recorded")
    with pytest.raises(RecordingMissing):
        names("never_*")


def test_the_index_lists_what_is_there():
    index = (FOLDER / "INDEX.md").read_text()
    assert [name for name in names() if f"| {name} |" not in index] == []
