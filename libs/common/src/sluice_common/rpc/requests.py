"""Reading of request messages after authentication and within limits (ADR 0018)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from sluice_common.rpc.messages import (
    COMPRESSED_STARTS,
    RequestFormat,
    inflate,
    message_too_large,
    request_format,
)
from sluice_common.rpc.shielded_reads import shielded_read
from sluice_common.rpc.unfinished_messages import Connection, UnfinishedMessages
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.errors import InvalidArgument, SluiceError, Unimplemented

MESSAGE_REASONS: Final = frozenset(
    {
        "MALFORMED_MESSAGE",
        "MESSAGE_STALLED",
        "MESSAGE_TOO_LARGE",
        "NO_MESSAGE",
        "TOO_MANY_FIELDS",
        "UNFINISHED_MESSAGES",
    }
)
"""Reasons that count as refused messages."""

_UNIMPLEMENTED: Final = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNIMPLEMENTED.value[0],
)
"""grpc.aio stores a status as it was set, or as a number."""

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs know its type only

Proceed = Callable[[Any, Any], Awaitable[Any]]


class RequestReading:
    """Reads the requests of one server.

    To gRPC, every method is registered with a stream of requests, also one that is unary in the
    .proto; the wire format is the same. grpc.aio would receive and parse the message of a unary
    call before its handler runs. Here a message is read only after authentication, its size is
    checked before it is parsed, and invalid bytes raise a counted `SluiceError` without a
    traceback.

    Args:
        options: limits.
        refused: counts a refused message by its reason.
    """

    def __init__(self, options: ServerOptions, refused: Callable[[str], None]) -> None:
        self._options = options
        self._refused = refused
        self._unfinished = UnfinishedMessages(options)

    def around(self, handler: grpc.RpcMethodHandler[Any, Any], proceed: Proceed) -> Proceed:
        """Return a handler for a stream of wire bytes that passes messages to `proceed`.

        Args:
            proceed: the registered handler.
        """
        form = request_format(handler.request_deserializer)
        unfinished, refused = self._unfinished, self._refused
        seconds = self._options.message_seconds if form.is_timed else math.inf
        streams = handler.request_streaming
        serve = _serve_stream if streams else _serve_one

        async def run(_: Any, context: Any) -> Any:
            connection = unfinished.enter(context.peer())
            try:
                requests = Requests(context.read, form, connection, seconds, of_stream=streams)
                return await serve(requests, context, proceed)
            except SluiceError as error:
                if error.reason in MESSAGE_REASONS:
                    refused(error.reason)
                raise
            except NotImplementedError:
                # A servicer without the method has already set the status.
                if context.code() not in _UNIMPLEMENTED:
                    raise
                raise Unimplemented(
                    "METHOD_NOT_IMPLEMENTED",
                    "This server does not implement the method; use another server.",
                ) from None
            finally:
                unfinished.leave(connection)

        return run


async def _serve_stream(requests: Requests, context: Any, proceed: Proceed) -> Any:
    return await proceed(requests, _ReadingContext(context, requests.read))


async def _serve_one(requests: Requests, context: Any, proceed: Proceed) -> Any:
    # No variable here: only the handler keeps its request alive.
    return await proceed(await requests.only(), context)


class Requests:
    """Async iterator over the messages of one call."""

    __slots__ = ("_connection", "_form", "_of_stream", "_read", "_seconds")

    def __init__(
        self,
        read: Callable[[], Any],
        form: RequestFormat,
        connection: Connection,
        seconds: float,
        *,
        of_stream: bool,
    ) -> None:
        self._read = read
        self._form = form
        self._connection = connection
        self._seconds = seconds
        self._of_stream = of_stream

    async def read(self) -> Any:
        """Return the next message; EOF once the client has half-closed.

        Raise `InvalidArgument` MALFORMED_MESSAGE and what the format of the method raises,
        `ResourceExhausted` MESSAGE_TOO_LARGE and UNFINISHED_MESSAGES, `DeadlineExceeded`
        MESSAGE_STALLED if the first message does not arrive.
        """
        form, connection = self._form, self._connection
        pending = connection.begin_read(form.max_bytes, self._seconds, of_stream=self._of_stream)
        wire: Any = await shielded_read(self._read(), connection.pending, pending)
        if wire is _EOF:
            return wire
        # From the second message on, time limits are up to the handler.
        self._seconds = math.inf
        connection.delivered_bytes += len(wire)
        if len(wire) > form.max_bytes:
            raise message_too_large(form.max_bytes)
        if wire and wire[0] in COMPRESSED_STARTS:
            wire = await inflate(wire, form.max_bytes)
        return form.parse(wire)

    async def only(self) -> Any:
        """Return the message of a unary call. Raise `InvalidArgument` NO_MESSAGE without one."""
        message = await self.read()
        if message is _EOF:
            raise InvalidArgument("NO_MESSAGE", "The call has no request message; send one.")
        return message

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is _EOF:
            raise StopAsyncIteration
        return message


class _ReadingContext:
    """Servicer context with its own `read`; delegates everything else."""

    __slots__ = ("_context", "read", "write")

    def __init__(self, context: Any, read: Callable[[], Awaitable[Any]]) -> None:
        self._context = context
        self.read = read
        # Bound once: it is called for every response.
        self.write = context.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
