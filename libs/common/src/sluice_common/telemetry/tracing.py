"""Traces that follow a byte: RPC → part → event, joined by W3C `traceparent` values.

Without an OTLP endpoint nothing is set up: spans are OpenTelemetry's own no-ops, and a
traceparent that a client sent is still handed on, so that its own trace can continue behind us.
The SDK is not even imported then: that would be a third of the time to start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

EXPORT_SECONDS: Final = 3.0
"""An export takes no longer, retries included: a dead collector must not hold up a stop."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_TRACER: Final = trace.get_tracer("sluice")

_received: ContextVar[str] = ContextVar("sluice_traceparent", default="")


class Tracing:
    """What one process set up; `close` sends the last spans. Build it with `start_tracing`."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider

    def interceptors(self) -> tuple[grpc.aio.ServerInterceptor[Any, Any], ...]:
        """The outermost interceptors of a gRPC server; none when there is no tracing."""
        if self._provider is None:
            return ()
        from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters

        every_call_but_probes = filters.negate(filters.health_check())
        return (
            aio_server_interceptor(  # type: ignore[no-untyped-call]
                tracer_provider=self._provider, filter_=every_call_but_probes
            ),
        )

    def flush(self) -> None:
        """Send what is finished now. Blocks."""
        if self._provider is not None:
            self._provider.force_flush()

    def close(self) -> None:
        """Send what is left, within the exporter's own time limit. Blocks."""
        if self._provider is not None:
            self._provider.shutdown()


def start_tracing(
    service: str,
    instance: str,
    endpoint: str | None,
    headers: str | None = None,
    exporter: SpanExporter | None = None,
) -> Tracing:
    """Set up tracing when there is somewhere to send spans to.

    Args:
        service, instance: what a trace calls this process.
        endpoint: an OTLP/gRPC URL; http:// is sent in the clear.
        headers: `key=value,key=value`, e.g. a token of the collector.
        exporter: where spans go instead of an endpoint.
    """
    if exporter is None and endpoint is None:
        return Tracing(None)
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        assert endpoint is not None
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            insecure=endpoint.startswith("http://"),
            headers=_pairs(headers) if headers else None,
            timeout=EXPORT_SECONDS,
        )
    resource = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return Tracing(provider)


def trace_id_of(traceparent: str) -> str:
    """The trace id inside a traceparent; empty when it is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found.group(1) if found else ""


def receive_traceparent(traceparent: str) -> None:
    """Remember what the caller of the current request sent; anything malformed is ignored."""
    _received.set(traceparent if trace_id_of(traceparent) else "")


def current_traceparent() -> str:
    """The traceparent to hand on from here; empty outside of any trace."""
    if not trace.get_current_span().get_span_context().is_valid:
        return _received.get()
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


@contextmanager
def span(name: str, parent: str = "", **attributes: str | int) -> Iterator[Span]:
    """A span of work that no RPC surrounds.

    Args:
        parent: the traceparent that the work came with; without one, the current span is it.

    An exception that leaves it marks it as failed.
    """
    context: Context | None = None
    if parent:
        context = _PROPAGATOR.extract({"traceparent": parent})
    with _TRACER.start_as_current_span(
        name, context=context, kind=SpanKind.INTERNAL, attributes=attributes
    ) as current:
        yield current


def _pairs(text: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in text.split(",") if "=" in entry)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}
