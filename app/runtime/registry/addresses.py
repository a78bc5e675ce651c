"""Which addresses a registry may send us to.

A registry redirects to wherever its blobs lie, so a hostile one could make this machine fetch from its own network.
The registry itself may be nearly anywhere, since a person named it; what follows must lie at least as far outside as it
does. Link-local addresses and those of cloud metadata are never reached, whoever names them.
The address that is checked is the one that is connected to: nothing is looked up again in between.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.addresses import is_forbidden

Lookup = Callable[[str, int], Awaitable[list[tuple[Any, ...]]]]  # (host, port) -> what getaddrinfo gives

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64 (RFC 6052): the last 32 bits are an IPv4 address
_COMPATIBLE = ipaddress.ip_network("::/96")  # an old way to write IPv4 addresses


class Reach(Enum):
    """How far outside this machine an address lies."""

    GLOBAL = "global"
    PRIVATE = "private"
    LINK_LOCAL = "link local"
    LOOPBACK = "loopback"
    NOWHERE = "nowhere"  # multicast and reserved


# From the outermost to the innermost: a name with several addresses counts as its outermost one.
_OUTER_FIRST = (Reach.GLOBAL, Reach.PRIVATE, Reach.LINK_LOCAL, Reach.LOOPBACK, Reach.NOWHERE)
_MAY_REACH = {
    Reach.GLOBAL: {Reach.GLOBAL},
    Reach.PRIVATE: {Reach.GLOBAL, Reach.PRIVATE},
    Reach.LINK_LOCAL: set(),
    Reach.LOOPBACK: {Reach.GLOBAL, Reach.PRIVATE, Reach.LOOPBACK},
    Reach.NOWHERE: {Reach.GLOBAL},
}


class AddressForbidden(OSError):
    """An address that the registry may not send us to. An OSError, because it is raised where sockets are made."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"the registry leads to {address}, an address inside this machine or network")


def reach_of(address: str) -> Reach:
    """How far outside `address` lies (text, a zone after % is ignored); addresses inside addresses are unpacked."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (inner := _inner(ip)) is not None:
        return reach_of(str(inner))
    if ip.is_loopback or ip.is_unspecified:  # 0.0.0.0 connects to this machine
        return Reach.LOOPBACK
    if ip.is_link_local:
        return Reach.LINK_LOCAL
    if ip.is_multicast or ip.is_reserved:
        return Reach.NOWHERE
    return Reach.GLOBAL if ip.is_global else Reach.PRIVATE


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour
    if ip.teredo:
        return ip.teredo[1]
    if ip in _TRANSLATED or (ip in _COMPATIBLE and int(ip) > 1):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class AddressPolicy:
    """What one registry may reach. The first look-up, which is the registry's own, decides for all that follow."""

    def __init__(self) -> None:
        self._allowed: set[Reach] | None = None

    def learn(self, addresses: Iterable[str]) -> None:
        """Takes the registry's own addresses, once."""
        if self._allowed is None:
            found = {reach_of(address) for address in addresses}
            self._allowed = _MAY_REACH[next((reach for reach in _OUTER_FIRST if reach in found), Reach.NOWHERE)]

    def allows(self, address: str) -> bool:
        return self._allowed is not None and reach_of(address) in self._allowed and not is_forbidden(address)

    def make_socket(self, found: tuple[Any, ...]) -> socket.socket:
        """A socket for one getaddrinfo row, or `AddressForbidden`: the last word before a connection."""
        family, kind, protocol, _, sockaddr = found
        if not self.allows(str(sockaddr[0])):
            raise AddressForbidden(str(sockaddr[0]))
        return socket.socket(family, kind, protocol)


async def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    loop = asyncio.get_running_loop()
    return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


class CheckedResolver(AbstractResolver):
    """Names to addresses, with those left out that the policy forbids. Raises `AddressForbidden` if none is left."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup) -> None:
        self._policy, self._lookup = policy, lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        rows = await self._lookup(host, port)
        self._policy.learn(str(row[4][0]) for row in rows)
        allowed = [row for row in rows if self._policy.allows(str(row[4][0]))]
        if not allowed:
            raise AddressForbidden(f"{host} ({rows[0][4][0]})" if rows else host)
        return [
            ResolveResult(
                hostname=host, host=str(row[4][0]), port=port, family=row[0], proto=row[2], flags=socket.AI_NUMERICHOST
            )
            for row in allowed
            if family in (socket.AF_UNSPEC, row[0])
        ]

    async def close(self) -> None:
        """Nothing is held."""
