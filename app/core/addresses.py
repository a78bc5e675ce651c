"""Addresses that no host of ours may have, because what answers there hands out the keys of the machine it runs on, and
those that are not of the public internet."""

from __future__ import annotations

import ipaddress

METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "fd00:ec2::254",  # Amazon's, which is not link-local
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's agent
            "192.0.0.192",  # Oracle
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_forbidden(text: str) -> bool:
    """Whether this IP address is link-local or known to serve cloud metadata, also as an IPv4 address inside an IPv6
    one. False for what is no IP address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return any(one.is_link_local or one in METADATA for one in (address, *_inside(address)))


def is_private(text: str) -> bool:
    """Whether this IP address is this machine's, a network's own or reserved, also as an IPv4 address inside an IPv6
    one. False for what is no IP address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return any(not one.is_global or one.is_multicast for one in (address, *_inside(address)))


def _inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or not int(address) >> 32:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in found if one is not None)
