"""Spans that an OTLP collector has received, as a tree; and a client that makes its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from support.span_collector import SpanCollector
from support.wire import CHANNEL_OPTIONS

CLIENT: Final = "the application"
"""Service name of the client's spans."""
EXPORT_AT_ONCE: Final = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Settings of a process whose spans a test waits for."""


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A finished span; `parent_id` is empty for a root."""

    name: str
    service: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    is_error: bool


def received(collector: SpanCollector) -> list[ReceivedSpan]:
    """Return all spans: messages of Protobuf that follow each other are one with all items."""
    message = ExportTraceServiceRequest.FromString(collector.spans)
    return [
        ReceivedSpan(
            span.name,
            _service(exported.resource.attributes),
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.status.code == span.status.STATUS_CODE_ERROR,
        )
        for exported in message.resource_spans
        for scope in exported.scope_spans
        for span in scope.spans
    ]


def paths(spans: list[ReceivedSpan]) -> Iterator[tuple[str, ...]]:
    """Yield for each span the names from its root to it.

    Raise KeyError for a span whose parent was not received.
    """
    by_id: Mapping[bytes, ReceivedSpan] = {span.span_id: span for span in spans}
    for span in spans:
        path = [named(span)]
        while span.parent_id:
            span = by_id[span.parent_id]
            path.append(named(span))
        yield tuple(reversed(path))


def named(span: ReceivedSpan) -> str:
    """Return service and name, without the package of a method."""
    return f"{span.service}: {span.name.rpartition('/')[2]}"


@contextmanager
def client_tracing(collector: SpanCollector) -> Iterator[TracerProvider]:
    """Trace an application that calls Sluice, as its owner would set it up."""
    provider = TracerProvider(resource=Resource.create({"service.name": CLIENT}))
    exporter = OTLPSpanExporter(endpoint=collector.endpoint, insecure=True)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield provider
    finally:
        provider.shutdown()


@asynccontextmanager
async def traced_channel(address: str, provider: TracerProvider) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel whose calls have spans and carry their traceparent."""
    interceptors: Any = aio_client_interceptors(tracer_provider=provider)  # type: ignore[no-untyped-call]
    async with grpc.aio.insecure_channel(
        address, options=CHANNEL_OPTIONS, interceptors=interceptors
    ) as channel:
        yield channel


def _service(attributes: Any) -> str:
    return next((one.value.string_value for one in attributes if one.key == "service.name"), "")
