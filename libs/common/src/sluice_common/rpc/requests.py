"""Reads the requests of a call: late, within limits, and as messages that hold nothing needless.

Every method is a stream of requests to gRPC here, also one that is unary in the .proto: on the wire
they are the same. A unary handler of grpc.aio is called with a message that has been received and
parsed already, whoever sent it and whatever it holds; this way a request is read only after its
caller is known, its size is checked before anything is made of it, and bytes that are no message
are an error of ours like any other, counted and without a traceback (ADR 0018).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from sluice_common.rpc.half_received import Connection, HalfReceived
from sluice_common.rpc.messages import (
    COMPRESSED_STARTS,
    RequestFormat,
    inflate,
    message_too_large,
    request_format,
)
from sluice_common.rpc.reading import shielded_read
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
"""What is counted as refused messages."""

_UNIMPLEMENTED: Final = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNIMPLEMENTED.value[0],
)
"""grpc.aio keeps a status as it was set, or as a number."""

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs know its type only

Proceed = Callable[[Any, Any], Awaitable[Any]]


class RequestReading:
    """Reads the requests of one server.

    Args:
        options: bounds.
        refused: counts a refused message, by its reason.
    """

    def __init__(self, options: ServerOptions, refused: Callable[[str], None]) -> None:
        self._options = options
        self._refused = refused
        self._half_received = HalfReceived(options)

    def around(self, handler: grpc.RpcMethodHandler[Any, Any], proceed: Proceed) -> Proceed:
        """What gives a handler its requests; itself called with a stream of wire bytes.

        Args:
            proceed: the handler, as it was registered.
        """
        form = request_format(handler.request_deserializer)
        half_received, refused = self._half_received, self._refused
        seconds = self._options.message_seconds if form.is_timed else math.inf
        streams = handler.request_streaming
        serve = _serve_stream if streams else _serve_one

        async def run(_: Any, context: Any) -> Any:
            connection = half_received.enter(context.peer())
            try:
                requests = Requests(context.read, form, connection, seconds, of_stream=streams)
                return await serve(requests, context, proceed)
            except SluiceError as error:
                if error.reason in MESSAGE_REASONS:
                    refused(error.reason)
                raise
            except NotImplementedError:
                # A servicer that lacks a method of its service has set the status already.
                if context.code() not in _UNIMPLEMENTED:
                    raise
                raise Unimplemented(
                    "METHOD_NOT_IMPLEMENTED", "This server does not have the method; use another."
                ) from None
            finally:
                half_received.leave(connection)

        return run


async def _serve_stream(requests: Requests, context: Any, proceed: Proceed) -> Any:
    return await proceed(requests, _ReadingContext(context, requests.read))


async def _serve_one(requests: Requests, context: Any, proceed: Proceed) -> Any:
    # In no variable: the handler alone decides how long its request lives.
    return await proceed(await requests.only(), context)


class Requests:
    """The messages of one call, read one at a time; also to be iterated over."""

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
        """The next message; EOF once the client has half-closed.

        Raises `InvalidArgument` MALFORMED_MESSAGE and what the format of the method raises,
        `ResourceExhausted` MESSAGE_TOO_LARGE and UNFINISHED_MESSAGES, `DeadlineExceeded`
        MESSAGE_STALLED when the first message does not arrive.
        """
        form, connection = self._form, self._connection
        pending = connection.begin_read(form.max_bytes, self._seconds, of_stream=self._of_stream)
        wire: Any = await shielded_read(self._read(), connection.pending, pending)
        if wire is _EOF:
            return wire
        # From the second message on, the clock is the handler's: it knows what it waits for.
        self._seconds = math.inf
        connection.delivered_bytes += len(wire)
        if len(wire) > form.max_bytes:
            raise message_too_large(form.max_bytes)
        if wire and wire[0] in COMPRESSED_STARTS:
            wire = await inflate(wire, form.max_bytes)
        return form.parse(wire)

    async def only(self) -> Any:
        """The message of a call that has one. `InvalidArgument` NO_MESSAGE without one."""
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
    """The servicer context of a handler that reads for itself; all but `read` is the original's."""

    __slots__ = ("_context", "read", "write")

    def __init__(self, context: Any, read: Callable[[], Awaitable[Any]]) -> None:
        self._context = context
        self.read = read
        # Bound once: it is called for every answer.
        self.write = context.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
