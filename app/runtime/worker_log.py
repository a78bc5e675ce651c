"""What a worker says on standard error: the last lines, the sizes of its buffers, and why it failed.

Source: llama.cpp's log at verbosity 4 (the formats below were read from xllamacpp 2026.10).
"""

from __future__ import annotations

import re
from collections import deque

_BUFFER = re.compile(r"(\w+):\s+(\S+)\s+(model|KV|compute|output|RS)\s+buffer size\s*=\s*([0-9.]+)\s*MiB")
_ERROR = re.compile(r"^[0-9.]+ E (.*)$")
_PREFIX = re.compile(r"^(?:srv|slot|cmn|llama|spec)\s+\S+:\s*")
_KEPT, _LONGEST = 400, 2000


class WorkerLog:
    """Fed line by line; bounded. `lines_seen` grows with every line (a load that still talks is not stuck)."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._errors: deque[str] = deque(maxlen=20)
        self._buffers: dict[tuple[str, str, str], int] = {}
        self.lines_seen = 0

    def feed(self, raw: bytes) -> None:
        line = raw[:_LONGEST].decode("utf-8", "replace").rstrip()
        self.lines_seen += 1
        self._lines.append(line)
        if "buffer size" in line and (found := _BUFFER.search(line)):
            component, backend, kind, size = found.groups()
            key, nbytes = (component, backend, kind), round(float(size) * (1 << 20))
            # A model with windowed layers has two caches, each with a line of its own: their sizes add up (Ollama keeps
            # the second only, ollama PR 17037). Other buffers may be measured anew, and the last word counts.
            self._buffers[key] = nbytes + (self._buffers.get(key, 0) if kind == "KV" else 0)
        if "GGML_ASSERT" in line or "terminate called" in line:
            at = line.find("GGML_ASSERT")
            self._errors.appendleft(line[max(at, 0) :].strip())  # without the builder's path
        elif found := _ERROR.match(line):
            self._errors.append(_PREFIX.sub("", found.group(1)).strip())
        elif line.startswith(("RuntimeError", "MemoryError", "OSError", "ImportError", "ModuleNotFoundError")):
            self._errors.append(line.strip())

    @property
    def memory(self) -> int:
        """Bytes of model, KV, compute and output buffers; 0 before they are known."""
        return sum(self._buffers.values())

    @property
    def reason(self) -> str:
        """The first line that says what went wrong, or ""."""
        return self._errors[0] if self._errors else ""

    @property
    def last_error(self) -> str:
        return self._errors[-1] if self._errors else ""

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._lines)
