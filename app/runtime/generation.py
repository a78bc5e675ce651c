"""One generation: from a decoded request to the pieces of its answer.

The steps and their order are Ollama's (protocol 2.1): what is wrong with a request is found in the same order, so
that the same error wins.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from app.core.errors import BadRequest, GenerationFailed, ModelNotFound
from app.core.generation import Json
from app.runtime.library import Library, LocalModel
from app.runtime.options import Sampling, context_shift, prediction_limit, read_options
from app.runtime.output_formats import JSON_GRAMMAR, check_schema, literal_grammar
from app.runtime.prompts import Message, PromptMaker, chat_messages, generate_messages
from app.runtime.runners import Runner
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.templates.go_template import parse as parse_template
from app.runtime.worker_client import Final, Piece
from app.wire.go_duration import keep_alive_ns, quote_go
from app.wire.model_names import parse_reference
from app.wire.requests import check_top_logprobs, output_format

REPEATS = 30  # so many events in a row with the same text are an answer that has got stuck (protocol 2.6)
_MARKER = "<__media__>"


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
        _check_abilities(model, body, chat=chat)
        shift = context_shift(body.get("shift"), model.config)
        sampling, launch = read_options(
            model.parameters, body.get("options"), self._settings, shift=shift, pools=model.pools
        )
        keep_alive = keep_alive_ns(body.get("keep_alive"))
        async with self._scheduler.runner(model, launch, keep_alive) as runner:
            yield Loaded(model, runner, sampling, started, time.monotonic_ns(), body, chat)

    async def prompt(self, loaded: Loaded) -> str:
        """The text the model is given."""
        body, worker = loaded.body, loaded.runner.worker.running
        maker = PromptMaker(loaded.model, worker, loaded.runner.num_ctx)
        if loaded.chat:
            given = cast(list[Message], body.get("messages"))
            return await maker.fitting(chat_messages(loaded.model, given), truncate=loaded.truncate)
        if loaded.raw:
            return str(body.get("prompt") or "")
        before = ""
        if isinstance(context := body.get("context"), list):
            before = await worker.detokenize([token for token in context if isinstance(token, int)])
        asked = body.get("template")
        template = parse_template(str(asked)) if asked else None
        if (suffix := body.get("suffix")) and (chosen := template or loaded.model.template):
            return before + chosen.render((), prompt=str(body.get("prompt")), suffix=str(suffix))
        messages = generate_messages(loaded.model, body)
        if template is not None:
            return before + await maker.render(messages, template=template)
        return before + await maker.fitting(messages, truncate=loaded.truncate)

    async def answer(self, loaded: Loaded, prompt: str) -> AsyncGenerator[Piece | Final, None]:
        """The pieces of the answer, the last one `Final`; waits for a slot first. Closing it stops the worker."""
        runner, repeated, last = loaded.runner, 0, ""
        async with runner.slot():
            body = await self._completion(loaded, prompt)
            async with aclosing(runner.worker.running.complete(body)) as events:
                async for event in events:
                    stripped = event.text.strip()
                    repeated, last = (repeated + 1, last) if stripped == last else (0, stripped)
                    if repeated > REPEATS and isinstance(event, Piece):
                        raise GenerationFailed("worker", "prediction aborted, token repeat limit reached")
                    yield event

    async def context(self, loaded: Loaded, text: str) -> list[int]:
        """The tokens of prompt and answer, which a later request may send back."""
        return await loaded.runner.worker.running.tokenize(text)

    async def _completion(self, loaded: Loaded, prompt: str) -> dict[str, Json]:
        """The request to the worker, made anew from checked values; nothing of the client's is passed on as it is."""
        sampling, num_ctx, body = loaded.sampling, loaded.runner.num_ctx, loaded.body
        form = output_format(body)
        images = _images(body, chat=loaded.chat)
        maker = PromptMaker(loaded.model, loaded.runner.worker.running, num_ctx)
        text: Json = prompt
        if images:
            text = {"prompt_string": _MARKER * len(images) + prompt, "multimodal_data": images}
        elif loaded.truncate:
            shift = loaded.runner.launch.shift
            text = cast(Json, await maker.within_context(prompt, sampling.num_keep, shift=shift))
        request: dict[str, Json] = {
            "prompt": text,
            "stream": True,
            "cache_prompt": True,
            "return_progress": True,
            "n_predict": prediction_limit(sampling.num_predict, num_ctx),
            **_sampling(sampling, num_ctx),
        }
        if body.get("logprobs") is True:
            top = body.get("top_logprobs")
            request["n_probs"] = max(top if isinstance(top, int) else 0, 1)
        if form == "json":
            request["grammar"] = JSON_GRAMMAR
        elif isinstance(form, dict):
            check_schema(form)
            grammar = literal_grammar(form)
            request |= {"json_schema": form} if grammar is None else {"grammar": grammar}
        return request


def _sampling(sampling: Sampling, num_ctx: int) -> dict[str, Json]:
    """Sampling options within the ranges that llama.cpp can use."""
    return {
        "n_keep": max(-1, min(sampling.num_keep, num_ctx)),
        "temperature": max(0.0, min(sampling.temperature, 1e4)),
        "top_k": max(0, min(sampling.top_k, 2**31 - 1)),
        "top_p": max(0.0, min(sampling.top_p, 1.0)),
        "min_p": max(0.0, min(sampling.min_p, 1.0)),
        "typical_p": max(0.0, min(sampling.typical_p, 1.0)) or 1.0,
        "repeat_penalty": max(0.0, min(sampling.repeat_penalty, 100.0)) or 1.0,
        "repeat_last_n": num_ctx if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, num_ctx),
        "frequency_penalty": max(-100.0, min(sampling.frequency_penalty, 100.0)),
        "presence_penalty": max(-100.0, min(sampling.presence_penalty, 100.0)),
        "seed": sampling.seed & 0xFFFFFFFF,
        "stop": list(sampling.stop),
    }


def _check_abilities(model: LocalModel, body: Mapping[str, Json], *, chat: bool) -> None:
    """What the model cannot do, in Ollama's words and order."""
    if not chat and body.get("raw") is True and (body.get("template") or body.get("system") or body.get("context")):
        raise BadRequest("raw mode does not support template, system, or context")
    name = quote_go(str(body.get("model")))
    if body.get("think") not in (None, False):
        raise BadRequest(f"{name} does not support thinking", "think")
    if "completion" not in model.capabilities:
        raise BadRequest(f"{name} does not support {'chat' if chat else 'generate'}")
    if not chat and body.get("suffix") and "insert" not in model.capabilities:
        raise BadRequest(f"{model.name.full} does not support insert", "suffix")
    if chat and body.get("tools"):
        raise BadRequest(f"{model.name.full} does not support tools", "tools")


def _images(body: Mapping[str, Json], *, chat: bool) -> list[Json]:
    """Base64 images of a request; the worker of a model without a projector refuses them in its own words."""
    if not chat:
        images = body.get("images")
        return images if isinstance(images, list) else []
    messages = body.get("messages")
    return [
        image
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and isinstance(listed := message.get("images"), list)
        for image in listed
    ]
