"""What the bodies of our own routes (/loupe/…) share: JSON that no cache keeps, and a value out of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from starlette.responses import JSONResponse, Response

from app.comparison.result_json import Unreadable, from_json
from app.core.errors import BadRequest
from app.core.generation import Json

T = TypeVar("T")
PRIVATE = {"cache-control": "no-store"}


def private_json(content: Mapping[str, object], status: int = 200) -> Response:
    return JSONResponse(content, status, PRIVATE)


def check_known(body: Mapping[str, Json], known: Sequence[str]) -> None:
    """Raises `BadRequest` naming a key that is none, so that a misspelt one is noticed."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise BadRequest(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(known)}", unknown[0])


def asked_as(kind: type[T], body: Mapping[str, Json]) -> T:
    """The value of that kind; a null is as good as absent. Raises `BadRequest`."""
    try:
        return from_json(kind, {key: value for key, value in body.items() if value is not None}, exact=True)
    except Unreadable as error:
        raise BadRequest(f"that cannot be asked for: {error.why}", "body") from error
