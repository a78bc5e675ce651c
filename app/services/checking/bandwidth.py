"""How fast this machine reads memory, and how fast a model can therefore decode.

For every token a model's weights are read once, so tokens/s cannot be more than bandwidth / bytes that are read. The
bandwidth is that of comparing two equal blocks (libc's memcmp, two streams of reads, no writes: the nearest to decoding
that needs no compiled code), on as many threads as there are cores; ctypes lets go of the interpreter's lock meanwhile.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor

BLOCK = 64 << 20  # bytes of each of the two blocks of a thread: beyond every cache
MOST = 2 << 30  # bytes of all blocks together: many threads outdo every cache with smaller ones
SECONDS = 0.6  # for which it is tried; the best round counts, since other work only ever takes away
MARGIN = 1.15  # measured above the limit by more than this is an error of measuring (caches, speculation)


def read_bandwidth(threads: int | None = None, seconds: float = SECONDS, block: int = BLOCK) -> float:
    """Bytes/s. Blocks for about a second and takes 2 * `block` bytes for each thread, 2 GiB at most. Raises OSError,
    MemoryError."""
    threads = threads or usable_cores()
    block = min(block, MOST // (2 * threads))
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes, compare.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int
    blocks = [_block(block) for _ in range(2 * threads)]
    try:
        places = [ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in blocks]
        pairs = list(zip(places[::2], places[1::2], strict=True))
        best, ends = 0.0, time.monotonic() + seconds
        with ThreadPoolExecutor(threads) as pool:
            while time.monotonic() < ends or not best:
                began = time.perf_counter()
                list(pool.map(lambda pair: compare(*pair, block), pairs))
                best = max(best, 2 * block * threads / (time.perf_counter() - began))
        return best
    finally:
        del blocks


def decode_limit(bandwidth: float, reads: int) -> float:
    """Tokens/s that a model can reach at most of whose weights each token reads so many bytes."""
    return bandwidth / reads


def usable_cores() -> int:
    """Threads that this process may run on at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _block(size: int) -> mmap.mmap:
    """Its pages are there and are not all one page: untouched ones would be the system's page of zeros."""
    block = mmap.mmap(-1, size)
    block.write(b"\x55" * size)
    return block
