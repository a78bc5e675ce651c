"""Changing the store: copy, delete, pull, and the blob check. Create, push and upload are answered with 501."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.core.errors import BadRequest, HostRefused, LoupeError, ModelNotFound
from app.core.generation import Json
from app.runtime.library import Library
from app.runtime.model_store import not_found_in_quotes
from app.runtime.pull import Puller
from app.runtime.web import STREAM_ERROR, Answer, Call, Stream, error_answer, json_answer
from app.wire.go_duration import quote_go
from app.wire.go_json import dumps
from app.wire.model_names import parse_name, parse_reference
from app.wire.ollama_answers import error_body
from app.wire.requests import decode


class Management:
    """Handlers of the routes that change the store."""

    def __init__(self, library: Library, puller: Puller) -> None:
        self._store, self._puller = library.store, puller

    async def copy(self, call: Call) -> Answer:
        body = decode("CopyRequest", call.body)
        for field in ("source", "destination"):
            name = str(body.get(field) or "")
            if not parse_name(name).is_valid:
                raise BadRequest(f"{field} {quote_go(name)} is invalid", field)
        source = str(body["source"])
        try:
            self._store.copy(parse_name(source), parse_name(str(body["destination"])))
        except ModelNotFound:
            raise not_found_in_quotes(source) from None
        return Answer()

    async def delete(self, call: Call) -> Answer:
        body = decode("DeleteRequest", call.body)
        given = str(body.get("model") or body.get("name") or "")
        try:
            name = parse_reference(given)
        except BadRequest as error:
            invalid = error.message == "invalid model name"
            raise BadRequest(f"name {quote_go(given)} is invalid", "model") if invalid else error from None
        try:
            self._store.delete(name)
        except ModelNotFound:
            raise ModelNotFound(given) from None
        return Answer()

    async def pull(self, call: Call) -> Answer | Stream:
        body = decode("PullRequest", call.body)
        name = str(body.get("model") or body.get("name") or "")
        insecure = body.get("insecure") is True
        parse_reference(name)
        if body.get("stream") is not False:
            return Stream(self._pulling(name, insecure=insecure))
        last = b""
        try:
            async with aclosing(self._pulling(name, insecure=insecure)) as lines:
                async for line in lines:
                    last = line
        except LoupeError as error:
            return error_answer(HostRefused("runtime", 500, error.message), STREAM_ERROR)
        return json_answer(last, content_type=STREAM_ERROR)

    async def _pulling(self, name: str, *, insecure: bool) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._puller.pull(name, insecure=insecure)) as records:
            async for record in records:
                yield dumps(record)

    async def has_blob(self, call: Call) -> Answer:
        if self._store.blob_path(call.tail).is_file():
            return Answer()
        return json_answer(error_body(f"blob {quote_go(call.tail)} not found"), 404)

    async def create(self, call: Call) -> Answer:
        body = decode("CreateRequest", call.body)
        _named(body)
        raise HostRefused("runtime", 501, "this runtime cannot create models yet")

    async def push(self, call: Call) -> Answer:
        body = decode("PushRequest", call.body)
        if not (body.get("model") or body.get("name")):
            raise BadRequest("model is required", "model")
        raise HostRefused("runtime", 501, "this runtime cannot push models yet")

    async def put_blob(self, call: Call) -> Answer:
        self._store.blob_path(call.tail)
        raise HostRefused("runtime", 501, "this runtime cannot take uploaded blobs yet")


def _named(body: dict[str, Json]) -> None:
    if not parse_name(str(body.get("model") or body.get("name") or "")).is_valid:
        raise BadRequest("invalid model name", "model")
