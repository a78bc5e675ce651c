"""The one place where foreign exceptions about a host become ours."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from app.core.errors import HostError, HostProtocolError, HostTimeout, HostUnreachable

CONNECT_SECONDS = 2.0
"""Default of the only timeout that is given to the client libraries; all others are ours and raise `HostTimeout`."""

_NUMBERS = re.compile(r"\[Errno (\d+)\] Connect call failed")
Told = Callable[[str, BaseException], HostError]


def _unreachable(host: str, error: BaseException) -> HostError:
    return HostUnreachable(host, _words(error))


def _broken(host: str, error: BaseException) -> HostError:
    return HostProtocolError(host, _words(error))


def _timeout(phase: str) -> Told:
    return lambda host, error: HostTimeout(host, phase, CONNECT_SECONDS)


FROM_AIOHTTP: tuple[tuple[type[BaseException], Told], ...] = (  # the first that fits
    (aiohttp.ConnectionTimeoutError, _timeout("connect")),
    (aiohttp.SocketTimeoutError, _timeout("stall")),
    (aiohttp.ServerTimeoutError, _timeout("connect")),
    (aiohttp.ClientConnectorError, _unreachable),
    (aiohttp.InvalidURL, _unreachable),
    (aiohttp.ServerDisconnectedError, _broken),
    (aiohttp.ClientError, _broken),
)


def translated(host: str, error: BaseException, connect_seconds: float = CONNECT_SECONDS) -> HostError | None:
    """Our error for a foreign one; None if it is none of the client library's."""
    ours = _ours(host, error)
    return HostTimeout(host, ours.phase, connect_seconds) if isinstance(ours, HostTimeout) else ours


def _ours(host: str, error: BaseException) -> HostError | None:
    for kind, told in FROM_AIOHTTP:
        if isinstance(error, kind):
            return told(host, error)
    return HostUnreachable(host, _words(error), sent=True) if isinstance(error, OSError) else None


@contextmanager
def translating(host: str, connect_seconds: float = CONNECT_SECONDS) -> Iterator[None]:
    """Around every call of a foreign client. Our own errors, cancellation and bugs pass through."""
    try:
        yield
    except Exception as error:
        ours = translated(host, error, connect_seconds)
        if ours is None:
            raise
        raise ours from error


def _words(error: BaseException) -> str:
    """What happened, without the library's own packaging."""
    reason = _reason(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else None
    return reason or str(error) or type(error).__name__


def _reason(error: OSError) -> str | None:
    """asyncio says which addresses it called, and the system's reason by its number alone; of several addresses that
    have one reason in common (localhost has two) it says the numbers in a text."""
    said = [error.errno] if error.errno else [int(number) for number in _NUMBERS.findall(str(error))]
    if "Connect call failed" not in str(error) or len(set(said)) != 1:
        return error.strerror
    words = os.strerror(said[0])
    return words[:1].lower() + words[1:]
