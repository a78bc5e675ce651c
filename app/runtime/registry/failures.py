"""What goes wrong between us and a registry, in the words of Ollama's log and answers. The one place that knows
aiohttp's exceptions. Source of the sentences: the recordings missing_pull and pull_insecure_refused, and Go's net/http.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from yarl import URL

from app.runtime.registry.addresses import AddressForbidden
from app.runtime.registry.errors import RegistryError, RegistryUnavailable

_RESOLVERS = Path("/etc/resolv.conf")


class Stalled(RegistryUnavailable):
    """No byte came for longer than a part may be silent."""

    code = "registry_stalled"

    def __init__(self) -> None:
        super().__init__("part stalled")


@contextlib.contextmanager
def registry_failures(url: URL, method: str = "GET") -> Iterator[None]:
    """Turns what aiohttp raises while `url` is asked into `RegistryError`, `RegistryUnavailable` or `Stalled`."""
    asked = f'{method.capitalize()} "{url}"'
    try:
        yield
    except aiohttp.ServerTimeoutError as error:  # connecting, or no byte for too long
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            raise _unavailable(asked, f"dial tcp {url.host}:{url.port}: i/o timeout") from error
        raise Stalled from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressForbidden):
            raise RegistryError(str(error.os_error.strerror)) from error
        raise _unavailable(asked, _connecting(error)) from error
    except aiohttp.ServerDisconnectedError as error:
        raise _unavailable(asked, "EOF") from error
    except aiohttp.ClientPayloadError as error:
        raise RegistryUnavailable("unexpected EOF") from error
    except aiohttp.ClientResponseError as error:
        raise RegistryError(f"{asked}: malformed HTTP response") from error
    except (aiohttp.InvalidURL, ValueError) as error:
        raise RegistryError(f"{asked}: invalid URL") from error
    except (aiohttp.ClientError, OSError) as error:
        raise _unavailable(asked, _words(error)) from error


def _unavailable(asked: str, why: str) -> RegistryUnavailable:
    return RegistryUnavailable(f"{asked}: {why}")


def _connecting(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, socket.gaierror):
        nonesuch = cause.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return f"dial tcp: lookup {error.host}{_name_server()}: {'no such host' if nonesuch else 'server misbehaving'}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {cause.verify_message}"
    if isinstance(cause, ssl.SSLEOFError) or cause.errno is None:  # closed in the middle of the handshake
        return "EOF"
    if isinstance(cause, ssl.SSLError):
        if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return "http: server gave HTTP response to HTTPS client"
        return f"tls: {(cause.reason or 'handshake failure').lower().replace('_', ' ')}"
    return f"dial tcp {error.host}:{error.port}: connect: {_words(cause)}"


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else "EOF"


def _name_server() -> str:
    """ " on ADDRESS:53": Go names the server it asked."""
    try:
        lines = _RESOLVERS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a machine without that file asks its names in another way
        return ""
    found = next((words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and words[1:]), "")
    return f" on [{found}]:53" if ":" in found else f" on {found}:53" if found else ""
