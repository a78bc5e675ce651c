"""What the response cache keeps: the key of a request, and an answer as bytes that are checked when they are read.

An entry is a header, a card (JSON: what a list of entries shows) and the answer (JSON, compressed). The header has the
SHA-256 over both, which every read of an answer checks, and a CRC of the card, which lists check.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.core.generation import Chunk, GenerationRequest, Json, Usage
from app.services.cache_views import CacheEntry

VERSION = 2
QUESTION_LIMIT = 2000  # characters of the question that the card keeps, for lists and searches
CARD_LIMIT = 16 << 10  # bytes from the beginning of an entry that hold its card
RAW_LIMIT = 8 << 20  # bytes; a longer answer is not kept, and nothing is unpacked beyond it
_MAGIC = b"LOUPE\x00"
_HEADER = struct.Struct(f">{len(_MAGIC)}sBIIQ32s")  # magic, version, card's length and CRC, answer's length, SHA-256
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
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
    return hashlib.sha256(_canonical(told).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose answer it is, of which model, to what."""

    model: str
    digest: str = ""
    endpoint: str = "chat"
    principal: str = "local"
    question: str = ""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A complete answer. `stored_at` in seconds since the epoch; `seconds` is what it took when it was made."""

    chunks: tuple[Chunk, ...]
    origin: Origin
    stored_at: float
    seconds: float

    @property
    def usage(self) -> Usage | None:
        return self.chunks[-1].usage

    @property
    def raw_size(self) -> int:
        """Bytes that its lines and texts take unpacked."""
        return sum(len(chunk.line) + len(chunk.text) + len(chunk.thinking) for chunk in self.chunks)


def question_of(request: GenerationRequest) -> str:
    """The last thing the user said, cut to what a card keeps. Images are not kept."""
    said: Json = request.body.get("prompt", request.body.get("input"))
    messages = request.body.get("messages")
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, dict) and turn.get("role") == "user"]
        said = turns[-1].get("content") if turns else ""
    if isinstance(said, list):
        said = "\n".join(text for text in said if isinstance(text, str))
    return said[:QUESTION_LIMIT] if isinstance(said, str) else ""


def one_question(request: GenerationRequest) -> bool:
    """Whether what `question_of` keeps is all that was asked, beside options: no turns before it, nothing attached."""
    body = {name: value for name, value in request.body.items() if value not in (None, "", [], {})}
    if body.keys() - {"model", "messages", "prompt", "options", "stream", "keep_alive"}:
        return False
    said: Json = body.get("prompt")
    if isinstance(turns := body.get("messages"), list):
        turn = turns[0] if len(turns) == 1 else None
        alone = isinstance(turn, dict) and {name for name, value in turn.items() if value} == {"role", "content"}
        said = turn["content"] if alone and isinstance(turn, dict) and turn["role"] == "user" else None
    return isinstance(said, str) and said != "" and said == question_of(request)


def complete(chunks: Sequence[Chunk]) -> bool:
    """Whether an answer may be kept: ended by itself or by its length, with text, and without tool calls."""
    if not chunks or not chunks[-1].done or chunks[-1].done_reason not in ("stop", "length"):
        return False
    return any(chunk.text for chunk in chunks) and not any(b'"tool_calls":' in chunk.line for chunk in chunks)


def encode(answer: StoredAnswer) -> bytes:
    origin, usage = answer.origin, answer.usage
    card = {
        "model": origin.model, "digest": origin.digest, "endpoint": origin.endpoint, "principal": origin.principal,
        "question": origin.question[:QUESTION_LIMIT], "stored_at": answer.stored_at, "seconds": answer.seconds,
        "usage": asdict(usage) if usage else None,
    }  # fmt: skip
    rows = [
        [chunk.line.decode("utf-8", "surrogateescape"), chunk.text, chunk.thinking, chunk.done, chunk.done_reason]
        for chunk in answer.chunks
    ]
    top = _dump(card)
    body = zlib.compress(_dump(rows), 1)
    seal = hashlib.sha256(top + body).digest()
    return _HEADER.pack(_MAGIC, VERSION, len(top), zlib.crc32(top), len(body), seal) + top + body


def decode(blob: bytes) -> StoredAnswer | None:
    """The answer, or None if a single bit of it is not as it was written."""
    if len(blob) < _HEADER.size:
        return None
    magic, version, card_size, check, size, seal = _HEADER.unpack_from(blob)
    told = blob[_HEADER.size :]
    if magic != _MAGIC or version != VERSION or card_size + size != len(told):
        return None
    if hashlib.sha256(told).digest() != seal or zlib.crc32(told[:card_size]) != check:
        return None
    try:
        return _rebuilt(json.loads(told[:card_size]), json.loads(_unpacked(told[card_size:])))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, zlib.error):
        return None  # sealed rightly and still no answer of ours: somebody else's work


def entry_of(key: str, top: bytes, size: int) -> CacheEntry | None:
    """What a list shows of an entry, from its first `CARD_LIMIT` bytes; None if they are not as they were written."""
    if len(top) < _HEADER.size:
        return None
    magic, version, card_size, check, _, _ = _HEADER.unpack_from(top)
    card = top[_HEADER.size : _HEADER.size + card_size]
    if magic != _MAGIC or version != VERSION or len(card) != card_size or zlib.crc32(card) != check:
        return None
    try:
        told = json.loads(card)
        usage = told["usage"] or {}
        return CacheEntry(
            key=key, model=str(told["model"]), digest=str(told["digest"]), endpoint=str(told["endpoint"]),
            principal=str(told["principal"]), question=str(told["question"]), stored_at=float(told["stored_at"]),
            seconds=float(told["seconds"]), prompt_tokens=int(usage.get("prompt_tokens", 0)),
            output_tokens=int(usage.get("output_tokens", 0)), size=size,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _unpacked(body: bytes) -> str:
    """Raises `ValueError` for more than an answer of ours can be: a few bytes may unpack to gigabytes."""
    unpacking = zlib.decompressobj()
    raw = unpacking.decompress(body, 4 * RAW_LIMIT)
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("the answer does not end where it should")
    return raw.decode("utf-8", "surrogatepass")


def _rebuilt(card: dict[str, Any], rows: list[Any]) -> StoredAnswer:
    usage = Usage(**{name: int(count) for name, count in card["usage"].items()}) if card["usage"] else None
    chunks = tuple(
        Chunk(line.encode("utf-8", "surrogateescape"), str(text), str(thinking), bool(done), str(reason),
              usage if done else None)
        for line, text, thinking, done, reason in rows
    )  # fmt: skip
    origin = Origin(
        str(card["model"]), str(card["digest"]), str(card["endpoint"]), str(card["principal"]), str(card["question"])
    )
    answer = StoredAnswer(chunks, origin, float(card["stored_at"]), float(card["seconds"]))
    if not complete(answer.chunks):
        raise ValueError("the answer is not complete")
    return answer
