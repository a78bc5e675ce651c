"""Which registries a host may be told to ask."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from app.core.errors import BadRequest
from app.services.registry_hosts import check_registry

pytestmark = pytest.mark.anyio
NAMES = {
    "metadata.example": ["169.254.169.254"], "both.example": ["93.184.216.34", "fd00:ec2::254"],
    "fine.example": ["93.184.216.34"], "2852039166": ["169.254.169.254"], "127.0.0.1": ["127.0.0.1"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(self: Any, host: str, *words: Any, **options: Any) -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in NAMES[host]]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    "name",
    [
        "169.254.169.254/latest/meta-data", "http://169.254.169.254/a/b:c", "169.254.169.254:80/a/b",
        "100.100.100.200/a/b", "[fe80::1]:443/a/b", "[fd00:ec2::254]/a/b", "[::ffff:169.254.169.254]/a/b",
        "metadata.example/a/b", "both.example:5000/a/b", "2852039166/a/b",
    ],
)  # fmt: skip
async def test_none_that_hands_out_the_keys_of_its_machine(name: str) -> None:
    with pytest.raises(BadRequest, match="which is refused"):
        await check_registry(name)


@pytest.mark.parametrize(
    "name",
    ["llama3.2", "a/b:c", "fine.example/a/b", "127.0.0.1:5000/a/b", "unknown.example/a/b", "", "://", "\x00/a/b"],
)
async def test_others_are_the_hosts_own_affair(name: str) -> None:
    await check_registry(name)
