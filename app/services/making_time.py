"""How long a quantization will take: what this machine's kernels and digests need, times what earlier runs showed.

Both are measured (`models.quantizer_speed`). Disks, other work and another machine's speed are in one learned factor
per host and way; before a first run it is 1 where this machine does the work and unknown for a host elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from app.core.errors import LoupeError
from app.core.hosts import HostAddress
from app.models.gguf_writer import write_error
from app.models.quantized_size import source_bytes
from app.models.quantizer_speed import digest_bytes_a_second, predicted_seconds
from app.models.tensor_types import Described
from app.services.small_file import read_small, write_small

log = structlog.get_logger(__name__)
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
START_SECONDS = 1.0  # of a process, and of the requests around it
SMALLEST, LARGEST = 0.05, 50.0  # of a learned factor


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be made: `size` is the new model's, in bytes; `way` is "host" or "loupe"."""

    model: Described
    level: str
    way: str
    size: int


class MakingTime:
    """Keeps what it learned in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._factors: dict[str, float] | None = None

    async def seconds(self, task: Task | None, address: HostAddress) -> float | None:
        """None where it cannot be known."""
        if task is None:
            return None
        known = 1.0 if is_here(address) or task.way == "loupe" else None
        factor = (await self._known()).get(_key(address, task.way), known)
        if factor is None:
            return None
        reckoned = await _reckoned(task)
        return None if reckoned is None else reckoned * factor

    async def learn(self, task: Task | None, address: HostAddress, took: float) -> None:
        """The factor moves half the way to that of this run: other work on the machine comes and goes."""
        reckoned = await _reckoned(task) if task else None
        if task is None or reckoned is None:
            return
        known, key = await self._known(), _key(address, task.way)
        seen = min(max(took / reckoned, SMALLEST), LARGEST)
        known[key] = round(math.sqrt(seen * known.get(key, seen)), 3)
        try:
            await asyncio.to_thread(write_small, self._file, json.dumps(known))
        except OSError as error:  # the next run predicts worse, nothing else
            log.warning("what was learned is not kept", error=write_error(self._file, error).message)

    async def _known(self) -> dict[str, float]:
        if self._factors is None:
            told = await asyncio.to_thread(read_small, self._file)
            rows = told.items() if isinstance(told, dict) else ()
            self._factors = {
                key: float(value) for key, value in rows
                if isinstance(value, int | float) and SMALLEST <= value <= LARGEST
            }  # fmt: skip
        return self._factors


def is_here(address: HostAddress) -> bool:
    """Whether the host runs on this machine."""
    return address.embedded or (urlsplit(address.url).hostname or "") in _HERE


def _key(address: HostAddress, way: str) -> str:
    return f"{way} {'embedded' if address.embedded else address.url}"


async def _reckoned(task: Task) -> float | None:
    try:
        return await asyncio.to_thread(_seconds, task)
    except LoupeError:  # no ggml here
        return None


def _seconds(task: Task) -> float:
    """The new file is hashed by the host; one that is made here also as it is written, and once more by the host, which
    writes an uploaded file anew. The source is hashed before it is read."""
    hashed = task.size if task.way == "host" else source_bytes(task.model) + 3 * task.size
    return START_SECONDS + predicted_seconds(task.model, task.level) + hashed / digest_bytes_a_second()
