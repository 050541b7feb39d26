"""The layers around every RPC, over a real server, for all kinds and shapes of handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import Health, build_server, listen
from sluice_common.security.authentication import Authenticator, LocalAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.access.principal import current_principal
from sluice_core.addresses import Address
from sluice_core.errors import FailedPrecondition, NotFound, SluiceError
from support.sending import send_all
from support.token_authenticator import TokenAuthenticator
from support.waiting import until

SERVICE = "test.Echo"


def boom() -> None:
    raise NotFound("NO_SUCH_THING", "There is no such thing.", metadata={"thing": "7"})


async def echo(request: bytes, context: Any) -> bytes:
    match request:
        case b"refuse":
            boom()
        case b"defect":
            raise ZeroDivisionError("the secret is hunter2")
        case b"slow":
            raise TimeoutError
        case b"group":
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_later())
        case b"wait":
            await asyncio.Event().wait()
        case b"abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        case b"who":
            return f"{current_principal().tenant}/{current_principal().subject}".encode()
        case b"bound":
            return repr(sorted(structlog.contextvars.get_contextvars().items())).encode()
    return request


async def fail_later() -> None:
    raise FailedPrecondition("NOT_YET", "Another call has to come first.")


async def repeat_generator(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield await echo(request, context)


async def repeat_writer(request: bytes, context: Any) -> None:
    for _ in range(3):
        await context.write(await echo(request, context))


async def join_iterator(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([await echo(request, context) async for request in requests])


async def join_reader(_: Any, context: Any) -> bytes:
    got = []
    while (request := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        got.append(await echo(request, context))
    return b"".join(got)


async def talk_generator(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield await echo(request, context)


async def talk_reader_writer(_: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        await context.write(await echo(request, context))


async def flood_from_a_group(request: bytes, context: Any) -> None:
    async def flood() -> None:
        while True:
            await context.write(request)

    async with asyncio.TaskGroup() as group:
        group.create_task(flood())


def upper(data: bytes) -> bytes:
    return data.upper()


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Custom": grpc.unary_unary_rpc_method_handler(echo, upper, upper),
    "RepeatGenerator": grpc.unary_stream_rpc_method_handler(repeat_generator),
    "RepeatWriter": grpc.unary_stream_rpc_method_handler(repeat_writer),
    "Flood": grpc.unary_stream_rpc_method_handler(flood_from_a_group),
    "JoinIterator": grpc.stream_unary_rpc_method_handler(join_iterator),
    "JoinReader": grpc.stream_unary_rpc_method_handler(join_reader),
    "TalkGenerator": grpc.stream_stream_rpc_method_handler(talk_generator),
    "TalkReaderWriter": grpc.stream_stream_rpc_method_handler(talk_reader_writer),
}
KINDS = {
    "Echo": ("unary", 1, 1),
    "RepeatGenerator": ("server_stream", 1, 3),
    "RepeatWriter": ("server_stream", 1, 3),
    "JoinIterator": ("client_stream", 2, 1),
    "JoinReader": ("client_stream", 2, 1),
    "TalkGenerator": ("bidi_stream", 2, 2),
    "TalkReaderWriter": ("bidi_stream", 2, 2),
}
"""Method → kind, messages received, messages sent by one `call` of it."""


@asynccontextmanager
async def serving(
    metrics: RpcMetrics,
    authenticator: Authenticator | None = None,
    outermost: tuple[grpc.aio.ServerInterceptor[Any, Any], ...] = (),
    options: ServerOptions | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    layers = server_layers(metrics, authenticator or LocalAuthenticator())
    server = build_server(options or ServerOptions(), (*outermost, layers))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    health = Health()
    health.add_to(server)
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            yield channel
    finally:
        await server.stop(None)


async def call(
    channel: grpc.aio.Channel,
    method: str,
    request: bytes = b"x",
    metadata: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Call any of the methods; streaming requests are sent twice, answers are joined.

    Requests are written by `send_all`: a grpc.aio client that writes while the status arrives
    would report INTERNAL in its place (https://github.com/grpc/grpc/issues/36066).
    """
    opened: Any = channel  # its stubs require serializers
    path = f"/{SERVICE}/{method}"
    kind = KINDS.get(method, ("unary", 1, 1))[0]
    if kind == "unary":
        return bytes(await opened.unary_unary(path)(request, metadata=metadata))
    if kind == "server_stream":
        answers = opened.unary_stream(path)(request, metadata=metadata)
        return b"".join([answer async for answer in answers])
    streaming = opened.stream_unary if kind == "client_stream" else opened.stream_stream
    stream = streaming(path)(metadata=metadata)
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(stream, [request, request]))
        if kind == "client_stream":
            return bytes(await stream)
        return b"".join([answer async for answer in stream])


async def refusal(
    channel: grpc.aio.Channel,
    method: str,
    request: bytes,
    metadata: tuple[tuple[str, str], ...] = (),
) -> SluiceError:
    """Return the refusal of a call whose client keeps sending."""
    with pytest.raises((grpc.aio.AioRpcError, ExceptionGroup)) as caught:
        await call(channel, method, request, metadata)
    error: BaseException = caught.value
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, grpc.aio.AioRpcError)
    return from_rpc_error(error)


def sample(metrics: RpcMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


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


async def test_without_keys_every_request_is_local() -> None:
    async with serving(RpcMetrics()) as channel:
        assert await call(channel, "Echo", b"who") == b"default/local"


@pytest.mark.parametrize("method", KINDS)
async def test_a_request_without_credentials_is_refused(method: str) -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        error = await refusal(channel, method, b"x")
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")


async def test_principal_is_set_per_request_from_credentials() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        good = (("authorization", "Bearer good"),)
        assert await call(channel, "Echo", b"who", metadata=good) == b"acme/ann"
        assert (await refusal(channel, "Echo", b"who")).code == "UNAUTHENTICATED"


async def test_two_authorization_headers_are_refused() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        two = (("authorization", "Bearer good"), ("authorization", "Bearer good"))
        error = await refusal(channel, "Echo", b"who", metadata=two)
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "AMBIGUOUS_CREDENTIALS")


async def test_authentication_is_counted_by_reason() -> None:
    metrics = RpcMetrics()
    async with serving(metrics, TokenAuthenticator()) as channel:
        good = (("authorization", "Bearer good"),)
        await call(channel, "Echo", b"x", good)
        await refusal(channel, "Echo", b"x")
        await refusal(channel, "Echo", b"x", good + good)
    read = metrics.registry.get_sample_value
    assert read("sluice_auth_accepted_total") == 1
    for reason in ("BAD_CREDENTIALS", "AMBIGUOUS_CREDENTIALS"):
        assert read("sluice_auth_refused_total", {"reason": reason}) == 1


async def test_probes_need_no_credentials() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert await check(b"") == b"\x08\x01"  # status: SERVING


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
