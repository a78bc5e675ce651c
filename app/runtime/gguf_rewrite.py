"""Writing a model file anew: as it is, joined from its parts, or quantized. Runs as a process of its own.

Ollama passes every imported GGUF through `llama-quantize … COPY`, and quantizes with the same program; here it is
`models.gguf_copy` and `models.quantizer`, with the same bytes as result (create_from_gguf, create_quantize_*).

    python -m app.runtime.gguf_rewrite    with one line of JSON on standard input, see `Job`

Standard output carries {"completed", "total"} (bytes of tensors) at most ten times a second, and ends with
{"sha256", "size"} or {"error", "code"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from app.core.errors import BadRequest, LoupeError, ModelFileDamaged
from app.models.gguf_copy import Progress, Written, copy_gguf
from app.models.gguf_file import read_gguf
from app.models.quantizer import quantize
from app.runtime.guarded import die_with_parent

_NICENESS = 10  # somebody is chatting meanwhile
_REPORT_EVERY = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Job:
    """What to write: `parts` of one model, in order, into `target`. `file_type` "" copies; `texts` are metadata to
    add where they are absent."""

    parts: tuple[str, ...]
    target: str
    file_type: str = ""
    texts: tuple[tuple[str, str], ...] = ()

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def carry_out(job: Job, on_progress: Progress | None = None) -> Written:
    """Does a job in this process. Raises what `copy_gguf` and `quantizer.quantize` raise."""
    target = Path(job.target)
    parts = [read_gguf(path) for path in job.parts]
    if not job.file_type:
        return copy_gguf(parts, target, texts=job.texts, on_progress=on_progress)
    joined = parts[0].path
    if len(parts) > 1:
        joined = target.with_name(f"{target.name}.joined")
        copy_gguf(parts, joined)
    made = quantize(joined, target, job.file_type, on_progress=on_progress)
    if len(parts) > 1:
        joined.unlink()
    return Written(made.sha256, made.size)


class _Reporter:
    def __init__(self) -> None:
        self._at = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._at < _REPORT_EVERY:
            return
        self._at = now
        _say({"completed": done, "total": total})


def _say(record: dict[str, object]) -> None:
    print(json.dumps(record), flush=True)


def main() -> int:
    """0 after the result was told; 1 after an error was."""
    told = json.loads(sys.stdin.buffer.readline())
    job = Job(tuple(told["parts"]), told["target"], told["file_type"], tuple((k, v) for k, v in told["texts"]))
    die_with_parent()
    os.nice(_NICENESS)
    try:
        written = carry_out(job, _Reporter())
    except (BadRequest, ModelFileDamaged) as error:
        _say({"error": error.message, "code": "cannot_create"})
        return 1
    except LoupeError as error:
        _say({"error": error.message, "code": error.code})
        return 1
    _say(written._asdict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
