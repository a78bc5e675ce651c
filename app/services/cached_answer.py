"""What the response cache keeps: the key of a request, and an answer as bytes that are checked when they are read."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from app.core.generation import Chunk, GenerationRequest, Usage

VERSION = 1
_MAGIC = b"LOUPE\x00"
_HEADER = struct.Struct(f">{len(_MAGIC)}sBQ32s")  # magic, version, length of the payload, its SHA-256
_NOT_IN_KEY = ("stream", "keep_alive")  # they change how an answer is delivered, not what it says


def cache_key(
    request: GenerationRequest,
    *,
    digest: str,
    template_digest: str,
    server: str,
    context: int | None,
    namespace: str,
) -> str:
    """SHA-256 in hex over the whole request and everything else the answer depends on.

    Unknown fields stay in, and nothing is normalised: a key built from a list of known fields is the classic way to
    a wrong hit. `digest` is the manifest's (it covers template, system and adapters of the model; `template_digest`
    is for what a host changes beside it), `server` the host's kind and version, `context` the effective context in
    tokens, `namespace` the principal whose entries these are.
    """
    told = {
        "version": VERSION,
        "endpoint": request.endpoint,
        "body": {name: value for name, value in request.body.items() if name not in _NOT_IN_KEY},
        "digest": digest,
        "template": template_digest,
        "server": server,
        "context": context,
        "namespace": namespace,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A complete answer. `stored_at` in seconds since the epoch; `seconds` is what it took when it was made."""

    chunks: tuple[Chunk, ...]
    model: str
    stored_at: float
    seconds: float

    @property
    def usage(self) -> Usage | None:
        return self.chunks[-1].usage


def complete(chunks: Sequence[Chunk]) -> bool:
    """Whether an answer may be kept: ended by itself or by its length, with text, and without tool calls."""
    if not chunks or not chunks[-1].done or chunks[-1].done_reason not in ("stop", "length"):
        return False
    return any(chunk.text for chunk in chunks) and not any(b'"tool_calls":' in chunk.line for chunk in chunks)


def encode(answer: StoredAnswer) -> bytes:
    rows = [
        [chunk.line.decode("utf-8", "surrogateescape"), chunk.text, chunk.thinking, chunk.done, chunk.done_reason]
        for chunk in answer.chunks
    ]
    told = {
        "model": answer.model,
        "stored_at": answer.stored_at,
        "seconds": answer.seconds,
        "usage": asdict(answer.usage) if answer.usage else None,
        "chunks": rows,
    }
    payload = zlib.compress(json.dumps(told, separators=(",", ":")).encode(), 1)
    return _HEADER.pack(_MAGIC, VERSION, len(payload), hashlib.sha256(payload).digest()) + payload


def decode(blob: bytes) -> StoredAnswer | None:
    """The answer, or None if a single bit of it is not as it was written."""
    if len(blob) < _HEADER.size:
        return None
    magic, version, length, digest = _HEADER.unpack_from(blob)
    payload = blob[_HEADER.size :]
    if magic != _MAGIC or version != VERSION or length != len(payload):
        return None
    if hashlib.sha256(payload).digest() != digest:
        return None
    told = json.loads(zlib.decompress(payload))
    usage = Usage(**told["usage"]) if told["usage"] else None
    chunks = tuple(
        Chunk(line.encode("utf-8", "surrogateescape"), text, thinking, done, reason, usage if done else None)
        for line, text, thinking, done, reason in told["chunks"]
    )
    return StoredAnswer(chunks, told["model"], told["stored_at"], told["seconds"])
