"""What each route wants of who asks: nothing, or a key that may read, ask models, or administer.

The table is the whole of it: a path that is not in it wants an admin, whatever it turns out to be. `{…}` stands for one
part of a path, `{…:path}` for the rest of it. Paths that are not the gateway's are the pages.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from app.gateway.paths import is_gateway_path
from app.services.access_keys import KeyScope, Visitor


class Policy(StrEnum):
    """OPEN: for everybody. READ, INFER, ADMIN: the scope a key needs. OVERVIEW: READ, of all that goes on, so not for
    a key that is kept to some models. CREATE: ADMIN, where LOUPE_ALLOW_CREATE is on."""

    OPEN = "open"
    READ = "read"
    OVERVIEW = "overview"
    INFER = "infer"
    ADMIN = "admin"
    CREATE = "create"

    @property
    def scope(self) -> KeyScope:
        return _SCOPES.get(self, KeyScope.ADMIN)


_SCOPES = {
    Policy.OPEN: KeyScope.READ, Policy.READ: KeyScope.READ, Policy.OVERVIEW: KeyScope.READ,
    Policy.INFER: KeyScope.INFER,
}  # fmt: skip
_READING = ("GET", "HEAD")

# Methods of a path that are not named want an admin too.
POLICIES: dict[str, dict[str, Policy]] = {
    "/healthz": dict.fromkeys(_READING, Policy.OPEN),
    "/readyz": dict.fromkeys(_READING, Policy.OPEN),
    "/loupe/sign-in": {"GET": Policy.OPEN, "POST": Policy.OPEN},
    "/loupe/sign-out": {"POST": Policy.OPEN},
    "/auth/login": {"GET": Policy.OPEN},  # Streamlit's own way to an identity provider, back, and out
    "/oauth2callback": {"GET": Policy.OPEN},
    "/auth/logout": {"GET": Policy.OPEN},
    "/": dict.fromkeys(_READING, Policy.READ),
    "/api/tags": dict.fromkeys(_READING, Policy.READ),
    "/api/version": dict.fromkeys(_READING, Policy.READ),
    "/api/ps": {"GET": Policy.READ},
    "/api/status": {"GET": Policy.READ},
    "/api/show": {"POST": Policy.READ},
    "/v1/models": {"GET": Policy.READ},
    "/v1/models/{name:path}": {"GET": Policy.READ},
    "/openapi.json": {"GET": Policy.READ},
    "/loupe/whoami": {"GET": Policy.READ},
    "/loupe/assets/{name:path}": dict.fromkeys(_READING, Policy.READ),
    "/metrics": {"GET": Policy.OVERVIEW},
    "/loupe/queue": {"GET": Policy.OVERVIEW},
    "/loupe/queue/events": {"GET": Policy.OVERVIEW},
    "/loupe/hosts": {"GET": Policy.OVERVIEW},
    "/loupe/service/events": {"GET": Policy.OVERVIEW},
    "/loupe/aliases": {"GET": Policy.OVERVIEW},
    "/loupe/check": {"GET": Policy.ADMIN},
    "/loupe/hardware": {"GET": Policy.OVERVIEW},
    "/loupe/hardware/events": {"GET": Policy.OVERVIEW},
    "/loupe/hardware/history": {"GET": Policy.OVERVIEW},
    "/loupe/series/events": {"GET": Policy.OVERVIEW},
    "/loupe/alerts": {"GET": Policy.OVERVIEW},
    "/loupe/alerts/prometheus": {"GET": Policy.OVERVIEW},
    "/loupe/cache": {"GET": Policy.OVERVIEW},
    "/loupe/requests": {"GET": Policy.INFER},  # one's own; an admin sees everybody's
    "/loupe/requests/{id}": {"GET": Policy.INFER},
    "/loupe/cache/entries": {"GET": Policy.INFER, "DELETE": Policy.INFER},  # one's own
    "/loupe/cache/entries/{key}": {"GET": Policy.INFER, "DELETE": Policy.INFER},
    "/loupe/cache/export": {"GET": Policy.INFER},
    "/loupe/batches": {"GET": Policy.INFER, "POST": Policy.INFER},  # one's own; an admin sees everybody's
    "/loupe/batches/{id}": {"GET": Policy.INFER, "DELETE": Policy.INFER},
    "/loupe/batches/{id}/results": {"GET": Policy.INFER},
    **{f"/loupe/batches/{{id}}/{verb}": {"POST": Policy.INFER} for verb in ("pause", "resume", "cancel", "retry")},
    "/v1/files": {"GET": Policy.INFER, "POST": Policy.INFER},
    "/v1/files/{id}": {"GET": Policy.INFER, "DELETE": Policy.INFER},
    "/v1/files/{id}/content": {"GET": Policy.INFER},
    "/v1/batches": {"GET": Policy.INFER, "POST": Policy.INFER},
    "/v1/batches/{id}": {"GET": Policy.INFER},
    "/v1/batches/{id}/cancel": {"POST": Policy.INFER},
    "/api/chat": {"POST": Policy.INFER},
    "/api/generate": {"POST": Policy.INFER},
    "/api/embed": {"POST": Policy.INFER},
    "/api/embeddings": {"POST": Policy.INFER},
    "/v1/chat/completions": {"POST": Policy.INFER},
    "/v1/completions": {"POST": Policy.INFER},
    "/v1/embeddings": {"POST": Policy.INFER},
    "/v1/responses": {"POST": Policy.INFER},
    "/v1/messages": {"POST": Policy.INFER},
    "/v1/audio/transcriptions": {"POST": Policy.INFER},
    "/api/pull": {"POST": Policy.ADMIN},
    "/api/copy": {"POST": Policy.ADMIN},
    "/api/delete": {"DELETE": Policy.ADMIN},
    "/api/create": {"POST": Policy.CREATE},
    "/api/push": {"POST": Policy.CREATE},
    "/api/blobs/{digest}": {"POST": Policy.CREATE, "HEAD": Policy.CREATE},
}
_TEMPLATES = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.sub(r"\\\{\w+:path\\\}", ".+", re.escape(path)))), methods)
    for path, methods in POLICIES.items()
    if "{" in path
]


@lru_cache(1024)
def policy_of(method: str, path: str) -> Policy:
    """What a request wants. `method` is "" for a websocket."""
    methods = POLICIES.get(path) or next((found for form, found in _TEMPLATES if form.fullmatch(path)), None)
    if methods is not None:
        return methods.get(method, Policy.ADMIN)
    return Policy.ADMIN if is_gateway_path(path) else Policy.INFER


def refusal(visitor: Visitor, method: str, path: str) -> str:
    """Why this visitor may not do that, and what to do about it; "" where they may."""
    policy = policy_of(method, path)
    if not visitor.scope.covers(policy.scope):
        return (
            f"the key {visitor.name!r} has the scope {visitor.scope}, and this needs {policy.scope}; use such a key, "
            f"or make one: python -m app keys create NAME --scope {policy.scope}"
        )
    if policy is Policy.OVERVIEW and visitor.models:
        return f"the key {visitor.name!r} is kept to some models, and this tells of all; use a key without such a list"
    return ""
