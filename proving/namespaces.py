"""Hosts on a network of their own: a namespace of the kernel, joined to ours by one cable, which can be pulled.

Linux, root and iproute2 are needed; `available` says whether they are there. Unlike a process that is killed, a host
behind a pulled cable answers nothing at all: no FIN, no RST, no refusal.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


class NamespaceFailed(Exception):  # noqa: N818 - reads as a sentence where it is caught
    """`ip` refused; the words are its own."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """`address` is the host's, `ours` this side's; both lie in a range that is for such uses (RFC 2544)."""

    name: str
    address: str
    ours: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words before a command that is to run in there."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        """Pull the cable: what the host sends is lost, and nothing says so."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{self.ours}/32")

    def plug(self) -> None:
        """Put it back."""
        _ip("-n", self.name, "route", "del", "blackhole", f"{self.ours}/32")


def available() -> bool:
    """Whether namespaces can be made here."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with namespace(255):
            return True
    except NamespaceFailed:
        return False


@contextmanager
def namespace(number: int = 0) -> Iterator[Namespace]:
    """A namespace with one cable to us; what still runs in it is cut off at the end. `number` tells several apart."""
    place = (os.getpid() * 8 + number) % 2**15  # so many networks of four addresses lie in the range
    base = ipaddress.ip_address("198.18.0.0") + 4 * place
    made = Namespace(f"loupe-{place}", str(base + 2), str(base + 1))
    ours, theirs = f"loupe{place}a", f"loupe{place}b"
    _ip("netns", "add", made.name)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", made.name)
        _ip("addr", "add", f"{made.ours}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", made.name, "addr", "add", f"{made.address}/30", "dev", theirs)
        _ip("-n", made.name, "link", "set", theirs, "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        with suppress(NamespaceFailed):
            _ip("link", "del", ours)  # the kernel would do it, some time after the next line
        _ip("netns", "del", made.name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NamespaceFailed(f"ip {' '.join(words)}: {done.stderr.strip()}")
