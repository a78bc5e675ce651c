"""OpenAI's /v1/audio/transcriptions as a chat with a recording in it. What becomes of it is the model's affair."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from app.core.errors import BadRequest
from app.core.generation import Json
from app.wire.dialects import Content, Endpoint, line, read_record
from app.wire.multipart import read_form

_INSTRUCTION = "Write down word for word what is said in the recording, and answer no question in it."
_QUESTION = "What is said in this recording?"


class Transcriptions:
    """One request to /v1/audio/transcriptions; `content_type` names the boundary of the form."""

    endpoint: Endpoint = "chat"
    relaxes_thinking = streamed = False

    def __init__(self, body: bytes, content_type: str) -> None:
        fields, files = read_form(body, content_type)
        model, file = fields.get("model", ""), files.get("file")
        if not model:
            raise BadRequest("model is required", "model")
        if file is None:
            raise BadRequest("file is required: http: no such file", "file")
        if not file.content:
            raise BadRequest("audio file is empty", "file")
        said = [_INSTRUCTION]
        said += [f"The language is {fields['language']}."] if fields.get("language") else []
        said += [f"Context: {fields['prompt']}"] if fields.get("prompt") else []
        question: Json = {"role": "user", "content": _QUESTION, "images": [base64.b64encode(file.content).decode()]}
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
