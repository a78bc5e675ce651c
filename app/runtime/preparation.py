"""What a worker is to be asked: the prompt of a request, or the messages of a chat that the worker renders itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.runtime.generation import Loaded
from app.runtime.prompt_bounds import check_size
from app.runtime.prompts import Message, PromptMaker, chat_messages, generate_messages
from app.runtime.templates.go_errors import GoTemplateError
from app.runtime.templates.go_template import parse as parse_template
from app.runtime.tool_shapes import images_of
from app.wire.requests import UnusableSetting


@dataclass(frozen=True, slots=True)
class Prepared:
    """`prompt` is None where the worker renders `messages` with the model file's own template. `images` are base64."""

    messages: Sequence[Message]
    prompt: str | None
    images: list[str]


def maker_for(loaded: Loaded) -> PromptMaker:
    runner = loaded.runner
    return PromptMaker(loaded.model, runner.worker.running, runner.num_ctx, tools=loaded.tools, think=loaded.think)


async def prepare(loaded: Loaded) -> Prepared:
    """Raises `UnusableSetting` (500, as Ollama does) for a template that cannot be read or executed, and
    `HostRefused` with what the worker's renderer has to say."""
    try:
        return await _prepared(loaded)
    except GoTemplateError as error:
        raise UnusableSetting(error.message, "template") from error


async def _prepared(loaded: Loaded) -> Prepared:
    body = loaded.body
    if not loaded.chat:
        check_size(*(body.get(name) for name in ("prompt", "system", "suffix", "template")))
        prompt = await _generate_prompt(loaded)
        return Prepared((), prompt, images_of([body]))
    maker, given = maker_for(loaded), cast(list[Message], body.get("messages"))
    check_size(*(message.get("content") for message in given))
    messages = chat_messages(loaded.model, given)
    if loaded.model.native:
        fitted = await maker.fitting(messages, truncate=loaded.truncate)
        return Prepared(fitted.messages, None, images_of(fitted.messages))
    prompt, images = await maker.prompt(messages, truncate=loaded.truncate)
    return Prepared(messages, prompt, images)


async def _generate_prompt(loaded: Loaded) -> str:
    body, maker = loaded.body, maker_for(loaded)
    if loaded.raw:
        return str(body.get("prompt") or "")
    before = ""
    if isinstance(context := body.get("context"), list):
        tokens = [token for token in context if isinstance(token, int)]
        before = await loaded.runner.worker.running.detokenize(tokens)
    asked = body.get("template")
    template = parse_template(str(asked)) if asked else None
    if (suffix := body.get("suffix")) and (chosen := template or loaded.model.template):
        return before + chosen.render((), think=loaded.think, prompt=str(body.get("prompt")), suffix=str(suffix))
    messages = generate_messages(loaded.model, body)
    if template is not None:
        return before + await maker.render(messages, template=template)
    prompt, _ = await maker.prompt(messages, truncate=loaded.truncate)
    return before + prompt


async def prompt_text(loaded: Loaded, prepared: Prepared) -> str:
    """The whole prompt as text, for `_debug_render_only`."""
    if prepared.prompt is not None:
        return prepared.prompt
    return await maker_for(loaded).render(prepared.messages)
