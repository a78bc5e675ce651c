"""Which Host and Origin headers are ours. Pure rules over header values; the middleware in `guards` applies them.

Names are compared whole, never by prefix or suffix: a rebound name such as `127.0.0.1.evil.example` must not pass, and
`Origin == Host` proves nothing until the Host itself is known to be ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}


@dataclass(frozen=True, slots=True)
class Authority:
    """A host name and the port written behind it, if one was."""

    name: str
    port: int | None

    def port_for(self, scheme: str) -> int:
        return self.port if self.port is not None else _DEFAULT_PORTS[scheme]


def parse_authority(text: str) -> Authority | None:
    """`name`, `name:port`, `[v6]:port`; None for anything else (empty, user name, odd bytes, impossible port)."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None or (match[2] and not 0 < int(match[2]) <= 65535):
        return None
    return Authority(match[1], int(match[2]) if match[2] else None)


class HostRules:
    """The names of LOUPE_ALLOWED_HOSTS. One without a port fits any port; one with a port fits only that."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        entries = [authority for word in allowed if (authority := parse_authority(word))]
        self._names = frozenset(entry.name for entry in entries if entry.port is None)
        self._exact = frozenset(entries)

    def accept(self, headers: list[str]) -> Authority | None:
        """The authority of the request, if its one Host header is ours; two headers are a smuggling attempt."""
        authority = parse_authority(headers[0]) if len(headers) == 1 else None
        if authority is None:
            return None
        return authority if authority.name in self._names or authority in self._exact else None


class OriginRules:
    """Our own origin, which is where the request went, and the others of LOUPE_ORIGINS."""

    def __init__(self, others: tuple[str, ...]) -> None:
        self._others = frozenset(others)

    def is_own(self, origin: str, host: Authority, scheme: str) -> bool:
        """Same name and port as the Host. A page served by TLS in front of us has an https origin; the reverse, an
        http page calling an https server, is another site."""
        kind, separator, rest = origin.lower().partition("://")
        authority = parse_authority(rest) if separator and kind in _DEFAULT_PORTS else None
        if authority is None or authority.name != host.name:
            return False
        if kind == "http" and _SECURE.get(scheme) == "https":
            return False
        if authority.port is None or host.port is None:
            # One side leaves its default port out; behind a TLS proxy that is 443, whatever our own scheme says.
            return authority.port_for(kind) == host.port_for(kind)
        return authority.port == host.port

    def is_other(self, origin: str) -> bool:
        """Whether the operator has let this foreign origin in."""
        return origin.lower() in self._others
