"""Answers that try to make the page load something or run a script: kept ones, and ones that come in pieces.

`SCENE_STEP=6` takes every sixth text. `SCENE_RAW=on` hands the Markdown to the page as the model wrote it, and
`SCENE_POLICY=off` leaves the content policy out (`serve_fakes`).
"""

from __future__ import annotations

import asyncio
import os
import random

from app.core.generation import GenerationRequest
from app.ui.components import transcript
from tests.hostile_outputs import texts
from tests.ui.fake_services import FakeServices, Step

PAUSE = 0.06  # seconds between two pieces: the page draws at 20 Hz, and is to draw each of them


def chosen() -> list[int]:
    """The numbers of the texts that are shown."""
    return list(range(0, len(texts()), int(os.environ.get("SCENE_STEP", "1"))))


def hostile_texts(services: FakeServices) -> str:
    """One conversation with an answer for each text; and whoever asks 7 afterwards is told text 7 in pieces."""
    if os.environ.get("SCENE_RAW") == "on":
        transcript.neutralise = lambda text: text  # type: ignore[attr-defined]
    services.model.script = lambda request: [texts()[_number(request)]]
    chat_id = ""
    for number in chosen():
        chat_id = services.ask(str(number), conversation=chat_id)
    services.model.script = _pieces
    return f"/?chat={chat_id}"


def _pieces(request: GenerationRequest) -> list[Step]:
    text, draw = texts()[_number(request)], random.Random(_number(request))
    cuts = sorted(draw.sample(range(1, len(text)), min(5, len(text) - 1)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [step for piece in pieces for step in (piece, lambda: asyncio.sleep(PAUSE))]


def _number(request: GenerationRequest) -> int:
    messages = request.body["messages"]
    last = messages[-1] if isinstance(messages, list) else None
    return int(str(last["content"])) if isinstance(last, dict) else 0


HOSTILE_SCENES = {scene.__name__: scene for scene in (hostile_texts,)}
