"""Forms with files in them (multipart/form-data), read whole. Errors in the words of Go's own reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.core.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 100


class Upload(NamedTuple):
    """A file of a form, and what its sender calls it."""

    name: str
    content: bytes


def read_form(body: bytes, content_type: str) -> tuple[dict[str, str], dict[str, Upload]]:
    """Its texts and its files; of several parts with one name the first counts. Raises `BadRequest`."""
    return _Form(_boundary(content_type)).read(body)


def _refused(why: str) -> BadRequest:
    return BadRequest(f"failed to parse multipart form: {why}")


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise _refused("request Content-Type isn't multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _refused("no multipart boundary param in Content-Type")
    return boundary


class _Form:
    """Reads one body."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        self._fields: dict[str, str] = {}
        self._files: dict[str, Upload] = {}
        self._parts = 0
        self._data = bytearray()
        self._header = self._value = b""
        self._disposition = b""
        self._ended = False

    def read(self, body: bytes) -> tuple[dict[str, str], dict[str, Upload]]:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        if b"--" + self._boundary not in body:
            raise _refused("multipart: NextPart: EOF")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin, "on_part_data": self._add, "on_part_end": self._finish,
            "on_header_field": self._name, "on_header_value": self._content, "on_header_end": self._end_header,
            "on_end": self._end,
        }  # fmt: skip
        try:
            MultipartParser(self._boundary, callbacks).write(body)
        except FormParserError as error:
            raise _refused(str(error)) from error
        if not self._ended:
            raise _refused("unexpected EOF")
        return self._fields, self._files

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _refused("multipart: message too large")
        self._data, self._disposition = bytearray(), b""

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _finish(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            file = options[b"filename"].decode("utf-8", "replace")
            self._files.setdefault(name, Upload(file, bytes(self._data)))
        else:
            self._fields.setdefault(name, self._data.decode("utf-8", "replace"))

    def _end(self) -> None:
        self._ended = True
