"""The registry that a model's name leads to: looked at before a host is told to ask it.

Our own runtime looks at every address again when it connects; an Ollama does not.
"""

from __future__ import annotations

import asyncio
import socket

from app.core.addresses import is_forbidden
from app.core.errors import BadRequest
from app.wire.model_names import DEFAULT_HOST, parse_name

LOOK_UP_SECONDS = 2.0


async def check_registry(name: str) -> None:
    """Raises `BadRequest` where the name's registry is, or resolves to, a link-local or cloud metadata address.

    A name that nobody here can resolve is left to the host, whose own resolver has the last word.
    """
    host = parse_name(name.strip()).host
    if host.casefold() == DEFAULT_HOST:
        return
    bare = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if any(map(is_forbidden, [bare, *await _addresses(bare)])):
        raise BadRequest(f"{host} is a link-local or cloud metadata address, which is refused", "model")


async def _addresses(host: str) -> list[str]:
    """Also of names like 2852039166, which are addresses."""
    try:
        async with asyncio.timeout(LOOK_UP_SECONDS):
            rows = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    return [str(row[4][0]) for row in rows]
