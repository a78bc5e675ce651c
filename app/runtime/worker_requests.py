"""Requests to a worker, made anew from checked values; nothing of a client's request is passed on as it came.

Source: protocol 2.7 and appendix A. Two ways of asking: /completion with a prompt that was made here, and
/v1/chat/completions, where the worker renders the model file's own template and parses the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.core.generation import Json
from app.runtime.options import OPEN_ENDED, Sampling, prediction_limit
from app.runtime.output_formats import JSON_GRAMMAR, check_schema, grammar_of
from app.runtime.tool_shapes import Message, worker_messages, worker_tools

_MARKER = "<__media__>"


def completion_request(
    prompt: str | list[int], sampling: Sampling, num_ctx: int, form: Json, *, images: Sequence[str] = ()
) -> dict[str, Json]:
    """`form` is None, "json" or a schema; `images` (base64) stand in the prompt as [img-0], [img-1], …

    Raises `HostRefused` (400) for a schema that cannot be held to.
    """
    text: Json = list(prompt) if isinstance(prompt, list) else prompt
    if images and isinstance(prompt, str):
        text = {"prompt_string": _with_markers(prompt, len(images)), "multimodal_data": list(images)}
    request: dict[str, Json] = {
        "prompt": text,
        "n_predict": prediction_limit(sampling.num_predict, num_ctx),
        **_always(sampling, num_ctx),
    }
    if form == "json":
        request["grammar"] = JSON_GRAMMAR
    elif isinstance(form, dict):
        check_schema(form)
        grammar = grammar_of(form)
        request |= {"json_schema": form} if grammar is None else {"grammar": grammar}
    return request


def chat_request(
    messages: Sequence[Message], tools: Json, think: bool | str | None, sampling: Sampling, num_ctx: int, form: Json
) -> dict[str, Json]:
    """A chat in the model file's own template. Raises `HostRefused` or `BadRequest` (400) for an unusable schema."""
    limit = OPEN_ENDED * num_ctx
    request = template_request(messages, tools, think) | _always(sampling, num_ctx)
    request["n_predict"] = limit if sampling.num_predict < 0 else min(sampling.num_predict, limit)
    if form == "json":
        request["response_format"] = {"type": "json_object"}
    elif isinstance(form, dict):
        check_schema(form)
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "schema", "schema": form}}
    return request


def template_request(messages: Sequence[Message], tools: Json, think: bool | str | None) -> dict[str, Json]:
    """What the model file's own template is rendered with."""
    request: dict[str, Json] = {"messages": worker_messages(messages)}
    if described := worker_tools(tools):
        request["tools"] = described
    if think is not None:
        effort: dict[str, Json] = {"reasoning_effort": think} if isinstance(think, str) else {}
        request["chat_template_kwargs"] = {"enable_thinking": bool(think)} | effort
    return request


def with_logprobs(request: dict[str, Json], body: Mapping[str, Json], *, chat: bool) -> dict[str, Json]:
    """`request` with the log-probabilities that `body` asks for, at least those of the chosen tokens."""
    if body.get("logprobs") is not True:
        return request
    asked = body.get("top_logprobs")
    top = max(asked if isinstance(asked, int) else 0, 1)
    return request | ({"logprobs": True, "top_logprobs": top} if chat else {"n_probs": top})


def special_token(mark: str) -> str:
    """The token at the beginning of a mark that a worker has to show, though it is a special one; "" for none.

    "[TOOL_CALLS] [" begins with one; a bare brace is none.
    """
    closing = {"[": "]", "<": ">"}.get(mark[:1])
    if mark in ("", "{", "["):
        return ""
    end = mark.find(closing, 1) if closing else -1
    return mark[: end + 1] if end > 0 else mark


def _with_markers(prompt: str, images: int) -> str:
    for number in range(images):
        prompt = prompt.replace(f"[img-{number}]", _MARKER, 1)
    return prompt


def _always(sampling: Sampling, num_ctx: int) -> dict[str, Json]:
    """Sampling options within the ranges that llama.cpp can use, and how the worker is to answer."""
    return {
        "stream": True,
        "cache_prompt": True,
        "return_progress": True,
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
