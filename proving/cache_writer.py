"""A process that fills a cache until it is killed: `python -m proving.cache_writer FOLDER ROUND [careless]`.

Prints each key once its answer is said to be kept. What an answer to a key is, `text_of` says, to the reader too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from app.core.generation import Chunk
from app.core.ports import SystemClock
from app.services.response_cache import Origin, ResponseCache
from tests.fakes import MODEL, answer

LIMIT = 64 << 20
ORIGIN = Origin(MODEL, "d" * 64, question="?")


def text_of(key: str) -> Sequence[str]:
    """The pieces of the only right answer to this key: 1 to 400 of them, which compress badly."""
    draw = random.Random(key)  # noqa: S311  # the same for writer and reader
    return [f"{key} {draw.getrandbits(256):x} " for _ in range(draw.choice([1, 20, 150, 400]))]


def chunks_of(key: str) -> list[Chunk]:
    return answer(*text_of(key))


async def fill(folder: Path, begun: int) -> None:
    """The cache as it is."""
    cache = ResponseCache(folder, LIMIT, SystemClock())
    await cache.start()
    for number in range(10**6):
        key = f"{begun}-{number}"
        if await cache.put(key, chunks_of(key), ORIGIN, seconds=1.0):
            print(key, flush=True)


def fill_carelessly(folder: Path, begun: int) -> None:
    """The control: files written in place, piece by piece, as they come."""
    folder.mkdir(exist_ok=True)
    for number in range(10**6):
        key = f"{begun}-{number}"
        with (folder / key).open("wb") as file:
            whole = "".join(text_of(key)).encode()
            for begin in range(0, len(whole), 8):
                file.write(whole[begin : begin + 8])
                file.flush()
        print(key, flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    place, round_ = Path(sys.argv[1]), int(sys.argv[2])
    if sys.argv[3:]:
        fill_carelessly(place, round_)
    else:
        asyncio.run(fill(place, round_))
