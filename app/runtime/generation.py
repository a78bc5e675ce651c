"""One generation: from a decoded request to a loaded model.

The steps and their order are Ollama's (protocol 2.1): what is wrong with a request is found in the same order, so
that the same error wins. `preparation` makes the prompt, `answering` the answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.errors import BadRequest, ModelNotFound
from app.core.generation import Json
from app.runtime.capabilities import asked_thinking, check_abilities
from app.runtime.library import Library, LocalModel
from app.runtime.options import Sampling, context_shift, read_options
from app.runtime.runners import Runner
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.tool_shapes import check_tools, images_of
from app.wire.go_duration import keep_alive_ns, quote_go
from app.wire.model_names import parse_reference
from app.wire.requests import check_top_logprobs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A request whose model is there: `started` and `ready` on the monotonic clock, in nanoseconds."""

    model: LocalModel
    runner: Runner
    sampling: Sampling
    started: int
    ready: int
    body: Mapping[str, Json]
    chat: bool

    @property
    def truncate(self) -> bool:
        return self.body.get("truncate") is not False

    @property
    def raw(self) -> bool:
        return self.body.get("raw") is True

    @property
    def think(self) -> bool | str | None:
        return asked_thinking(self.model.capabilities, self.model.config, self.body.get("think"))

    @property
    def tools(self) -> Json:
        """The request's tools; /api/generate has none, which is an empty list to a template."""
        return self.body.get("tools") if self.chat else []


class Generator:
    """Runs generations for one supervisor."""

    def __init__(self, library: Library, scheduler: Scheduler, settings: RuntimeSettings) -> None:
        self._library, self._scheduler, self._settings = library, scheduler, settings

    def find(self, body: Mapping[str, Json], *, chat: bool) -> LocalModel:
        """The model of a request. Raises as recorded: `ModelNotFound`, `BadRequest`."""
        check_top_logprobs(body)
        name = str(body.get("model") or "")
        if not name.strip():
            raise BadRequest("model is required", "model") if chat else ModelNotFound(name)
        try:
            return self._library.open(parse_reference(name))
        except ModelNotFound:
            raise ModelNotFound(name) from None

    def is_unload(self, body: Mapping[str, Json], *, chat: bool) -> bool:
        empty = not body.get("messages") if chat else not body.get("prompt")
        return empty and body.get("keep_alive") is not None and keep_alive_ns(body.get("keep_alive")) == 0

    def unload(self, model: LocalModel) -> None:
        self._scheduler.unload(model)

    @asynccontextmanager
    async def loaded(self, model: LocalModel, body: Mapping[str, Json], *, chat: bool) -> AsyncIterator[Loaded]:
        """The model of a request, loaded and held. Raises what is wrong with the request, and load failures."""
        started = time.monotonic_ns()
        check_abilities(model.capabilities, body, model.name.full, chat=chat)
        check_tools(body.get("tools"))
        _refuse_images(model, body, chat=chat)
        shift = context_shift(body.get("shift"), model.config)
        sampling, launch = read_options(
            model.parameters, body.get("options"), self._settings, shift=shift, pools=model.pools
        )
        keep_alive = keep_alive_ns(body.get("keep_alive"))
        async with self._scheduler.runner(model, launch, keep_alive) as runner:
            yield Loaded(model, runner, sampling, started, time.monotonic_ns(), body, chat)


def _refuse_images(model: LocalModel, body: Mapping[str, Json], *, chat: bool) -> None:
    """A model with a projector could look at images, but not here; any other is refused by its worker."""
    messages = body.get("messages") if chat else [body]
    given = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    if model.projector and images_of(given):
        name = quote_go(str(body.get("model")))
        raise BadRequest(
            f"{name} has a projector for images, and this runtime cannot use projectors; leave the images out, or "
            "run the model on an Ollama server",
            "images",
        )
