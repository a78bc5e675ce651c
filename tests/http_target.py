"""Plain HTTP to a server on loopback: exact headers and lines, an answer that is left, a request not waited for."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Reply:
    """`sent` is the body as it came where `body` was made comparable."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line]


class Connection(http.client.HTTPConnection):
    """Closing it is leaving, also when the answer has taken the socket over (as it does where it ends with it)."""

    _answer: http.client.HTTPResponse | None = None

    def getresponse(self) -> http.client.HTTPResponse:
        answer = super().getresponse()  # may call close()
        self._answer = answer
        return answer

    def close(self) -> None:
        super().close()
        if self._answer is not None:
            self._answer.close()


class HttpTarget:
    """A server that speaks Ollama's protocol."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port
        self._opened: list[Connection] = []

    def connection(self, timeout: float = 100) -> Connection:
        made = Connection(urlsplit(self.url).netloc, timeout=timeout)
        self._opened.append(made)
        return made

    def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One exchange, read to its end. `body` is bytes or JSON."""
        connection = self.connection()
        try:
            self._request(connection, method, path, body, headers)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, answer.read())
        finally:
            connection.close()

    def open(self, path: str, body: Any) -> tuple[Connection, http.client.HTTPResponse]:
        """A streamed answer that has begun; closing the connection is leaving."""
        connection = self.connection()
        self._request(connection, "POST", path, body, None)
        return connection, connection.getresponse()

    def leave(self) -> None:
        """Hang up on everything that was opened."""
        for opened in self._opened:
            opened.close()

    def start(self, path: str, body: Any) -> Connection:
        """A request that was sent and not waited for."""
        connection = self.connection()
        self._request(connection, "POST", path, body, None)
        return connection

    @staticmethod
    def _request(
        connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = dict(headers or {})
        connection.putrequest(method, path, skip_host="Host" in given, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value)
        if content or method in ("POST", "DELETE"):
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
