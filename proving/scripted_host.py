"""A model host that says exactly the bytes it is told to, in exactly these pieces, and what such bytes mean."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proving.raw_host import MODEL, Cut, RawHost
from proving.stand import Outcome

LINE_LIMIT = 8 << 20  # bytes: Go's client and Ollama have it too
NDJSON = b"application/x-ndjson"
_SURROGATES = re.compile("[\ud800-\udfff]")
DEFAULT_FIELDS = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
LAST: dict[str, Any] = {
    "done": True, "done_reason": "stop", "total_duration": 10**8, "load_duration": 10**6, "prompt_eval_count": 8,
    "prompt_eval_duration": 10**7, "eval_count": 4, "eval_duration": 10**7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """What is written to the socket, a piece at a time. `end`: "whole" (the connection goes on), "close" (FIN), "reset"
    (RST) or "stall"."""

    writes: Sequence[bytes]
    end: str = "whole"


@dataclass(slots=True)
class ScriptedHost(RawHost):
    """Answers each chat as `script` says, and everything else as a good host does."""

    pieces: tuple[str, ...] = ()
    script: Callable[[], Script] = field(default=lambda: Script(()))

    def play(self, script: Script) -> None:
        """This one from now on."""
        self.script = lambda: script
        self.cut = lambda: Cut(0, script.end)

    async def _answer(self, writer: asyncio.StreamWriter, cut: Cut) -> bool:
        script = self.script()
        for piece in script.writes:
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # the reader's turn
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)
        return script.end == "whole"


def records(pieces: Sequence[str], *, escaped: bool = False) -> list[bytes]:
    """The lines of a good answer, each with its newline. Letters beyond ASCII as they are, or (`escaped`) as \\u...."""
    made = [{**DEFAULT_FIELDS, "message": {"role": "assistant", "content": text}, "done": False} for text in pieces]
    made.append({**DEFAULT_FIELDS, "message": {"role": "assistant", "content": ""}, **LAST})
    return [json.dumps(record, ensure_ascii=escaped, separators=(",", ":")).encode() + b"\n" for record in made]


def head(kind: bytes = NDJSON, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Type: " + kind, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunked(pieces: Sequence[bytes], kind: bytes = NDJSON) -> list[bytes]:
    """An answer in HTTP chunks, one for each piece that is not empty."""
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
    return [head(kind, b"Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """`texts`: of the records up to the last one or the first thing that is none; `whole`: the last one is there."""

    texts: tuple[str, ...]
    whole: bool

    @property
    def text(self) -> str:
        """Half a pair of surrogates is U+FFFD, as in Go."""
        return _SURROGATES.sub("\ufffd", "".join(self.texts))


def meaning(content: bytes) -> Meaning:
    """What a body says, read as the protocol has it and without our own reader: lines end at b"\\n" alone and have 8 MB
    at most."""
    texts: list[str] = []
    for line in filter(None, (line.rstrip(b"\r") for line in content.split(b"\n"))):
        try:
            record = json.loads(line) if len(line) <= LINE_LIMIT else None
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or "error" in record:
            break
        message = record.get("message")
        text = message.get("content") if isinstance(message, dict) else ""
        texts.append(text if isinstance(text, str) else "")
        if record.get("done") is True:
            return Meaning(tuple(texts), True)
    return Meaning(tuple(texts), False)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for a chat and to read its answer."""

    path: str
    stream: bool

    def __str__(self) -> str:
        return f"{self.path} {'streamed' if self.stream else 'whole'}"

    def body(self, question: str) -> dict[str, Any]:
        """A question that the cache may keep."""
        base = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": self.stream}
        if self.path == "/api/chat":
            return {**base, "options": {"temperature": 0, "num_ctx": 1024}}
        return {**base, "temperature": 0, "num_ctx": 1024}

    def read(self, outcome: Outcome) -> Said:
        """What the client was told. Raises `ValueError` where it is not what the dialect allows."""
        if outcome.broken:
            raise ValueError("the connection broke")
        if outcome.status != 200:
            told = json.loads(b"\n".join(outcome.lines))
            return Said("", False, _sentence(told["error"], self.path), outcome.status)
        if not self.stream:
            return self._one(json.loads(b"\n".join(outcome.lines)))
        return self._lines(outcome.lines) if self.path == "/api/chat" else self._events(outcome.lines)

    def _one(self, told: dict[str, Any]) -> Said:
        if self.path == "/api/chat":
            return Said(told["message"]["content"], bool(told["done"]), "")
        choice = told["choices"][0]
        return Said(choice["message"]["content"], "finish_reason" in choice, "")  # which may be damaged itself

    def _lines(self, lines: Sequence[bytes]) -> Said:
        text, ends = "", []
        for number, told in enumerate(map(json.loads, lines)):
            if "error" in told or told.get("done"):
                ends.append((number, told.get("error", "")))
            message = told.get("message")
            text += message["content"] if isinstance(message, dict) and isinstance(message.get("content"), str) else ""
        return _said(text, ends, len(lines))

    def _events(self, lines: Sequence[bytes]) -> Said:
        text, ends = "", []
        for number, line in enumerate(lines):
            data = line.removeprefix(b"data: ")
            if data == line:
                raise ValueError(f"no event: {line[:60]!r}")
            if data == b"[DONE]":
                ends.append((number, ""))
                continue
            told = json.loads(data)
            if "error" in told:
                ends.append((number, _sentence(told["error"], self.path)))
                continue
            text += "".join(choice["delta"].get("content") or "" for choice in told["choices"])
        return _said(text, ends, len(lines))


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as its client has it: complete, or with the sentence of its error."""

    text: str
    complete: bool
    error: str
    status: int = 200


def _said(text: str, ends: Sequence[tuple[int, str]], lines: int) -> Said:
    if len(ends) != 1 or ends[0][0] != lines - 1:
        raise ValueError(f"{len(ends)} ends, at {[number for number, _ in ends]} of {lines}")
    return Said(_SURROGATES.sub("\ufffd", text), not ends[0][1], ends[0][1])


def _sentence(error: Any, path: str) -> str:
    """The words of an error, which has to be in the shape of its dialect."""
    words = error if path == "/api/chat" else error["message"]
    if not isinstance(words, str) or not words or (path != "/api/chat" and "type" not in error):
        raise ValueError(f"an error of another shape: {error!r}")
    return words


WAYS = tuple(Way(path, stream) for path in ("/api/chat", "/v1/chat/completions") for stream in (True, False))


def fault(way: Way, outcome: Outcome, meant: Meaning) -> str:
    """What is wrong with an answer to a body that says `meant`; "" where nothing is."""
    if any(word in line for line in outcome.lines for word in (b"internal error (", b"Traceback", b'File "')):
        return f"a bug: {outcome.lines[-1][:120]!r}"
    try:
        said = way.read(outcome)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    if meant.whole or said.complete:
        right = said == Said(meant.text, True, "") and meant.whole
        return "" if right else f"{said} where {meant} was meant"
    if meant.texts and way.stream:
        right = said.status == 200 and said.text == meant.text and bool(said.error)
    else:
        right = said.status >= 500 and bool(said.error)
    return "" if right else f"{said} where {meant} was meant"
