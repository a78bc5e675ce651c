"""A bare TCP splice: what any Python process between a client and a host costs, without a word of HTTP.

python -m benchmarks.splice PORT TO_PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One of two ends; what one of them receives, the other sends. What comes before there is another end is kept."""

    def __init__(self, other: _End | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        if self.other is not None:
            self.other.joined(self)
        else:
            self._opening = asyncio.ensure_future(_open(self))

    def joined(self, other: _End) -> None:
        self.other = other
        if self._kept and other.transport is not None:
            other.transport.write(self._kept)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._kept += data
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def _open(end: _End) -> None:
    await asyncio.get_running_loop().create_connection(lambda: _End(end), "127.0.0.1", int(sys.argv[2]))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(_End, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
