"""Tracing: linked by traceparents, and off without an endpoint."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from sluice_common.telemetry.tracing import (
    Tracing,
    current_traceparent,
    receive_traceparent,
    span,
    start_tracing,
    trace_id_of,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_without_an_endpoint_a_received_traceparent_is_handed_on() -> None:
    def request() -> None:
        receive_traceparent(PARENT)
        with span("part", parent=""):
            assert current_traceparent() == PARENT

    contextvars.copy_context().run(request)
    assert current_traceparent() == ""


@pytest.mark.parametrize("text", ["", "x", PARENT + "\n", PARENT.upper(), PARENT[:-1], "é" * 55])
def test_a_malformed_traceparent_is_as_good_as_none(text: str) -> None:
    def request() -> str:
        receive_traceparent(text)
        return current_traceparent()

    assert contextvars.copy_context().run(request) == ""
    assert trace_id_of(text) == ""


def test_without_an_endpoint_no_interceptor_is_in_the_way() -> None:
    tracing = start_tracing("sluice", "here", None)
    assert tracing.interceptors() == ()
    tracing.close()


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def tracing(exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    """Shared by all tests: OpenTelemetry allows one provider per process."""
    started = start_tracing("sluice", "here", None, exporter=exporter)
    yield started
    started.close()


def test_spans_follow_the_traceparent_from_one_to_the_next(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with span("part", parent=PARENT, upload_id="u1", part=3):
        handed_on = current_traceparent()
    assert trace_id_of(handed_on) == TRACE
    with span("event", parent=handed_on):
        pass
    tracing.flush()
    part, event = exporter.get_finished_spans()
    assert [part.name, event.name] == ["part", "event"]
    assert part.attributes == {"upload_id": "u1", "part": 3}
    assert part.resource.attributes["service.name"] == "sluice"
    assert part.parent is not None
    assert event.parent is not None
    assert format_trace_id(event.context.trace_id) == TRACE
    assert format_span_id(part.parent.span_id) == "b7ad6b7169203331"
    assert event.parent.span_id == part.context.span_id
    exporter.clear()


def test_an_error_marks_its_span(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ZeroDivisionError), span("part"):
        raise ZeroDivisionError
    tracing.flush()
    (failed,) = exporter.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    exporter.clear()


def test_with_tracing_rpcs_get_an_interceptor(tracing: Tracing) -> None:
    assert len(tracing.interceptors()) == 1
