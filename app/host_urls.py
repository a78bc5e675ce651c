"""The grammar of `OLLAMA_HOST` and `LOUPE_HOSTS`. Pure; reads no environment and opens no socket.

`OLLAMA_HOST` follows Ollama's own client (envconfig.Host of the 0.33 server, and `_parse_host` of the Python client):
quotes and space around it are dropped, no scheme means http and port 11434, `http://` means 80 and `https://` 443, an
impossible port means the default, a path is kept, `0.0.0.0` and `::` mean this machine.
"""

from __future__ import annotations

import ipaddress
import re

from app.core.addresses import is_forbidden
from app.core.hosts import HostAddress

DEFAULT_URL = "http://127.0.0.1:11434"
HOST_GRAMMAR = "host, :port, host:port, [ipv6]:port, or an http:// or https:// URL without a user name"
HOSTS_GRAMMAR = "name=url;slots=2;key=secret, more of them after commas"
MAX_SLOTS = 64  # more parallel generations than any one host serves well

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"(?:.*\.)?(?:0[xX][0-9a-fA-F]*|[0-9]+)")  # what resolvers take for an address, disguised
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_ollama_host(value: str) -> str:
    """The URL to connect to, without a trailing slash; an empty value gives Ollama's default address.

    Raises ValueError with a sentence that says what is wrong.
    """
    text = value.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
        if text == "ollama.com":
            scheme = "https"
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"the scheme {scheme!r} is not http or https")
    default_port = _DEFAULT_PORTS[scheme] if separator or scheme == "https" else 11434
    authority, slash, path = rest.partition("/")
    if any(sign in rest for sign in "?#@\\") or any(character.isspace() for character in rest):
        raise ValueError("a user name, a query or a space has no place in it")
    host, port = _split_authority(authority, default_port)
    path = "/".join(part for part in path.split("/") if part)
    return f"{scheme}://{_connectable(host)}:{port}" + (f"/{path}" if slash and path else "")


def _split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Host (IPv6 without brackets; "" for none) and port, as Go's SplitHostPort would part them."""
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError("the brackets of the IPv6 address are not closed")
        return host, _port(tail[1:], default_port) if tail else default_port
    if authority.count(":") > 1:  # an IPv6 address without brackets; it cannot carry a port
        return authority, default_port
    host, colon, port = authority.partition(":")
    return host, _port(port, default_port) if colon else default_port


def _port(text: str, default: int) -> int:
    """Ollama falls back to the default for a port that is none; port 0 cannot be connected to, so it is one of them."""
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) <= 65535 else default


def _connectable(host: str) -> str:
    """The host as it stands in a URL. Addresses that mean "every interface" become loopback."""
    if not host:
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if ":" in host or not _HOST_NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
            raise ValueError(f"{host!r} is not a host name or an IP address") from None
        return host.lower()
    if is_forbidden(host):
        raise ValueError(f"{host} is a link-local or cloud metadata address, which is refused")
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return str(address) if address.version == 4 else f"[{address}]"


def parse_hosts(value: str, default_slots: int = 1) -> tuple[HostAddress, ...]:
    """`name=url;slots=2;key=secret,name=url` as addresses, in the order written.

    Raises ValueError with a sentence that names the entry (never its key).
    """
    hosts: list[HostAddress] = []
    for entry in (part.strip() for part in value.split(",")):
        if not entry:
            continue
        host = _parse_entry(entry, default_slots)
        if any(known.name.lower() == host.name.lower() for known in hosts):
            raise ValueError(f"the name {host.name} is there twice")
        if any(known.url == host.url for known in hosts):
            raise ValueError(f"{host.name} has the same address as another host, so its slots would count twice")
        hosts.append(host)
    return tuple(hosts)


def _parse_entry(entry: str, default_slots: int) -> HostAddress:
    head, *extras = (part.strip() for part in entry.split(";"))
    name, equals, url = (part.strip() for part in head.partition("="))
    if not equals or not _NAME.fullmatch(name):
        raise ValueError(f"{_shown(head)} does not begin with name=url (letters, digits, . _ - in the name)")
    if not url:
        raise ValueError(f"{name} has no address")
    slots, key = default_slots, None
    for extra in extras:
        option, _, given = (part.strip() for part in extra.partition("="))
        if option == "slots":
            slots = _slots(name, given)
        elif option == "key" and given:
            key = given
        elif extra:
            raise ValueError(f"{name} has {option!r}, which is not slots=N or key=SECRET")
    try:
        return HostAddress(name=name, url=parse_ollama_host(url), slots=slots, key=key)
    except ValueError as problem:
        raise ValueError(f"the address of {name} is wrong: {problem}") from None


def read_address(name: str, url: str, slots: int, key: str | None) -> HostAddress:
    """A host given part by part instead of in the grammar. Raises ValueError with a sentence."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{_shown(name)} is not a name: letters, digits, . _ - and at most 63 of them")
    if not url.strip():
        raise ValueError(f"{name} has no address")
    if key is not None and not re.fullmatch(r"[!-~]{1,4096}", key):
        raise ValueError("the key has characters that a header cannot carry, or too many")
    slots = _slots(name, str(slots))
    try:
        return HostAddress(name, parse_ollama_host(url), slots, key or None)
    except ValueError as problem:
        raise ValueError(f"the address of {name} is wrong: {problem}") from None


def _slots(name: str, given: str) -> int:
    if not (given.isascii() and given.isdigit()) or not 1 <= int(given) <= MAX_SLOTS:
        raise ValueError(f"{name} has slots={given}, which is not a number from 1 to {MAX_SLOTS}")
    return int(given)


def _shown(text: str) -> str:
    """Enough of a broken entry to find it, little enough not to print a key that landed in the wrong place."""
    return repr(text[:20] + ("…" if len(text) > 20 else ""))
