"""Values about model hosts and the models on them. Standard library only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from app.core.generation import Json
from app.core.runtime_setup import PLAIN_KV


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a host is. `slots` is how many generations we let run there at once, `kv_type` what it keeps the
    context in, as far as we set it up (Ollama reveals neither)."""

    name: str
    url: str
    slots: int = 1
    key: str | None = field(default=None, repr=False)
    embedded: bool = False
    kv_type: str = PLAIN_KV

    @property
    def here(self) -> bool:
        """Whether it runs on this machine, as far as its address tells."""
        name = urlsplit(self.url).hostname or ""
        return self.embedded or name in ("localhost", "::1") or name.startswith("127.")


class HostState(StrEnum):
    UNKNOWN = "unknown"  # not asked yet
    WARMING = "warming"  # our own runtime is starting
    HEALTHY = "healthy"
    BUSY = "busy"  # it said that its own queue is full; other hosts are preferred for a moment
    RATE_LIMITED = "rate limited"  # it said when to come back; until then nothing is sent there
    OFFLINE = "offline"
    MISCONFIGURED = "misconfigured"  # something answers, but not Ollama's protocol, or it refuses our key


ANSWERING = (HostState.HEALTHY, HostState.BUSY, HostState.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class HostWarning:
    """Something to tell about a host that works. `severe`: known to be taken over by others, not only read."""

    text: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What the pool knows about one host.

    `round_trip` is that of its health checks, smoothed, in seconds. `breaker` is closed, open or half-open;
    `rests_until` (by the monotonic clock) says when an open breaker lets one request try, or a rate limit ends.
    `draining`: answers that run may end, nothing new is sent. `added`: at run time, so it may be removed; the others
    are settings.
    """

    address: HostAddress
    state: HostState
    version: str = ""
    server: str = ""
    error: str = ""
    round_trip: float | None = None
    busy_slots: int = 0
    loaded: tuple[str, ...] = ()
    breaker: str = "closed"
    rests_until: float | None = None
    draining: bool = False
    added: bool = False
    warnings: tuple[HostWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Outage:
    """No host can be used now, but a moment ago one could: requests that wait are held until `until` (monotonic)."""

    since: float
    until: float
    reasons: Mapping[str, str]


class HostSeats(NamedTuple):
    """What the queue must know of a host that can be used. Models by their canonical names. A tuple, because every
    request makes some.

    `resting`: it is used where no other one will do, for its breaker is open, or it said that it is busy, or `limited`
    (it said when to come back). `models` is None until the host has told its list. `loaded` is what it said to have
    loaded when it was asked at `loaded_at` (monotonic seconds; minus infinity before that).
    """

    name: str
    slots: int
    free: int
    resting: bool
    limited: bool
    models: Container[str] | None
    loaded: frozenset[str]
    loaded_at: float


@dataclass(frozen=True, slots=True)
class ModelDetails:
    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    parent_model: str = ""
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One row of `/api/tags`. `digest` is the manifest's sha256 in bare hex; `size` in bytes."""

    name: str
    digest: str
    size: int
    modified_at: datetime
    details: ModelDetails = ModelDetails()
    capabilities: tuple[str, ...] = ()
    remote_host: str = ""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One row of `/api/ps`. Sizes in bytes."""

    name: str
    digest: str
    size: int
    size_vram: int
    expires_at: datetime
    context_length: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """The parts of `/api/show` that Loupe reads. `info` is GGUF metadata (long arrays are empty)."""

    info: Mapping[str, Json]
    details: ModelDetails = ModelDetails()
    parameters: str = ""
    template: str = ""
    system: str = ""
    license: str = ""
    tensors: tuple[TensorInfo, ...] = ()
    capabilities: tuple[str, ...] = ()
    modelfile: str = ""
    messages: tuple[Mapping[str, Json], ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A host's answer passed on unread."""

    status: int
    content_type: str
    body: bytes
