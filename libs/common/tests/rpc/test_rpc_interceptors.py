"""The layers around every RPC, over a real server, for all kinds and shapes of handlers."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.errors import NotFound
from support.echo_service import KINDS, SERVICE, call, refusal, sample, serving
from support.waiting import until


@pytest.mark.parametrize("method", KINDS)
async def test_every_kind_of_handler_answers(method: str) -> None:
    async with serving(RpcMetrics()) as channel:
        messages = {"unary": 1, "server_stream": 3, "client_stream": 2, "bidi_stream": 2}
        assert await call(channel, method) == b"x" * messages[KINDS[method][0]]


@pytest.mark.parametrize("method", KINDS)
async def test_every_kind_of_handler_is_counted(method: str) -> None:
    metrics = RpcMetrics()
    kind, received, sent = KINDS[method]
    labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": method}
    async with serving(metrics) as channel:
        await call(channel, method)
        await until(
            lambda: sample(metrics, "grpc_server_handled_total", **labels, grpc_code="OK") == 1
        )
        assert sample(metrics, "grpc_server_started_total", **labels) == 1
        assert sample(metrics, "grpc_server_msg_received_total", **labels) == received
        assert sample(metrics, "grpc_server_msg_sent_total", **labels) == sent
        assert sample(metrics, "grpc_server_handling_seconds_count", **labels) == 1
        await refusal(channel, method, b"refuse")
        await until(
            lambda: (
                sample(metrics, "grpc_server_handled_total", **labels, grpc_code="NOT_FOUND") == 1
            )
        )


@pytest.mark.parametrize("method", KINDS)
async def test_every_kind_of_handler_refuses_with_a_reason(method: str) -> None:
    async with serving(RpcMetrics()) as channel:
        error = await refusal(channel, method, b"refuse")
        assert isinstance(error, NotFound)
        assert (error.reason, dict(error.metadata)) == ("NO_SUCH_THING", {"thing": "7"})


@pytest.mark.parametrize("method", KINDS)
async def test_defect_is_logged_and_its_text_is_not_sent(method: str) -> None:
    async with serving(RpcMetrics()) as channel:
        with capture_logs() as logs:
            error = await refusal(channel, method, b"defect")
        assert (error.code, error.reason) == ("INTERNAL", "INTERNAL")
        assert "hunter2" not in error.message
        assert [(line["event"], line["method"]) for line in logs] == [("rpc.defect", method)]


async def test_errors_inside_a_task_group_keep_their_reason() -> None:
    async with serving(RpcMetrics()) as channel:
        assert (await refusal(channel, "Echo", b"group")).reason == "NOT_YET"


async def test_time_outs_are_deadlines() -> None:
    async with serving(RpcMetrics()) as channel:
        assert (await refusal(channel, "Echo", b"slow")).code == "DEADLINE_EXCEEDED"


async def test_a_status_set_by_hand_is_left_alone() -> None:
    async with serving(RpcMetrics()) as channel:
        error = await refusal(channel, "Echo", b"abort")
        assert (error.code, error.message) == ("DATA_LOSS", "by hand")


async def test_custom_serializers_of_a_handler_are_kept() -> None:
    async with serving(RpcMetrics()) as channel:
        assert await call(channel, "Custom", b"abc") == b"ABC"


async def test_call_cancelled_during_handling_counts_as_cancelled() -> None:
    metrics = RpcMetrics()
    labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Echo"}
    async with serving(metrics) as channel:
        pending = channel.unary_unary(f"/{SERVICE}/Echo", None, None)(b"wait")
        await until(lambda: sample(metrics, "grpc_server_started_total", **labels) == 1)
        pending.cancel()
        await until(
            lambda: (
                sample(metrics, "grpc_server_handled_total", **labels, grpc_code="CANCELLED") == 1
            )
        )


async def test_write_to_a_lost_client_is_no_defect() -> None:
    metrics = RpcMetrics()
    labels = {"grpc_type": "server_stream", "grpc_service": SERVICE, "grpc_method": "Flood"}
    async with serving(metrics) as channel:
        with capture_logs() as logs:
            for _ in range(10):
                flood = channel.unary_stream(f"/{SERVICE}/Flood", None, None)(b"x" * 60_000)
                assert await flood.read()
                flood.cancel()
            await until(
                lambda: (
                    sample(metrics, "grpc_server_handled_total", **labels, grpc_code="CANCELLED")
                    == 10
                )
            )
    assert logs == []


async def test_an_unknown_method_is_unimplemented() -> None:
    async with serving(RpcMetrics()) as channel:
        assert (await refusal(channel, "Nothing", b"x")).code == "UNIMPLEMENTED"


async def request_id_of(channel: grpc.aio.Channel, request: bytes, sent: str | None) -> str:
    metadata = (("x-request-id", sent),) if sent is not None else ()
    echoing = channel.unary_unary(f"/{SERVICE}/Echo", None, None)(request, metadata=metadata)
    trailers = dict(await echoing.trailing_metadata())
    return str(trailers["x-request-id"])


async def test_the_request_id_comes_back_on_success_and_on_failure() -> None:
    async with serving(RpcMetrics()) as channel:
        assert await request_id_of(channel, b"x", "abc-1") == "abc-1"
        assert await request_id_of(channel, b"refuse", "abc-2") == "abc-2"


@pytest.mark.parametrize("bad", ["", "x" * 65, 'a"b', "a b", None])
async def test_a_request_id_that_would_spoil_a_log_is_replaced(bad: str | None) -> None:
    async with serving(RpcMetrics()) as channel:
        got = await request_id_of(channel, b"x", bad)
        assert got not in ("", bad)
        assert len(got) == 16


async def test_log_lines_of_a_request_carry_its_ids() -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with serving(RpcMetrics()) as channel:
        headers = (
            ("x-request-id", "r1"),
            ("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),
        )
        bound = await call(channel, "Echo", b"bound", metadata=headers)
        expected = [("request_id", "r1"), ("tenant", "default"), ("trace_id", trace_id)]
        assert bound.decode() == repr(expected)


@pytest.mark.parametrize("method", KINDS)
async def test_opentelemetry_outside_sees_every_kind_with_its_status(method: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    outermost = (aio_server_interceptor(tracer_provider=provider),)  # type: ignore[no-untyped-call]
    async with serving(RpcMetrics(), outermost=outermost) as channel:
        await call(channel, method)
        await refusal(channel, method, b"defect")
        await until(lambda: len(exporter.get_finished_spans()) == 2)
    good, bad = exporter.get_finished_spans()
    assert good.name.endswith(f"{SERVICE}/{method}")
    assert good.status.status_code is not StatusCode.ERROR
    assert bad.status.status_code is StatusCode.ERROR
    assert (bad.attributes or {})["rpc.grpc.status_code"] == 13


async def test_too_much_metadata_is_resource_exhausted() -> None:
    async with serving(RpcMetrics()) as channel:
        error = await refusal(channel, "Echo", b"x", metadata=(("x-fill", "y" * 20_000),))
        assert error.code == "RESOURCE_EXHAUSTED"


async def test_too_large_a_message_is_resource_exhausted() -> None:
    async with serving(RpcMetrics(), options=ServerOptions(max_message_bytes=1000)) as channel:
        assert (await refusal(channel, "Echo", b"x" * 1001)).code == "RESOURCE_EXHAUSTED"
        assert await call(channel, "Echo", b"x" * 1000) == b"x" * 1000
