"""Which hosts Loupe talks to: those that were named, else an Ollama on this machine, else its own runtime."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.backends.ollama_http import OllamaHttp
from app.config import Settings
from app.core.errors import HostError
from app.core.hosts import HostAddress
from app.host_urls import DEFAULT_URL

PROBE_SECONDS = 2.0  # an Ollama on this machine answers its version in milliseconds, even while it generates
EMBEDDED_MODULES = ("xllamacpp", "gguf")  # the extra `embedded`; it has no wheels on some platforms
INSTALL_HINT = "install Ollama from ollama.com and start it with `ollama serve`"


@dataclass(frozen=True, slots=True)
class Resolution:
    """`hosts` to talk to; `embedded` says to start our own runtime instead. `why` is one line for people."""

    hosts: tuple[HostAddress, ...]
    embedded: bool
    why: str


async def resolve_hosts(
    settings: Settings,
    *,
    probe: Callable[[HostAddress], Awaitable[str]] | None = None,
    embedded_installed: Callable[[], bool] | None = None,
) -> Resolution:
    """LOUPE_HOSTS or OLLAMA_HOST where set; Ollama at its usual address if it answers; our runtime if installed.

    Never raises: with nothing that answers and no runtime, the usual address stays the host, so that Loupe recovers
    by itself when Ollama is started.
    """
    if settings.hosts:
        names = ", ".join(host.name for host in settings.hosts)
        return Resolution(settings.hosts, False, f"LOUPE_HOSTS names {names}")
    if settings.ollama_host:
        host = HostAddress("ollama", settings.ollama_host, slots=settings.slots)
        return Resolution((host,), False, f"OLLAMA_HOST is {host.url}")
    local = HostAddress("ollama", DEFAULT_URL, slots=settings.slots)
    version = await (probe or ollama_at)(local)
    if version:
        return Resolution((local,), False, f"Ollama {version} answers at {local.url}")
    if (embedded_installed or _embedded_installed)():
        return Resolution((), True, f"no Ollama answers at {local.url}, so Loupe runs its own runtime")
    return Resolution((local,), False, f"no Ollama answers at {local.url}, and Loupe's own runtime is not installed "
                      f"here: {INSTALL_HINT}")  # fmt: skip


async def ollama_at(address: HostAddress) -> str:
    """The version of the Ollama there, or "" if nothing answers with its protocol in time."""
    backend = OllamaHttp(address)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return (await backend.version())[0]
    except (HostError, TimeoutError):
        return ""
    finally:
        await backend.close()


def _embedded_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in EMBEDDED_MODULES)
