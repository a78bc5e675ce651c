"""A collector of traces over OTLP/HTTP, in protobuf (https://opentelemetry.io/docs/specs/otlp/#otlphttp).

By OTLP's own messages and our HTTP client. The messages are loaded with the first spans: 24 ms and 4 MB that nobody
pays who exports nothing. OpenTelemetry's SDK and exporter would be 108 ms, 9 MB, a thread, and a second way to HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app import __version__
from app.backends.delivering import Poster
from app.core.exported_spans import Delivery, ExportedSpan, SpanValue

LATER = (429, 502, 503, 504)  # by the specification; every other refusal is for good
_SAMPLED = 0x01


class OtlpHttp:
    """`endpoint` is a collector's base address. Used in one event loop."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], service: str) -> None:
        self._url = endpoint.rstrip("/") + "/v1/traces"
        self._headers = {**headers, "content-type": "application/x-protobuf", "user-agent": f"loupe/{__version__}"}
        self._service = service
        self._poster = Poster("the collector", LATER)

    async def send(self, spans: Sequence[ExportedSpan]) -> Delivery:
        body = await asyncio.to_thread(encode, spans, self._service)
        delivery, status = await self._poster.post(self._url, body, self._headers)
        if delivery.taken and status != 200:
            return Delivery(taken=False, why=f"the collector answered {status}")
        return delivery

    async def close(self) -> None:
        await self._poster.close()


def encode(spans: Sequence[ExportedSpan], service: str) -> bytes:
    """An ExportTraceServiceRequest."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _write(resource.resource.attributes, {"service.name": service, "service.version": __version__})
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "loupe", __version__
    for span in spans:
        _add(scope.spans.add(), span)
    encoded: bytes = request.SerializeToString()
    return encoded


def _add(message: Any, span: ExportedSpan) -> None:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    kinds = {"server": Span.SPAN_KIND_SERVER, "client": Span.SPAN_KIND_CLIENT, "internal": Span.SPAN_KIND_INTERNAL}
    message.trace_id, message.span_id = bytes.fromhex(span.trace_id), bytes.fromhex(span.span_id)
    message.parent_span_id = bytes.fromhex(span.parent_id)
    message.name, message.kind, message.trace_state = span.name, kinds[span.kind], span.state
    message.start_time_unix_nano, message.end_time_unix_nano = span.start_ns, span.end_ns
    message.flags = _SAMPLED
    if span.error is not None:
        message.status.code, message.status.message = Status.STATUS_CODE_ERROR, span.error
    _write(message.attributes, span.attributes)


def _write(attributes: Any, values: Mapping[str, SpanValue]) -> None:
    for name, value in values.items():
        told = attributes.add()
        told.key = name
        if isinstance(value, bool):
            told.value.bool_value = value
        elif isinstance(value, int):
            told.value.int_value = value
        elif isinstance(value, float):
            told.value.double_value = value
        elif isinstance(value, str):
            told.value.string_value = value
        else:
            for word in value:
                told.value.array_value.values.add().string_value = word
