"""What a worker says on standard error: the last lines, the sizes of its buffers, and why it failed.

Source: llama.cpp's log at verbosity 4 (the formats below were read from xllamacpp 2026.10).
"""

from __future__ import annotations

import re
from collections import deque

_BUFFER = re.compile(r"(\w+):\s+(\S+)\s+(model|KV|compute|output|RS)\s+buffer size\s*=\s*([0-9.]+)\s*MiB")
_BEGUN, _REFUSAL, _REFUSAL_LINES = "new prompt, n_ctx_slot", "llg error: ", 8
_ERROR = re.compile(r"^[0-9.]+ E (.*)$")
_PREFIX = re.compile(r"^(?:srv|slot|cmn|llama|spec)\s+\S+:\s*")
# What comes before an abort: a failed assertion with the place in the builder's source, or C++'s last words.
_ABORT = re.compile(r"^\S+\.(?:c|cc|cpp|h|hpp|inc):\d+: (.*)$|((?:GGML_ASSERT|GGML_ABORT|terminate called).*)$")
_PYTHON = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b.*$")
_KEPT, _LONGEST = 400, 2000

_OUT_OF_MEMORY = re.compile(
    r"fail\w* to (?:re)?alloc|unable to alloc|cannot alloc|bad_alloc|out of memory|MemoryError|SIGKILL", re.IGNORECASE
)
# What to do about a load that failed, by what was said; the first that fits.
_ADVICE = (
    (_OUT_OF_MEMORY,
     "there was not enough memory; a shorter context (num_ctx) or a smaller quantization needs less, and unloading "
     "other models gives back theirs"),
    (re.compile(r"V cache|flash.?att", re.IGNORECASE),
     "unset OLLAMA_KV_CACHE_TYPE, or set OLLAMA_FLASH_ATTENTION=1"),
    (re.compile(r"unknown (?:model architecture|pre-tokenizer|tokenizer)|unsupported", re.IGNORECASE),
     "this build of llama.cpp does not know this kind of model; a newer Loupe or an Ollama may"),
    (re.compile(r"timed out"), "OLLAMA_LOAD_TIMEOUT gives a slow disk more time"),
    (re.compile(r"ModuleNotFoundError|ImportError|\.so\b"),
     "the embedded runtime is not installed whole; install it anew"),
)  # fmt: skip
_OTHERWISE = "the model file may be damaged or incompatible with this version; pull or create it again"


class WorkerLog:
    """Fed line by line; bounded. `lines_seen` grows with every line (a load that still talks is not stuck)."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._aborts: deque[str] = deque(maxlen=20)
        self._errors: deque[str] = deque(maxlen=20)
        self._buffers: dict[tuple[str, str, str], int] = {}
        self.lines_seen = 0
        self.begun = 0  # requests, each of which has its grammar by then
        self.refusals = 0  # schemas that the engine behind a grammar did not take

    def feed(self, raw: bytes) -> None:
        line = raw[:_LONGEST].decode("utf-8", "replace").rstrip()
        self.lines_seen += 1
        self.refusals += _REFUSAL in line
        self.begun += _BEGUN in line
        self._lines.append(line)
        if "buffer size" in line and (found := _BUFFER.search(line)):
            component, backend, kind, size = found.groups()
            key, nbytes = (component, backend, kind), round(float(size) * (1 << 20))
            # A model with windowed layers has two caches, each with a line of its own: their sizes add up (Ollama keeps
            # the second only, ollama PR 17037). Other buffers may be measured anew, and the last word counts.
            self._buffers[key] = nbytes + (self._buffers.get(key, 0) if kind == "KV" else 0)
        if found := _ERROR.match(line):
            self._errors.append(_PREFIX.sub("", found.group(1)).strip())
        elif found := _ABORT.search(line):
            self._aborts.append((found.group(1) or found.group(2)).strip())
        elif _PYTHON.match(line):
            self._errors.append(line.strip())

    def loaded(self) -> None:
        """From now on errors are those of single requests, which say nothing about the end of the process."""
        self._errors = deque(maxlen=0)

    @property
    def memory(self) -> int:
        """Bytes of model, KV, compute and output buffers; 0 before they are known."""
        return sum(self._buffers.values())

    @property
    def reason(self) -> str:
        """What aborted the process, else the first line that says what went wrong, or ""."""
        return next(iter((*self._aborts, *self._errors)), "")

    @property
    def refusal(self) -> str:
        """Why the last schema was not taken, or ""."""
        lines = list(self._lines)
        at = next((at for at in range(len(lines) - 1, -1, -1) if _REFUSAL in lines[at]), len(lines))
        said = [line.partition(_REFUSAL)[2].rpartition("JSON schema: ")[2].strip() for line in lines[at : at + 1]]
        more = (line for line in lines[at + 1 : at + _REFUSAL_LINES] if line.startswith("error: "))
        return " ".join([*said, *(line.removeprefix("error: ") for line in list(more)[:1])])

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._lines)


def is_out_of_memory(reason: str) -> bool:
    return _OUT_OF_MEMORY.search(reason) is not None


def advice_for(reason: str) -> str:
    """What to do about a load that failed for `reason`."""
    return next((advice for pattern, advice in _ADVICE if pattern.search(reason)), _OTHERWISE)
