"""A finished request as OpenTelemetry spans, under the names of its conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/: `gen_ai.*` where they have a word, `loupe.*` where they have none.
The request is a server's span named after what is done and by which model, an attempt at a host is a client's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from app.core.exported_spans import ExportedSpan, SpanValue
from app.core.generation import Json, Span
from app.core.trace_context import TraceContext, span_id
from app.services.request_trace import FinishedRequest, new_context
from app.services.span_tree import parents_of

_OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings", "embeddings": "embeddings"}
_OPTIONS = {
    "temperature": "gen_ai.request.temperature", "top_p": "gen_ai.request.top_p", "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed", "num_predict": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty", "presence_penalty": "gen_ai.request.presence_penalty",
}  # fmt: skip
_OTHERS = 1 << 20  # spans that no host was told of are numbered from here


def spans_of(record: FinishedRequest) -> list[ExportedSpan]:
    """The whole request and everything below it."""
    context = record.context or new_context()
    began = round(record.started_at * 1e9)
    root = ExportedSpan(
        context.trace_id, record.id, context.parent, _title(record), "server", began, _after(began, record.seconds),
        _about(record), None if record.status in ("ok", "cancelled") else record.error or record.status, context.state,
    )  # fmt: skip
    return [root, *_below(record, context, began)]


def _below(record: FinishedRequest, context: TraceContext, began: int) -> Iterator[ExportedSpan]:
    ids = list(_ids(record))
    for index, (span, parent) in enumerate(zip(record.spans, parents_of(record.spans), strict=True)):
        at_host = span.name == "host"
        failed = at_host and span.attributes.get("outcome") == "failed"
        yield ExportedSpan(
            context.trace_id, ids[index], record.id if parent is None else ids[parent],
            _title(record) if at_host else span.name, "client" if at_host else "internal",
            _after(began, span.start), _after(began, span.end), _of_layer(record, span),
            "the attempt failed" if failed else None, context.state,
        )  # fmt: skip


def _ids(record: FinishedRequest) -> Iterator[str]:
    """An attempt has the id that its host was told as its parent."""
    told: set[object] = set()
    for index, span in enumerate(record.spans):
        attempt = span.attributes.get("attempt") if span.name == "host" else None
        if isinstance(attempt, int) and attempt not in told:
            told.add(attempt)
            yield span_id(record.id, attempt)
        else:
            yield span_id(record.id, _OTHERS + index)


def _after(began: int, seconds: float) -> int:
    return began + round(seconds * 1e9)


def _title(record: FinishedRequest) -> str:
    return f"{_operation(record)} {record.model}"


def _operation(record: FinishedRequest) -> str:
    return _OPERATIONS.get(record.endpoint, record.endpoint)


def _about(record: FinishedRequest) -> dict[str, SpanValue]:
    told: dict[str, SpanValue] = {
        "gen_ai.operation.name": _operation(record), "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": record.route.alias if record.route else record.model,
        "gen_ai.response.model": record.model, "gen_ai.response.id": record.id,
        "loupe.principal": record.principal, "loupe.status": record.status,
        "loupe.cache.outcome": record.cache.outcome, "loupe.cache.reason": record.cache.reason,
        "loupe.cache.age": -1.0 if record.cache.age is None else record.cache.age,
        "loupe.request.client_id": record.client_id, "loupe.model.digest": record.digest, "loupe.host": record.host,
    }  # fmt: skip
    if record.cache.age is None:
        del told["loupe.cache.age"]
    if record.ttft is not None:
        told["loupe.time_to_first_token"] = record.ttft
    if record.usage is not None and record.cache.outcome != "hit":  # else somebody would count them twice
        told["gen_ai.usage.input_tokens"] = record.usage.prompt_tokens
        told["gen_ai.usage.output_tokens"] = record.usage.output_tokens
    if record.finish_reason:
        told["gen_ai.response.finish_reasons"] = (record.finish_reason,)
    if record.status != "ok":
        told["error.type"] = record.status
    told |= _options(record.options) | _words(record)
    return {name: value for name, value in told.items() if value != ""}


def _options(options: Mapping[str, Json]) -> dict[str, SpanValue]:
    return {
        _OPTIONS.get(name, f"loupe.option.{name}"): value
        for name, value in options.items()
        if isinstance(value, int | float)
    }


def _words(record: FinishedRequest) -> dict[str, SpanValue]:
    """Question and answer as the conventions have messages; only where they are kept."""
    told: dict[str, SpanValue] = {}
    if record.question:
        told["gen_ai.input.messages"] = _message("user", record.question)
    if record.answer:
        told["gen_ai.output.messages"] = _message("assistant", record.answer)
    return told


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def _of_layer(record: FinishedRequest, span: Span) -> dict[str, SpanValue]:
    told: dict[str, SpanValue] = {f"loupe.{name}": value for name, value in span.attributes.items()}
    if span.name == "host":
        told |= {"gen_ai.operation.name": _operation(record), "gen_ai.provider.name": "ollama"}
        told |= {"gen_ai.request.model": record.model}
    return told
