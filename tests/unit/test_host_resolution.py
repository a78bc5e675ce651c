"""Named hosts, then an Ollama on this machine, then our own runtime."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.config import Settings
from app.core.hosts import HostAddress
from app.host_resolution import resolve_hosts

pytestmark = pytest.mark.anyio


def answering(version: str, asked: list[str]) -> Callable[[HostAddress], Awaitable[str]]:
    async def probe(address: HostAddress) -> str:
        asked.append(address.url)
        return version

    return probe


async def test_named_hosts_are_taken_without_looking_for_others(tmp_path: Path) -> None:
    asked: list[str] = []
    settings = Settings(data=tmp_path, hosts="a=:1;slots=3,b=:2", ollama_host=":3")

    found = await resolve_hosts(settings, probe=answering("0.33.0", asked))

    assert [(host.name, host.slots) for host in found.hosts] == [("a", 3), ("b", 1)]
    assert not found.embedded
    assert asked == []


async def test_ollama_host_is_taken_even_if_nothing_answers_there(tmp_path: Path) -> None:
    found = await resolve_hosts(Settings(data=tmp_path, ollama_host="0.0.0.0:1234", slots=2), probe=answering("", []))

    assert found.hosts == (HostAddress("ollama", "http://127.0.0.1:1234", slots=2),)
    assert not found.embedded


async def test_an_ollama_on_this_machine_is_found(tmp_path: Path) -> None:
    asked: list[str] = []

    found = await resolve_hosts(Settings(data=tmp_path), probe=answering("0.33.0", asked))

    assert asked == ["http://127.0.0.1:11434"]
    assert [host.url for host in found.hosts] == asked
    assert "0.33.0" in found.why


async def test_with_no_ollama_our_own_runtime_is_used(tmp_path: Path) -> None:
    found = await resolve_hosts(Settings(data=tmp_path), probe=answering("", []), embedded_installed=lambda: True)

    assert found.embedded
    assert found.hosts == ()


async def test_without_runtime_the_usual_address_stays_and_the_way_to_ollama_is_told(tmp_path: Path) -> None:
    found = await resolve_hosts(Settings(data=tmp_path), probe=answering("", []), embedded_installed=lambda: False)

    assert not found.embedded
    assert [host.url for host in found.hosts] == ["http://127.0.0.1:11434"]
    assert "ollama serve" in found.why
