"""Whether anything listens at a port of this machine."""

from __future__ import annotations

import asyncio
import contextlib

SECONDS = 1.0  # a port of one's own machine accepts or refuses at once


async def listens(port: int, address: str = "127.0.0.1") -> bool:
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
