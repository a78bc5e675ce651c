"""The ports that matter here: Loupe's own, and the one where Ollama usually is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.core.checks import Check, Verdict
from app.core.hosts import HostStatus

USUAL = 11434  # where Ollama listens unless told otherwise


@dataclass(frozen=True, slots=True)
class Ports:
    """`own`: Loupe's port, on which it listens where `ours`; `taken`: something else listens there. `usual_taken`:
    something listens at Ollama's usual port of this machine, and `ollama` is its version if it is one."""

    own: int
    bind: str
    ours: bool
    taken: bool = False
    usual_taken: bool = False
    ollama: str = ""


def ports(seen: Ports, statuses: Sequence[HostStatus]) -> Iterator[Check]:
    yield _own(seen)
    if not any(status.address.here and _port(status.address.url) == USUAL for status in statuses):
        yield _usual(seen, statuses)  # of one that is a host, the host's line tells


def _own(seen: Ports) -> Check:
    name = f"port {seen.own}"
    if seen.ours:
        return Check(name, Verdict.OK, f"Loupe, on {seen.bind}")
    if not seen.taken:
        return Check(name, Verdict.OK, "free for Loupe")
    return Check(
        name,
        Verdict.WARN,
        "another program listens there",
        "free for Loupe",
        "Loupe cannot start there: end that program, or choose another port with LOUPE_PORT or --port.",
    )


def _usual(seen: Ports, statuses: Sequence[HostStatus]) -> Check:
    name, alone = f"port {USUAL}", all(status.address.embedded for status in statuses)
    if seen.ollama:
        return Check(
            name,
            Verdict.WARN if alone else Verdict.OK,
            f"an Ollama {seen.ollama} that is none of the hosts",
            "",
            "Its models are not seen here, for it was started after Loupe: start Loupe again, or add the host in "
            "Settings."
            if alone
            else "",
        )
    if seen.usual_taken:
        return Check(
            name,
            Verdict.WARN if alone else Verdict.OK,
            "a program that is no Ollama listens there",
            "free, or Ollama",
            "Ollama cannot start there: end that program, or give Ollama another port with OLLAMA_HOST, and Loupe the "
            "same."
            if alone
            else "",
        )
    return Check(name, Verdict.OK, "free: no Ollama is there")


def _port(url: str) -> int | None:
    where = urlsplit(url)
    return where.port or {"http": 80, "https": 443}.get(where.scheme)
