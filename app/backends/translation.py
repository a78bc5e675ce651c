"""The one place where foreign exceptions about a host become ours.

httpx-aiohttp maps some of aiohttp's exceptions to misleading ones (a server that hangs up becomes a connect
timeout), so where there is an aiohttp cause, the cause decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import httpx

from app.core.errors import HostError, HostProtocolError, HostTimeout, HostUnreachable

CONNECT_SECONDS = 2.0
"""Default of the only timeout that is given to the client libraries; all others are ours and raise `HostTimeout`."""

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
    (aiohttp.ServerDisconnectedError, _broken),
    (aiohttp.ClientError, _broken),
)

FROM_HTTPX: dict[type[BaseException], Told] = {
    httpx.ConnectTimeout: _timeout("connect"),
    httpx.PoolTimeout: _timeout("connect"),
    httpx.ReadTimeout: _timeout("stall"),
    httpx.WriteTimeout: _timeout("stall"),
    httpx.TimeoutException: _timeout("stall"),
    httpx.ConnectError: _unreachable,
    httpx.ProxyError: _unreachable,
    httpx.UnsupportedProtocol: _unreachable,
    httpx.InvalidURL: _unreachable,
    httpx.ReadError: _broken,
    httpx.WriteError: _broken,
    httpx.CloseError: _broken,
    httpx.NetworkError: _broken,
    httpx.LocalProtocolError: _broken,
    httpx.RemoteProtocolError: _broken,
    httpx.ProtocolError: _broken,
    httpx.DecodingError: _broken,
    httpx.TooManyRedirects: _broken,
    httpx.HTTPStatusError: _broken,
    httpx.TransportError: _broken,
    httpx.RequestError: _broken,
    httpx.HTTPError: _broken,
    httpx.CookieConflict: _broken,
    httpx.StreamConsumed: _broken,
    httpx.StreamClosed: _broken,
    httpx.ResponseNotRead: _broken,
    httpx.RequestNotRead: _broken,
    httpx.StreamError: _broken,
}


def translated(host: str, error: BaseException, connect_seconds: float = CONNECT_SECONDS) -> HostError | None:
    """Our error for a foreign one; None if it is none of these libraries'."""
    ours = _ours(host, error)
    return HostTimeout(host, ours.phase, connect_seconds) if isinstance(ours, HostTimeout) else ours


def _ours(host: str, error: BaseException) -> HostError | None:
    for candidate in (error.__cause__, error):
        for kind, told in FROM_AIOHTTP:
            if isinstance(candidate, kind):
                return told(host, candidate)
    for kind in type(error).__mro__:
        if kind in FROM_HTTPX:
            return FROM_HTTPX[kind](host, error)
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
    reason = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
    return reason or str(error) or type(error).__name__
