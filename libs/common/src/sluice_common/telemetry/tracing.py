"""OpenTelemetry tracing across RPC, part and event, linked by W3C `traceparent` values."""

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
"""Time limit of an export with its retries: a dead collector must not delay a stop."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_TRACER: Final = trace.get_tracer("sluice")

_received: ContextVar[str] = ContextVar("sluice_traceparent", default="")


class Tracing:
    """The tracing of one process; create it with `start_tracing`. `close` sends the last spans."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider

    def interceptors(self) -> tuple[grpc.aio.ServerInterceptor[Any, Any], ...]:
        """Return the outermost interceptors of a gRPC server; none without tracing."""
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
        """Send the finished spans. Blocking."""
        if self._provider is not None:
            self._provider.force_flush()

    def close(self) -> None:
        """Send the remaining spans, within the exporter's time limit. Blocking."""
        if self._provider is not None:
            self._provider.shutdown()


def start_tracing(
    service: str,
    instance: str,
    endpoint: str | None,
    headers: str | None = None,
    exporter: SpanExporter | None = None,
) -> Tracing:
    """Set up tracing if there is an endpoint or an exporter.

    Otherwise spans are OpenTelemetry's no-ops, and a client's traceparent is still forwarded. The
    SDK is not imported then, which would take a third of the start time.

    Args:
        service, instance: names of this process in traces.
        endpoint: an OTLP/gRPC URL; http:// is sent in the clear.
        headers: `key=value,key=value`, e.g. a token of the collector.
        exporter: used instead of an endpoint.
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
    """Return the trace id in a traceparent; empty if it is malformed."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found.group(1) if found else ""


def receive_traceparent(traceparent: str) -> None:
    """Set the traceparent that the caller of the current request sent; ignore a malformed one."""
    _received.set(traceparent if trace_id_of(traceparent) else "")


def current_traceparent() -> str:
    """Return the traceparent to forward; empty outside of any trace."""
    if not trace.get_current_span().get_span_context().is_valid:
        return _received.get()
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


@contextmanager
def span(name: str, parent: str = "", **attributes: str | int) -> Iterator[Span]:
    """Open a span for work outside of an RPC.

    Args:
        parent: the traceparent of the work; empty means the current span.

    An exception that leaves it marks it as failed.
    """
    context: Context | None = None
    if parent:
        context = _PROPAGATOR.extract({"traceparent": parent})
    with _TRACER.start_as_current_span(
        name, context=context, kind=SpanKind.INTERNAL, attributes=attributes
    ) as current:
        yield current


def past_span(name: str, began: float, ended: float) -> None:
    """Record a span of the current trace for work that is done, in another process for example.

    Args:
        began, ended: seconds since the epoch.
    """
    _TRACER.start_span(name, start_time=int(began * 1e9)).end(end_time=int(ended * 1e9))


def _pairs(text: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in text.split(",") if "=" in entry)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}
