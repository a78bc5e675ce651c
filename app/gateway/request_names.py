"""What a request is called: by us, by its client (X-Request-Id), and by the trace it belongs to (traceparent)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope

from app.core.trace_context import REQUEST_ID, TraceContext, read_context
from app.services.telemetry import RequestName, new_id

HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_KEY = "request_name"


@dataclass(frozen=True, slots=True)
class ClientNames:
    """What a head says, read once for all requests with the same head."""

    client: str
    context: TraceContext | None


def read_names(headers: Iterable[tuple[bytes, bytes]]) -> ClientNames:
    """An id that is not sane (one word of at most 128 letters, digits and a few signs) is left out, as are two."""
    headers = list(headers)
    given = [value for name, value in headers if name == HEADER]
    sane = len(given) == 1 and _SANE.fullmatch(given[0]) is not None
    return ClientNames(given[0].decode() if sane else "", read_context(headers))


def name_request(scope: Scope, told: ClientNames) -> RequestName:
    """Give the request its name, kept in its scope; from now on log lines bear it."""
    name = RequestName(new_id(), told.client, told.context)
    scope.setdefault("state", {})[_KEY] = name
    REQUEST_ID.set(name.shown)
    return name


def name_of(scope: Scope) -> RequestName:
    """The name of the request; given now where nobody has."""
    name: RequestName | None = scope.get("state", {}).get(_KEY)
    return name if name is not None else name_request(scope, read_names(scope["headers"]))
