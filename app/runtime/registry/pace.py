"""The numbers of a pull, all in one place so that tests can make them small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How a pull goes about it. Sizes in bytes, times in seconds.

    Source: numDownloadParts, minDownloadPartSize, maxDownloadPartSize, maxRetries, downloadStallTimeout and the
    ticker of server/download.go in Ollama 0.33.
    """

    parts: int = 16  # a layer is cut into so many, and no more than so many are fetched at once
    smallest_part: int = 100_000_000
    largest_part: int = 1_000_000_000
    tries: int = 6  # a part
    first_wait: float = 1.0  # after a try that failed; doubled each time
    longest_wait: float = 60.0  # more than that no Retry-After makes us wait
    stall: float = 30.0  # without a byte: the part is asked for again
    manifest: float = 30.0  # for the whole of a manifest
    connect: float = 30.0
    tick: float = 0.06  # between two progress records
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def part_size(self, total: int) -> int:
        return max(self.smallest_part, min(total // self.parts, self.largest_part))

    def wait_after(self, tries: int, asked: float | None) -> float:
        """Seconds to wait after `tries` failed ones (1 …); `asked` is the registry's Retry-After, if it sent one."""
        return max(self.first_wait * 2.0 ** (tries - 1), min(asked or 0.0, self.longest_wait))
