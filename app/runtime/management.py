"""Changing the store: copy, delete, pull, push, create, uploads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.core.errors import BadRequest, HostRefused, LoupeError, ModelNotFound
from app.core.generation import Json
from app.runtime.blob_upload import has_blob, upload_blob
from app.runtime.create import create
from app.runtime.create_request import read_request
from app.runtime.library import Library
from app.runtime.model_store import not_found_in_quotes
from app.runtime.pull import Puller
from app.runtime.push import Pusher
from app.runtime.web import STREAM_ERROR, Answer, Call, Stream, error_answer, json_answer
from app.wire.go_duration import quote_go
from app.wire.go_json import dumps
from app.wire.model_names import parse_name, parse_reference
from app.wire.ollama_answers import error_body
from app.wire.requests import decode

Records = AsyncGenerator[dict[str, Json], None]


class Management:
    """Handlers of the routes that change the store."""

    def __init__(self, library: Library, puller: Puller, *, prune: bool) -> None:
        self._store, self._puller, self._prune = library.store, puller, prune
        self._pusher = Pusher(library.store)

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
        name = _model_of(body)
        parse_reference(name)
        records = self._puller.pull(name, insecure=body.get("insecure") is True)
        return await _progress(body, records, every_error_is_500=True)

    async def push(self, call: Call) -> Answer | Stream:
        body = decode("PushRequest", call.body)
        name = _model_of(body)
        if not name:
            raise BadRequest("model is required", "model")
        records = self._pusher.push(name, insecure=body.get("insecure") is True)
        return await _progress(body, records, every_error_is_500=True)

    async def has_blob(self, call: Call) -> Answer:
        if has_blob(self._store, call.tail):
            return Answer()
        return json_answer(error_body(f"blob {quote_go(call.tail)} not found"), 404)

    async def create(self, call: Call) -> Answer | Stream:
        body = decode("CreateRequest", call.body)
        read_request(body)  # what is refused here is refused before the stream has a type of its own

        def pull(name: str) -> Records:
            return self._puller.pull(name, insecure=False)

        return await _progress(body, create(self._store, body, pull=pull, prune=self._prune))

    async def put_blob(self, call: Call) -> Answer:
        length = call.headers.get("content-length", "")
        expected = int(length) if length.isascii() and length.isdigit() else None
        return Answer(await upload_blob(self._store, call.tail, call.pieces(), expected=expected))


def _model_of(body: dict[str, Json]) -> str:
    return str(body.get("model") or body.get("name") or "")


async def _progress(body: dict[str, Json], records: Records, *, every_error_is_500: bool = False) -> Answer | Stream:
    """The records as a stream, or the last one alone where none was asked for."""
    if body.get("stream") is not False:
        return Stream(_lines(records))
    last: dict[str, Json] = {}
    try:
        async with aclosing(records):
            async for record in records:
                last = record
    except LoupeError as error:
        told = HostRefused("runtime", 500, error.message) if every_error_is_500 else error
        return error_answer(told, STREAM_ERROR)
    return json_answer(dumps(last), content_type=STREAM_ERROR)


async def _lines(records: Records) -> AsyncGenerator[bytes, None]:
    async with aclosing(records):
        async for record in records:
            yield dumps(record)
