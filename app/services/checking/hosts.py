"""The model hosts: whether they answer, how far away they are, what is known of their versions, and how fast their
models can be on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.core.checks import Check, Verdict
from app.core.hosts import ANSWERING, HostState, HostStatus
from app.services.checking.bandwidth import MARGIN, decode_limit
from app.services.host_versions import OWN_SERVER

FAR = 0.05  # seconds of a round trip from which on it is felt in every answer
GB = 1e9
OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class VariantPace:
    """A model on this machine: bytes of its file, tokens/s that its answers were written with (None: none yet), and
    bytes that each token reads (None: all of the file)."""

    name: str
    size: int
    decode: float | None = None
    reads: int | None = None


def hosts(statuses: Sequence[HostStatus]) -> Iterator[Check]:
    if not statuses:
        yield Check(
            "model host",
            FAIL,
            "none",
            "Ollama, or Loupe's own runtime",
            "Nobody gets an answer: install Ollama from ollama.com and start it with `ollama serve`.",
        )
    others = any(status.state in ANSWERING for status in statuses)
    for status in statuses:
        yield _host(status, others=others)
        for warning in status.warnings:
            yield Check(
                f"host {status.address.name}: version",
                FAIL if warning.severe else WARN,
                status.version,
                "Ollama 0.17.1",
                f"{warning.text}.",
            )


def _host(status: HostStatus, *, others: bool) -> Check:
    """`others`: one of the hosts answers, so that chats go on without this one."""
    name, where = f"host {status.address.name}", urlsplit(status.address.url)
    port = where.port or (443 if where.scheme == "https" else 80)
    place = "built in" if status.address.embedded else f"{where.hostname}:{port}"
    if status.state in (HostState.UNKNOWN, HostState.WARMING):
        return Check(
            name, UNKNOWN, f"{place}: {status.state}", "a host that answers", "Its models come: look again in a moment."
        )  # fmt: skip
    if status.state not in ANSWERING:
        cost = "What it alone has cannot be asked meanwhile" if others else "Nobody gets an answer meanwhile"
        mend = (
            "what answers there is no Ollama, or refuses the key. Look at its address and key in LOUPE_HOSTS or "
            "OLLAMA_HOST."
            if status.state is HostState.MISCONFIGURED
            else "start it, or take it out of LOUPE_HOSTS or OLLAMA_HOST."
        )
        return Check(
            name,
            WARN if others else FAIL,
            f"{place}: {status.error or status.state}",
            "a host that answers",
            f"{cost}: {mend}",
        )
    trip = "" if status.round_trip is None else f", {1000 * status.round_trip:.1f} ms away"
    found = f"{place}: {_program(status)}{trip}"
    if not status.address.here and status.round_trip is not None and status.round_trip > FAR:
        return Check(
            name,
            WARN,
            found,
            f"{1000 * FAR:.0f} ms",
            "The first token of every answer is later by that much: a cable instead of wireless often mends it.",
        )
    return Check(name, OK, found, "a host that answers")


def _program(status: HostStatus) -> str:
    """What answers there. Ollama names no server; what does is a proxy before it, or our own runtime."""
    if status.server.startswith(OWN_SERVER):
        return status.server
    return f"Ollama {status.version}" + (f", by way of {status.server}" if status.server else "")


def speeds(variants: Sequence[VariantPace], bandwidth: float | None, *, busy: bool = False) -> Iterator[Check]:
    """The most tokens/s that memory allows each variant that runs on this machine's processor. `busy`: the
    machine was while it was measured."""
    if bandwidth is None:
        yield Check(
            "memory bandwidth",
            UNKNOWN,
            "could not be measured here",
            "",
            "How fast a model can be at most is not known; the speeds under Dashboard are measured all the same.",
        )
        return
    few = bandwidth < 10 * GB
    yield Check(
        "memory bandwidth",
        OK if not few else UNKNOWN if busy else WARN,
        f"{bandwidth / GB:.1f} GB/s read" + (" while the processor was busy" if few and busy else ""),
        "20 GB/s for 4 tokens/s of a 7B model at 4 bits",
        ""
        if not few
        else "What else runs takes bandwidth for itself, so that there is more than this: look again when nothing does."
        if busy
        else "Every token reads the whole model: fill all memory channels, or take a smaller quantization.",
    )
    for one in sorted(variants, key=lambda one: -one.size):
        limit = decode_limit(bandwidth, one.reads or one.size)
        found = f"at most {limit:.0f} tokens/s (memory)" if limit >= 10 else f"at most {limit:.1f} tokens/s (memory)"
        if one.decode is None:
            yield Check(
                f"speed {one.name}",
                OK if limit >= 5 else WARN,
                found,
                "5 tokens/s, as fast as one reads",
                "" if limit >= 5 else "Slower than one reads: take a smaller quantization or model.",
            )
            continue
        found += f", measured {one.decode:.1f} ({one.decode / limit:.0%})"
        if one.decode > MARGIN * limit:
            yield Check(
                f"speed {one.name}",
                UNKNOWN,
                found,
                "at most 100 %",
                "An error of measuring: another program took bandwidth while it was measured here, the processor's "
                "cache holds the model, or a draft model guesses words ahead.",
            )
        else:
            yield Check(
                f"speed {one.name}",
                OK if one.decode >= 5 else WARN,
                found,
                "5 tokens/s, as fast as one reads",
                "" if one.decode >= 5 else "Slower than one reads: take a smaller quantization or model.",
            )
