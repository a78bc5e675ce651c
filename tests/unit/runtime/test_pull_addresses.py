"""Where a registry may send us: never further inside than it is itself."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from yarl import URL

from app.core.errors import BadRequest
from app.runtime.registry.addresses import AddressForbidden, AddressPolicy, CheckedResolver, Reach, is_address, reach_of
from app.runtime.registry.errors import RegistryError
from app.runtime.registry.pace import Pace
from app.runtime.registry.registry_client import RegistryClient, redirected
from app.wire.model_names import ModelName

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("93.184.216.34", Reach.GLOBAL), ("2606:4700::1111", Reach.GLOBAL),
        ("10.1.2.3", Reach.PRIVATE), ("172.16.0.1", Reach.PRIVATE), ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE), ("fd00::1", Reach.PRIVATE), ("198.18.0.1", Reach.PRIVATE),
        ("192.0.2.1", Reach.PRIVATE), ("2001:db8::1", Reach.PRIVATE),
        ("169.254.169.254", Reach.LINK_LOCAL), ("fe80::1", Reach.LINK_LOCAL), ("fe80::1%eth0", Reach.LINK_LOCAL),
        ("127.0.0.1", Reach.LOOPBACK), ("127.9.9.9", Reach.LOOPBACK), ("::1", Reach.LOOPBACK),
        ("0.0.0.0", Reach.LOOPBACK), ("::", Reach.LOOPBACK),
        ("224.0.0.1", Reach.NOWHERE), ("ff02::1", Reach.NOWHERE), ("240.0.0.1", Reach.NOWHERE),
        ("255.255.255.255", Reach.NOWHERE),
        # addresses inside addresses
        ("::ffff:127.0.0.1", Reach.LOOPBACK), ("::ffff:93.184.216.34", Reach.GLOBAL), ("::127.0.0.1", Reach.LOOPBACK),
        ("64:ff9b::10.0.0.1", Reach.PRIVATE), ("64:ff9b::a9fe:a9fe", Reach.LINK_LOCAL),
        ("2002:7f00:1::", Reach.LOOPBACK), ("2002:c0a8:101::", Reach.PRIVATE),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", Reach.LOOPBACK),  # Teredo: the client is 127.0.0.1, inverted
    ],
)  # fmt: skip
def test_an_address_lies_where_it_lies(address, reach):
    assert reach_of(address) is reach


OUTSIDE, NETWORK, LINK, HERE = "93.184.216.34", "192.168.1.9", "169.254.169.254", "127.0.0.1"


@pytest.mark.parametrize(
    ("own", "may", "may_not"),
    [
        ([OUTSIDE], [OUTSIDE], [NETWORK, LINK, HERE, "224.0.0.1"]),
        ([NETWORK], [OUTSIDE, NETWORK], [LINK, HERE]),
        ([LINK], [], [OUTSIDE, NETWORK, LINK, HERE]),
        ([NETWORK], [], ["fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254"]),  # cloud metadata
        (["fd00:ec2::254"], [OUTSIDE], ["fd00:ec2::254", "168.63.129.16"]),
        ([HERE], [OUTSIDE, NETWORK, HERE], [LINK]),
        ([OUTSIDE, HERE], [OUTSIDE], [NETWORK, LINK, HERE]),  # a name with both counts as the outer one
        (["224.0.0.1"], [OUTSIDE], [NETWORK, LINK, HERE, "224.0.0.1"]),
        ([], [OUTSIDE], [HERE]),
    ],
)
def test_a_registry_leads_no_further_inside_than_it_is_itself(own, may, may_not):
    policy = AddressPolicy()
    policy.learn(own)
    assert [address for address in may if not policy.allows(address)] == []
    assert [address for address in may_not if policy.allows(address)] == []


def test_nothing_is_allowed_before_the_registry_is_known():
    assert not AddressPolicy().allows(OUTSIDE)


def test_the_first_look_up_decides_for_good():
    policy = AddressPolicy()
    policy.learn([OUTSIDE])
    policy.learn([HERE])
    assert not policy.allows(HERE)


def test_a_socket_is_made_only_for_an_allowed_address():
    policy = AddressPolicy()
    policy.learn([HERE])
    policy.make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (HERE, 80))).close()
    with pytest.raises(AddressForbidden, match=LINK):
        policy.make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (LINK, 80)))


def answering(*answers: list[str]):
    """A look-up that gives one list of addresses after the other."""
    left = list(answers)

    async def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    return look_up


async def test_a_name_that_changes_its_address_gets_nowhere():
    """DNS rebinding: outside at first, inside the second time."""
    resolver = CheckedResolver(AddressPolicy(), answering([OUTSIDE], [HERE]))
    assert [row["host"] for row in await resolver.resolve("registry.example", 443)] == [OUTSIDE]
    with pytest.raises(AddressForbidden, match="registry.example"):
        await resolver.resolve("registry.example", 443)


async def test_forbidden_addresses_of_a_name_are_left_out():
    resolver = CheckedResolver(AddressPolicy(), answering([HERE, OUTSIDE, NETWORK]))
    assert [row["host"] for row in await resolver.resolve("registry.example", 443)] == [OUTSIDE]


async def test_a_public_registry_that_leads_to_this_machine_reaches_nothing(off_loopback_attempts):
    """Through the client itself: the name is public, and what it redirects to would be answered on loopback."""
    name = ModelName("registry.example", "library", "x", "latest")
    client = RegistryClient(name, insecure=True, pace=Pace(), lookup=answering([OUTSIDE], [HERE]))
    async with client:
        await client._resolver.resolve("registry.example", 80)
        with pytest.raises(RegistryError, match=r"leads to registry.example \(127.0.0.1\), an address inside"):
            await client.manifest()
        with pytest.raises(RegistryError, match="leads to 127.0.0.1, an address inside"):
            async with client.exchange("GET", URL("http://127.0.0.1:9/x"), {}):
                pass
    assert off_loopback_attempts == []


def test_an_address_is_told_from_a_name():
    assert is_address("127.0.0.1")
    assert is_address("::1")
    assert not is_address("localhost")
    assert not is_address("127.1")


@pytest.mark.parametrize("host", ["a:b:c", "host:99999", "host:-1", "1:2:3"])
def test_a_host_that_is_no_address_is_a_bad_name(host):
    with pytest.raises(BadRequest, match="invalid model name"):
        RegistryClient(ModelName(host, "library", "x", "latest"), insecure=False, pace=Pace())


HTTPS, HTTP = URL("https://registry.example/v2/library/x/blobs/d"), URL("http://registry.example/v2/library/x/blobs/d")


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        (HTTPS, "https://cdn.example/a?b=%2F%2f#f", "https://cdn.example/a?b=%2F%2f"),
        (HTTPS, "/other", "https://registry.example/other"),
        (HTTPS, "//cdn.example/a", "https://cdn.example/a"),
        (HTTPS, "https://user:secret@cdn.example/a", "https://cdn.example/a"),
        (HTTP, "http://cdn.example/a", "http://cdn.example/a"),
        (HTTP, "https://cdn.example:444/a", "https://cdn.example:444/a"),
    ],
)
def test_a_redirect_leads_where_it_says(url, location, target):
    assert str(redirected(url, location)) == target


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://cdn.example/a", "from https to http"),
        ("ftp://cdn.example/a", "not the web: ftp"),
        (None, "to nowhere"),
        ("", "to nowhere"),
        ("https://cdn.example/a b", "to nowhere"),
        ("https://cdn.example/\x00", "to nowhere"),
        ("https://cdn.exämple/", "to nowhere"),
        ("https://[::1", "to nowhere"),
        ("https://cdn.example:0x50/", "to nowhere"),
        ("https://cdn.example/" + "a" * 8000, "to nowhere"),
    ],
)
def test_a_redirect_that_no_registry_needs_is_refused(location, told):
    with pytest.raises(RegistryError, match=told):
        redirected(HTTPS, location)
