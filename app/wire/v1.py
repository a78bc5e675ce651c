"""The routes under /v1 that take a request: which dialect each speaks, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.anthropic_answers import Messages, anthropic_error
from app.wire.dialects import Exchange, text_of
from app.wire.go_json import JsonError, loads
from app.wire.openai_answers import ChatCompletions, Completions, Embeddings, openai_error
from app.wire.openai_responses import Responses
from app.wire.transcriptions import Transcriptions

ErrorBody = Callable[[int, str], bytes]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the requests of one route are read, and its errors written.

    read: body and content type to an exchange, or `BadRequest`; stream_headers: beside the type of a stream;
    is_json: whether the body is JSON (a form otherwise).
    """

    read: Callable[[bytes, str], Exchange]
    error: ErrorBody = openai_error
    stream_headers: tuple[tuple[str, str], ...] = ()
    is_json: bool = True


_NO_CACHE = (("cache-control", "no-cache"),)
_EXTRAS = ("keep_alive", "think")
_FILLED = ("temperature", "top_p", "frequency_penalty", "presence_penalty")

DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(lambda body, _: ChatCompletions(body)),
    "/v1/completions": Dialect(lambda body, _: Completions(body)),
    "/v1/embeddings": Dialect(lambda body, _: Embeddings(body)),
    "/v1/responses": Dialect(lambda body, _: Responses(body), stream_headers=_NO_CACHE),
    "/v1/messages": Dialect(lambda body, _: Messages(body), anthropic_error, _NO_CACHE),
    "/v1/audio/transcriptions": Dialect(Transcriptions, is_json=False),
}


def error_of(path: str) -> ErrorBody:
    """How an error is written on the route `path` under /v1."""
    return DIALECTS[path].error if path in DIALECTS else openai_error


def top_of(body: bytes) -> dict[str, Json]:
    """The top of a JSON request, before anything of it is looked at; empty where it is no object."""
    try:
        value: Json = loads(body)
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}


def model_of(top: Mapping[str, Json]) -> str:
    """The model that it names; "" where it names none."""
    return text_of(top.get("model")).strip()


def named_model(body: bytes) -> str:
    """The model of a JSON request, before anything else of it is looked at; "" where none is named."""
    return model_of(top_of(body))


def add_extras(native: dict[str, Json], given: Mapping[str, Json]) -> None:
    """Put what Ollama's dialects have no word for, from the top of a body, into the native request. Raises
    `BadRequest`."""
    if (context := given.get("num_ctx")) is not None:
        if not isinstance(context, int) or isinstance(context, bool) or context < 1:
            raise BadRequest("num_ctx must be a positive whole number of tokens", "num_ctx")
        options = native.get("options")
        native["options"] = {**(options if isinstance(options, dict) else {}), "num_ctx": context}
    native |= {name: given[name] for name in _EXTRAS if given.get(name) is not None}


def assumed(native: Mapping[str, Json], given: Mapping[str, Json]) -> tuple[str, ...]:
    """The options that the dialect filled in because the client gave none."""
    options = native.get("options")
    if not isinstance(options, dict):
        return ()
    return tuple(name for name in _FILLED if name in options and given.get(name) is None)


def check_encoding(encoding: str) -> None:
    """Raises `EncodingNotRead` for a compressed body that Ollama would take. It passes others on as they are."""
    if encoding.strip().lower() == "zstd":
        raise EncodingNotRead


class EncodingNotRead(BadRequest):
    """This server has no decoder for zstd."""

    status = 415
    code = "encoding_not_read"

    def __init__(self) -> None:
        super().__init__("zstd-compressed request bodies are not read here; send the body without Content-Encoding")
