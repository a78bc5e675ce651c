"""Reading request bodies with a bound and a deadline, and noticing that a client has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.types import Receive

from app.core.errors import BadRequest, Cancelled, LoupeError, PayloadTooLarge
from app.core.generation import Json
from app.wire.go_json import JsonError, loads

SLOWEST = 16 << 10  # bytes per second that extend the deadline: a modest link passes, a trickle does not


class BodyTooSlow(LoupeError):
    status = 408
    code = "body_too_slow"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request body did not arrive within {seconds:g} s")


async def body_chunks(request: Request, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises PayloadTooLarge, BodyTooSlow, or Cancelled when the client leaves."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise PayloadTooLarge(limit)
    loop = asyncio.get_running_loop()
    began, received = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(began + seconds + received / SLOWEST):
                message = await request.receive()
        except TimeoutError:
            raise BodyTooSlow(seconds) from None
        if message["type"] == "http.disconnect":
            raise Cancelled("client")
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise PayloadTooLarge(limit)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body."""
    return b"".join([chunk async for chunk in body_chunks(request, limit, seconds)])


async def disconnected(receive: Receive) -> None:
    """Returns when the client has left. Only after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def json_object(raw: bytes) -> dict[str, Json]:
    """The body of one of our own routes. Raises `BadRequest` where it is no JSON object."""
    try:
        body = loads(raw)
    except JsonError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def text_of(body: dict[str, Json], key: str) -> str:
    """A string of it, "" where it is absent. Raises `BadRequest`."""
    value = body.get(key, "")
    if not isinstance(value, str):
        raise BadRequest(f"{key} must be a string", key)
    return value
