"""How long a quantization will take: what this machine's kernels would need, times what the host's last run showed.

The kernels are measured (`models.quantizer_speed`). Disk, digests, the upload and another machine's speed are all in
one learned factor per host and way; before a first run it is 1 for hosts on this machine and unknown for others.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from app.core.errors import LoupeError
from app.core.hosts import HostAddress
from app.models.gguf_writer import write_error
from app.models.quantizer_speed import predicted_seconds
from app.models.tensor_types import Described
from app.services.small_file import read_small, write_small

log = structlog.get_logger(__name__)
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
SMALLEST, LARGEST = 0.05, 200.0  # a learned factor outside of this was no measurement


class MakingTime:
    """Keeps what it learned in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._factors: dict[str, float] | None = None

    async def seconds(self, model: Described | None, level: str, way: str, address: HostAddress) -> float | None:
        """None where it cannot be known."""
        factor = (await self._known()).get(_key(address, way), 1.0 if is_here(address) or way == "loupe" else None)
        if model is None or factor is None:
            return None
        kernels = await _predicted(model, level)
        return None if kernels is None else kernels * factor

    async def learn(self, model: Described | None, level: str, way: str, address: HostAddress, took: float) -> None:
        kernels = await _predicted(model, level) if model else None
        if not kernels or not SMALLEST < took / kernels < LARGEST:
            return
        known = await self._known()
        known[_key(address, way)] = round(took / kernels, 3)
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
                if isinstance(value, int | float) and SMALLEST < value < LARGEST
            }  # fmt: skip
        return self._factors


def is_here(address: HostAddress) -> bool:
    """Whether the host runs on this machine."""
    return address.embedded or (urlsplit(address.url).hostname or "") in _HERE


def _key(address: HostAddress, way: str) -> str:
    return f"{way} {'embedded' if address.embedded else address.url}"


async def _predicted(model: Described, level: str) -> float | None:
    try:
        return await asyncio.to_thread(predicted_seconds, model, level)
    except LoupeError:  # no ggml here
        return None
