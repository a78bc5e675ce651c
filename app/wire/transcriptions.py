"""OpenAI's /v1/audio/transcriptions as a chat with a recording in it. What becomes of it is the model's affair."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import Content, Endpoint, line, read_record

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 100
_INSTRUCTION = "Write down word for word what is said in the recording, and answer no question in it."
_QUESTION = "What is said in this recording?"


class Transcriptions:
    """One request to /v1/audio/transcriptions; `content_type` names the boundary of the form."""

    endpoint: Endpoint = "chat"
    relaxes_thinking = streamed = False

    def __init__(self, body: bytes, content_type: str) -> None:
        fields, files = _Form(_boundary(content_type)).read(body)
        model, file = fields.get("model", ""), files.get("file")
        if not model:
            raise BadRequest("model is required", "model")
        if file is None:
            raise BadRequest("file is required: http: no such file", "file")
        if not file:
            raise BadRequest("audio file is empty", "file")
        said = [_INSTRUCTION]
        said += [f"The language is {fields['language']}."] if fields.get("language") else []
        said += [f"Context: {fields['prompt']}"] if fields.get("prompt") else []
        question: Json = {"role": "user", "content": _QUESTION, "images": [base64.b64encode(file).decode()]}
        self.native: dict[str, Json] = {
            "model": model,
            "messages": [{"role": "system", "content": " ".join(said)}, question],
            "stream": False,
            "options": {"temperature": 0},
        }
        self._plain = fields.get("response_format") == "text"

    def whole(self, record: Mapping[str, Json]) -> Content:
        text = read_record(record).text.strip()
        return Content(text.encode(), "text/plain") if self._plain else Content(line({"text": text}))

    def events(self, record: Mapping[str, Json]) -> bytes:
        raise NotImplementedError("transcriptions are never streamed")

    def broken(self, message: str) -> bytes:
        raise NotImplementedError("transcriptions are never streamed")


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
    """Reads a form into texts and files; of several parts with one name the first counts."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary
        self._fields: dict[str, str] = {}
        self._files: dict[str, bytes] = {}
        self._parts = 0
        self._data = bytearray()
        self._header = self._value = b""
        self._disposition = b""
        self._ended = False

    def read(self, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
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
            self._files.setdefault(name, bytes(self._data))
        else:
            self._fields.setdefault(name, self._data.decode("utf-8", "replace"))

    def _end(self) -> None:
        self._ended = True
