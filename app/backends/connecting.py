"""How a connection to a host is made: one pool for each, and never to an address that no host may have.

A name is looked up here and the address found is the one that is connected to, so that a name cannot be checked as
one address and used as another.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.addresses import is_forbidden, is_private

KEEP_ALIVE_SECONDS = 4.0  # below uvicorn's 5 s, so that a connection is never reused just as the host closes it


class GuardedResolver(AbstractResolver):
    """The system's resolver, less forbidden addresses, and with `public` less private ones. Also asked for names like
    2852039166, which are addresses."""

    def __init__(self, *, public: bool = False) -> None:
        self._resolver, self._public = aiohttp.ThreadedResolver(), public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        kept = [one for one in found if not is_forbidden(one["host"])]
        if found and not kept:
            raise OSError(errno.EACCES, f"{host} is a link-local or cloud metadata address, which is refused")
        allowed = [one for one in kept if not (self._public and is_private(one["host"]))]
        if kept and not allowed:
            raise OSError(errno.EACCES, f"{host} leads to a private address, which is refused")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def session(headers: Mapping[str, str], connect_seconds: float, *, public: bool = False) -> aiohttp.ClientSession:
    """To be made in the event loop that uses it. The only limit of time that it has is the one for connecting.
    `public`: never to a private address either."""
    resolver = GuardedResolver(public=public)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        trust_env=False,
    )
