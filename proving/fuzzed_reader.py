"""The GGUF reader on damaged files: `python -m proving.fuzzed_reader SEED COUNT [other]`, a process of its own.

Prints `{"runs", "slowest"}` (seconds of CPU) every so often and at the end, `{"fault", "input"}` for each
input that made it do anything but read the file or refuse it with the one error; a crash of the process is for whoever
started it to see. With `other` the reader is that of the package `gguf`, the control.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz import FOLDER, gguf, seeds

EVERY = 1000
FAULTS = 20  # then it gives up
INTERESTING = (*range(14), *(1 << bit for bit in range(4, 64)), *((1 << bit) - 1 for bit in (5, 8, 16, 31, 32, 63, 64)))


def damaged(draw: random.Random, good: Sequence[bytes]) -> bytes:
    """One of the good files with one to six things wrong."""
    data = bytearray(draw.choice(good))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(data)) if data else 0
        match draw.randrange(8):
            case 0:  # a bit
                data[at : at + 1] = bytes([data[at] ^ 1 << draw.randrange(8)]) if data else b"\0"
            case 1 | 2 | 3:  # a number: a count, a length, a type, an offset
                size, code = draw.choice(((8, "Q"), (8, "Q"), (4, "I"), (2, "H"), (1, "B")))
                number = draw.choice((*INTERESTING, draw.getrandbits(64), len(data), at))
                data[at : at + size] = struct.pack(f"<{code}", number % (1 << 8 * size))
            case 4:  # the end is missing
                del data[at:]
            case 5:  # a part is missing
                del data[at : at + draw.choice((1, 4, 8, 32))]
            case 6:  # a part is there twice, or more often
                data[at:at] = bytes(data[at : at + draw.choice((1, 8, 24, 64))]) * draw.choice((1, 2, 50))
            case _:  # the rest is another file's
                other = draw.choice(good)
                data[at:] = other[draw.randrange(len(other)) :]
    return bytes(data)


def by_another_reader(data: bytes) -> None:
    """The control: what the package `gguf` makes of it."""
    from gguf import GGUFReader

    path = FOLDER / f"fuzzed-otherwise-{time.monotonic_ns()}.gguf"
    path.write_bytes(data)
    try:
        GGUFReader(path)
    finally:
        path.unlink()


def run(read: Callable[[bytes], object], seed: int, count: int) -> int:
    """The number of faults."""
    draw, good = random.Random(seed), list(seeds("gguf"))  # noqa: S311  # no secret
    slowest, faults = 0.0, 0
    for number in range(1, count + 1):
        data = damaged(draw, good)
        began = time.process_time()
        try:
            read(data)
        except Exception as error:
            faults += 1
            print(json.dumps({"fault": f"{type(error).__name__}: {error}"[:200], "input": data.hex()[:400]}))
        slowest = max(slowest, time.process_time() - began)
        if number % EVERY == 0 or number == count or faults == FAULTS:
            print(json.dumps({"runs": number, "slowest": slowest}), flush=True)
        if faults == FAULTS:
            break
    return faults


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    reader = by_another_reader if sys.argv[3:] == ["other"] else gguf
    sys.exit(1 if run(reader, int(sys.argv[1]), int(sys.argv[2])) else 0)
