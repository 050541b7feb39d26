"""A service with every kind and shape of handler behind `server_layers`, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog

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

SERVICE = "test.Echo"


def boom() -> None:
    raise NotFound("NO_SUCH_THING", "There is no such thing.", metadata={"thing": "7"})


async def echo(request: bytes, context: Any) -> bytes:
    """Answer the request itself, or do what it names."""
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
    """Serve all handlers, by default without authentication, and yield a channel to them."""
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
