"""Which requests the gateway answers and which are Streamlit's."""

from __future__ import annotations

from starlette.types import Scope

_PREFIXES = ("/api/", "/v1/", "/loupe/")
_EXACT = frozenset({"/api", "/v1", "/loupe", "/metrics", "/openapi.json", "/healthz", "/readyz"})


def is_gateway_path(path: str) -> bool:
    return path in _EXACT or path.startswith(_PREFIXES)


def is_for_gateway(scope: Scope) -> bool:
    """Our paths, and `/` when it is not a browser that asks: Ollama's clients knock there (HEAD /)."""
    if scope["type"] != "http":
        return False
    if scope["path"] != "/":
        return is_gateway_path(scope["path"])
    if scope["method"] != "GET":
        return True
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return b"text/html" not in accept.lower()
