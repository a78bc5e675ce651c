"""What a real Ollama answered, as recorded under tests/data/ollama; its INDEX.md says when and how.

A recording that is missing is a failure, never a skip: the recordings are the last word on the protocol.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "ollama"


class RecordingMissing(AssertionError):
    """A test names a recording that is not committed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent: `body` is JSON, or None where `raw` holds the exact text."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: str | None

    @property
    def content(self) -> bytes:
        """The body as bytes: the raw text, compact JSON, or nothing."""
        if self.raw is not None:
            return self.raw.encode()
        return b"" if self.body is None else json.dumps(self.body, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Recording:
    """One exchange. `text` is the exact body (None for streams and where only `body` was kept); `lines` the exact
    lines of a stream; `body` is parsed, with long arrays cut to end in "<n more>"."""

    name: str
    request: Request
    status: int
    headers: dict[str, str]
    text: str | None
    body: Any
    lines: tuple[str, ...]
    at_s: tuple[float, ...]
    note: str

    @property
    def chunks(self) -> list[Any]:
        """The lines of a stream, parsed."""
        return [json.loads(line) for line in self.lines]


@cache
def recording(name: str) -> Recording:
    """The recording called `name`, without ".json".

    Raises:
        RecordingMissing: there is none.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise RecordingMissing(f"no recording {name!r} under tests/data/ollama")
    data = json.loads(path.read_text(encoding="utf-8"))
    return Recording(
        name=data["name"],
        request=Request(**data["request"]),
        status=data["status"],
        headers=data["headers"],
        text=data.get("body_text"),
        body=data.get("body"),
        lines=tuple(data.get("stream", ())),
        at_s=tuple(data.get("at_s", ())),
        note=data.get("note", ""),
    )


def names(pattern: str = "*") -> list[str]:
    """The names of the recordings that match a glob pattern, sorted.

    Raises:
        RecordingMissing: none matches, so that a parametrised test cannot pass by running nothing.
    """
    found = sorted(path.stem for path in FOLDER.glob(f"{pattern}.json"))
    if not found:
        raise RecordingMissing(f"no recording matches {pattern!r} under tests/data/ollama")
    return found
