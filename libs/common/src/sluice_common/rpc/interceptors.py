"""What surrounds every RPC, from the outside in: request context, metrics, errors, authentication.

grpc.aio knows four kinds of handlers, each as a coroutine or as an async generator. They are
brought into one shape first (a coroutine that writes to its context), so that a layer is written
once. OpenTelemetry's interceptor, when it is on, stands outside of all this: it learns a status
from `abort`, which the error layer calls.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Protocol, cast

import grpc
import grpc.aio
import structlog

from sluice_common.rpc.errors import (
    client_is_gone,
    internal_error,
    to_sluice_error,
)
from sluice_common.rpc.refusing import REQUEST_ID_KEY, abort_with
from sluice_common.rpc.requests import RequestReading
from sluice_common.security.authentication import Authenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import receive_traceparent, trace_id_of
from sluice_core.access.principal import set_principal
from sluice_core.concurrency.cancellation import forget_frames
from sluice_core.errors import Unauthenticated

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")

PUBLIC_SERVICES: Final = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""Answer without credentials: probes have none, and the wire contract is no secret."""

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs know its type only

_log = structlog.get_logger(__name__)

# The request or the iterator of requests, the context, and what the handler returns are of the
# types that the service's own deserializer and serializer settle.
Behavior = Callable[[Any, Any], Any]
Proceed = Callable[[Any, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC in progress, as the layers see it."""

    service: str
    method: str
    kind: str
    metadata: Sequence[tuple[str, str | bytes]]

    def header(self, name: str) -> str | None:
        """The first value of a text header."""
        for key, value in self.metadata:
            if key == name and isinstance(value, str):
                return value
        return None


class Layer(Protocol):
    """Something that surrounds the handler of every RPC."""

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        """Await `proceed(requests, context)` and return what it returns."""
        ...


class RequestContext:
    """Binds request_id and trace_id to every log line of the request, and echoes the request id.

    A request id that a client made up is taken when it is short and plain; anything else is
    replaced, because it ends up in logs.
    """

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        asked = call.header(REQUEST_ID_KEY)
        request_id = asked if asked and _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        bound = {"request_id": request_id}
        traceparent = call.header("traceparent") or ""
        receive_traceparent(traceparent)
        if trace_id := trace_id_of(traceparent):
            bound["trace_id"] = trace_id
        structlog.contextvars.bind_contextvars(**bound)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        return await proceed(requests, context)


class RpcMetrics:
    """Counts RPCs, their messages and their time under the grpc-ecosystem names.

    The status is the handler's: a client that cancels while the handler reads its stream looks
    to grpc.aio like the end of that stream, and counts as whatever the handler makes of it.
    """

    def __init__(self, metrics: Metrics) -> None:
        # Found once per method: looking a metric up by its labels costs more than counting.
        self._of_method = cache(partial(_MethodMetrics, metrics))

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        metrics = self._of_method(call.kind, call.service, call.method)
        metrics.started.inc()
        received, sent = metrics.received.inc, metrics.sent.inc
        code = "CANCELLED"  # what a CancelledError that passes through here amounts to
        began = time.perf_counter()
        try:
            answer = await proceed(requests, _CountingContext(context, received, sent))
            code = _code_name(context)
            if call.kind in ("unary", "client_stream") and code == "OK":
                sent()
            return answer
        except grpc.aio.AbortError:
            code = _code_name(context)
            raise
        finally:
            metrics.seconds.observe(time.perf_counter() - began)
            metrics.handled(code).inc()


class _MethodMetrics:
    """What is counted of one method."""

    def __init__(self, metrics: Metrics, kind: str, service: str, method: str) -> None:
        labels = (kind, service, method)
        self.started = metrics.rpc_started.labels(*labels)
        self.received = metrics.rpc_received.labels(*labels)
        self.sent = metrics.rpc_sent.labels(*labels)
        self.seconds = metrics.rpc_seconds.labels(*labels)
        self.handled = cache(partial(metrics.rpc_handled.labels, *labels))


class ErrorMapping:
    """Turns what a handler raises into the status that the contract promises.

    A defect of ours is logged with its traceback and leaves as INTERNAL, without its text: that
    could hold anything.
    """

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        try:
            return await proceed(requests, context)
        except grpc.aio.AbortError:  # somebody below has answered already
            raise
        except Exception as error:
            if client_is_gone(error):
                # Nobody hears an answer; to grpc.aio and to the metrics this call is cancelled.
                raise asyncio.CancelledError from error
            told = to_sluice_error(error)
            if told is None:
                _log.exception("rpc.defect", service=call.service, method=call.method)
                told = internal_error()
            elif told.log_detail:
                # The caller gets none of it, so this line is all that an operator has.
                _log.warning(
                    "rpc.failed",
                    service=call.service,
                    method=call.method,
                    reason=told.reason,
                    detail=told.log_detail,
                )
            await abort_with(context, told)


class Authentication:
    """Sets the principal of every request, or refuses it."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        if call.service not in PUBLIC_SERVICES:
            headers = [value for key, value in call.metadata if key == "authorization"]
            if len(headers) > 1:
                # Two proxies may each believe another one of them.
                raise Unauthenticated(
                    "AMBIGUOUS_CREDENTIALS", "Send exactly one authorization header."
                )
            header = headers[0] if headers else None
            principal = await self._authenticator.authenticate(
                header.decode("ascii", "replace") if isinstance(header, bytes) else header
            )
            set_principal(principal)
            structlog.contextvars.bind_contextvars(tenant=principal.tenant)
        return await proceed(requests, context)


class LayeredInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # only in stubs
    """Puts layers around every handler of a server, the first one outermost.

    Inside of all of them the request is read: to gRPC every method is a stream of requests, and
    no layer sees a message.
    """

    def __init__(self, layers: Sequence[Layer], reading: RequestReading) -> None:
        self._layers = tuple(layers)
        self._reading = reading

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        # grpc gives None for a method that nobody registered, and wants it back.
        handler = cast(
            "grpc.RpcMethodHandler[Any, Any] | None", await continuation(handler_call_details)
        )
        if handler is None:
            return cast("grpc.RpcMethodHandler[Any, Any]", handler)
        return self._surround(handler, handler_call_details)

    def _surround(
        self, handler: grpc.RpcMethodHandler[Any, Any], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        factory, behavior, kind = _taken_apart(handler)
        service, _, method = details.method.lstrip("/").rpartition("/")
        metadata = tuple(details.invocation_metadata or ())
        call = Call(service, method, kind, cast("Sequence[tuple[str, str | bytes]]", metadata))
        proceed = _as_coroutine(behavior) if handler.response_streaming else behavior
        proceed = self._reading.around(handler, proceed)
        for layer in reversed(self._layers):
            proceed = _enter(layer, call, proceed)
        proceed = _forgetting(proceed)
        return factory(
            _as_generator(proceed) if handler.response_streaming else proceed,
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )


def server_layers(
    metrics: Metrics, authenticator: Authenticator, options: ServerOptions | None = None
) -> LayeredInterceptor:
    """The layers of every Sluice server, in the one order that is right.

    Metrics see the mapped status; a refused credential is mapped and counted like any error.
    """
    return LayeredInterceptor(
        (RequestContext(), RpcMetrics(metrics), ErrorMapping(), Authentication(authenticator)),
        _reading(metrics, options),
    )


def admin_layers(metrics: Metrics, options: ServerOptions) -> LayeredInterceptor:
    """The layers of a server for operators, who need no credentials on its address."""
    return LayeredInterceptor(
        (RequestContext(), RpcMetrics(metrics), ErrorMapping()), _reading(metrics, options)
    )


def _reading(metrics: Metrics, options: ServerOptions | None) -> RequestReading:
    return RequestReading(
        options or ServerOptions(), lambda reason: metrics.refused_messages.labels(reason).inc()
    )


class _CountingContext:
    """The servicer context; `read` and `write` are counted, all else is the original's."""

    __slots__ = ("_context", "_read", "_received", "_sent", "_write")

    def __init__(
        self, context: Any, received: Callable[[], None], sent: Callable[[], None]
    ) -> None:
        self._context = context
        # Bound once: under OpenTelemetry the context is a proxy with a slow attribute lookup.
        self._read = context.read
        self._write = context.write
        self._received = received
        self._sent = sent

    async def read(self) -> Any:
        message = await self._read()
        if message is not _EOF:
            self._received()
        return message

    async def write(self, message: Any) -> None:
        await self._write(message)
        self._sent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _taken_apart(
    handler: grpc.RpcMethodHandler[Any, Any],
) -> tuple[Callable[..., grpc.RpcMethodHandler[Any, Any]], Behavior, str]:
    """The factory of its kind that takes a stream of requests, its behaviour, and its kind."""
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, _set(handler.stream_stream), "bidi_stream"
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler, _set(handler.stream_unary), "client_stream"
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, _set(handler.unary_stream), "server_stream"
    return grpc.stream_unary_rpc_method_handler, _set(handler.unary_unary), "unary"


def _set(behavior: Behavior | None) -> Behavior:
    if behavior is None:
        raise TypeError("A handler lacks the behaviour of its own kind.")
    return behavior


def _as_coroutine(behavior: Behavior) -> Proceed:
    """A streaming handler, be it a coroutine or a generator, as a coroutine that writes."""

    async def run(requests: Any, context: Any) -> None:
        answer = behavior(requests, context)
        del requests  # the handler alone decides how long its request lives
        if inspect.isawaitable(answer):
            await answer
            return
        # A cancelled write must end the generator now, not when it is collected.
        async with aclosing(answer) as messages:
            async for message in messages:
                await context.write(message)

    return run


def _enter(layer: Layer, call: Call, proceed: Proceed) -> Proceed:
    async def run(requests: Any, context: Any) -> Any:
        return await layer.around(call, requests, context, proceed)

    return run


def _forgetting(proceed: Proceed) -> Proceed:
    """A call that fails or is cancelled is gone when it has ended, with all that it had in hand."""

    async def run(requests: Any, context: Any) -> Any:
        try:
            return await proceed(requests, context)
        except BaseException as error:
            forget_frames(error)
            raise

    return run


def _as_generator(proceed: Proceed) -> Behavior:
    """A coroutine that writes, as a generator that yields nothing: the one shape of a streaming
    handler that OpenTelemetry's interceptor can surround."""

    async def handle(requests: Any, context: Any) -> AsyncIterator[Any]:
        await proceed(requests, context)
        nothing: tuple[Any, ...] = ()
        for message in nothing:
            yield message

    return handle


def _code_name(context: Any) -> str:
    """The status that the call ends with; grpc.aio keeps it as a number, 0 while none is set."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(code or 0, "UNKNOWN")


_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}
