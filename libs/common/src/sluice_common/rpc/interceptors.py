"""Layers around every RPC: request context, metrics, error mapping, authentication, scopes."""

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

from sluice_common.rpc.audit_trail import AuditTrail
from sluice_common.rpc.counting_context import CountingContext
from sluice_common.rpc.errors import client_is_gone, internal_error, to_sluice_error
from sluice_common.rpc.internal_services import InternalServices
from sluice_common.rpc.metadata_limit import MetadataLimit
from sluice_common.rpc.requests import RequestReading
from sluice_common.rpc.scope_check import ScopeCheck
from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_common.rpc.termination import REQUEST_ID_KEY, abort_with
from sluice_common.security.audit import RefusalSink
from sluice_common.security.authentication import Authenticator, is_key_withdrawn
from sluice_common.security.peers import INTERNAL_SERVICES
from sluice_common.security.refusals import ambiguous_credentials
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_common.telemetry.tracing import receive_traceparent, trace_id_of
from sluice_core.access.principal import set_principal
from sluice_core.concurrency.cancellation import forget_frames
from sluice_core.errors import SluiceError

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")

PUBLIC_SERVICES: Final = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""Services without authentication: probes have no credentials, and the contract is public."""
_WITHOUT_TOKEN: Final = PUBLIC_SERVICES | INTERNAL_SERVICES

_LASTING_KINDS: Final = frozenset({"server_stream", "bidi_stream"})
"""Kinds of calls that may last for hours. A unary call ends at its own time limits, also
UploadChunk, which is registered as a stream of requests (ADR 0006)."""

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
        """Return the first value of a text header."""
        for key, value in self.metadata:
            if key == name and isinstance(value, str):
                return value
        return None


class Layer(Protocol):
    """A layer around the handler of every RPC."""

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        """Await `proceed(requests, context)` and return what it returns."""
        ...


class RequestContext:
    """Binds request_id and trace_id to every log line of the request, and echoes the request id.

    A client's request id is used if it is short and plain; any other is replaced, because it is
    logged.
    """

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        requested = call.header(REQUEST_ID_KEY)
        request_id = (
            requested if requested and _REQUEST_ID.fullmatch(requested) else secrets.token_hex(8)
        )
        bound = {"request_id": request_id}
        traceparent = call.header("traceparent") or ""
        receive_traceparent(traceparent)
        if trace_id := trace_id_of(traceparent):
            bound["trace_id"] = trace_id
        structlog.contextvars.bind_contextvars(**bound)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        return await proceed(requests, context)


class RpcMeasurement:
    """Counts RPCs, messages and durations under the grpc-ecosystem names.

    The status is the handler's: if a client cancels while the handler reads its stream, grpc.aio
    reports the end of the stream, and the outcome of the handler counts.
    """

    def __init__(self, metrics: RpcMetrics) -> None:
        # Cached per method: the lookup by labels costs more than the increment.
        self._of_method = cache(partial(_MethodMetrics, metrics))

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        metrics = self._of_method(call.kind, call.service, call.method)
        metrics.started.inc()
        received, sent = metrics.received.inc, metrics.sent.inc
        code = "CANCELLED"  # the status of a CancelledError
        began = time.perf_counter()
        try:
            answer = await proceed(requests, CountingContext(context, received, sent))
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
    """The instruments of one method."""

    def __init__(self, metrics: RpcMetrics, kind: str, service: str, method: str) -> None:
        labels = (kind, service, method)
        self.started = metrics.started.labels(*labels)
        self.received = metrics.received.labels(*labels)
        self.sent = metrics.sent.labels(*labels)
        self.seconds = metrics.seconds.labels(*labels)
        self.handled = cache(partial(metrics.handled.labels, *labels))


class ErrorMapping:
    """Maps exceptions of handlers to the status of the contract.

    A defect is logged with its traceback and reported as INTERNAL without its text, which could
    contain anything.
    """

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        try:
            return await proceed(requests, context)
        except grpc.aio.AbortError:  # an inner layer has sent a status
            raise
        except Exception as error:
            if client_is_gone(error):
                # No one receives a status; for grpc.aio and the metrics the call is cancelled.
                raise asyncio.CancelledError from error
            reported = to_sluice_error(error)
            if reported is None:
                _log.exception("rpc.defect", service=call.service, method=call.method)
                reported = internal_error()
            elif reported.log_detail:
                # The caller does not receive the detail; this line is its only record.
                _log.warning(
                    "rpc.failed",
                    service=call.service,
                    method=call.method,
                    reason=reported.reason,
                    detail=reported.log_detail,
                )
            await abort_with(context, reported)


class Authentication:
    """Sets the principal of every request, or refuses it; ends streams whose token has expired."""

    def __init__(
        self, authenticator: Authenticator, metrics: RpcMetrics, expiry: StreamExpiry | None = None
    ) -> None:
        self._authenticator = authenticator
        self._accepted = metrics.auth_accepted.inc
        self._refused = metrics.auth_refused
        self._expired_streams = metrics.auth_expired_streams.inc
        self._expiry = expiry or StreamExpiry()

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        if call.service in _WITHOUT_TOKEN:
            return await proceed(requests, context)
        try:
            header = _authorization_of(call)
            principal = await self._authenticator.authenticate(header)
        except SluiceError as error:
            self._refused.labels(error.reason).inc()
            raise
        self._accepted()
        set_principal(principal, header)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant)
        if principal.expires_at is None or call.kind not in _LASTING_KINDS:
            return await proceed(requests, context)
        withdrawn = partial(is_key_withdrawn, self._authenticator, principal)
        async with self._expiry.limit(principal.expires_at, self._expired_streams, withdrawn):
            return await proceed(requests, context)


def _authorization_of(call: Call) -> str | None:
    """Return the header; raise `Unauthenticated` AMBIGUOUS_CREDENTIALS for more than one."""
    headers = [value for key, value in call.metadata if key == "authorization"]
    if len(headers) > 1:
        raise ambiguous_credentials()
    header = headers[0] if headers else None
    return header.decode("ascii", "replace") if isinstance(header, bytes) else header


class LayeredInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # only in stubs
    """Puts layers around every handler of a server, the first one outermost.

    grpc.aio has four kinds of handlers, each as a coroutine or an async generator. All are
    converted to coroutines that write to their context, so that a layer is written once. The
    requests are read inside the innermost layer, so no layer sees a message. OpenTelemetry's
    interceptor stays outside; it learns the status from `abort`, which `ErrorMapping` calls.
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
        # grpc passes None for an unregistered method, and expects None back.
        handler = cast(
            "grpc.RpcMethodHandler[Any, Any] | None", await continuation(handler_call_details)
        )
        if handler is None:
            return cast("grpc.RpcMethodHandler[Any, Any]", handler)
        return self._surround(handler, handler_call_details)

    def _surround(
        self, handler: grpc.RpcMethodHandler[Any, Any], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        factory, behavior, kind = _decompose(handler)
        service, _, method = details.method.lstrip("/").rpartition("/")
        metadata = tuple(details.invocation_metadata or ())
        call = Call(service, method, kind, cast("Sequence[tuple[str, str | bytes]]", metadata))
        proceed = _as_coroutine(behavior) if handler.response_streaming else behavior
        proceed = self._reading.around(handler, proceed)
        for layer in reversed(self._layers):
            proceed = _enter(layer, call, proceed)
        proceed = _without_frame_cycles(proceed)
        return factory(
            _as_generator(proceed) if handler.response_streaming else proceed,
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )


def server_layers(
    metrics: RpcMetrics,
    authenticator: Authenticator,
    options: ServerOptions | None = None,
    peers: frozenset[str] = frozenset(),
    *,
    inner: Sequence[Layer] = (),
    refusals: RefusalSink | None = None,
    clock: Callable[[], float] = time.time,
) -> LayeredInterceptor:
    """Return the layers of every Sluice server, in the required order.

    Metrics see the mapped status; a refused credential is mapped and counted like any error.

    Args:
        peers: names of the services that may call `INTERNAL_SERVICES`; see `InternalServices`.
        inner: layers right inside of authentication, which know the principal.
        refusals: receives refused changes and refused tokens, for the audit log.
        clock: Unix seconds.
    """
    options = options or ServerOptions()
    expiry = StreamExpiry(options.stream_grace_seconds, clock=clock)
    layers = _outer_layers(metrics, options)
    if refusals is not None:
        layers.append(AuditTrail(refusals, clock=clock))
    if peers:
        layers.append(InternalServices(peers))
    layers += [Authentication(authenticator, metrics, expiry), *inner, ScopeCheck()]
    return LayeredInterceptor(layers, _reading(metrics, options))


def admin_layers(metrics: RpcMetrics, options: ServerOptions) -> LayeredInterceptor:
    """Return the layers of an admin server, whose address needs no credentials."""
    return LayeredInterceptor(_outer_layers(metrics, options), _reading(metrics, options))


def _outer_layers(metrics: RpcMetrics, options: ServerOptions) -> list[Layer]:
    limit = MetadataLimit(options.max_metadata_bytes)
    return [RequestContext(), RpcMeasurement(metrics), ErrorMapping(), limit]


def _reading(metrics: RpcMetrics, options: ServerOptions) -> RequestReading:
    return RequestReading(options, lambda why: metrics.refused_messages.labels(why).inc())


def _decompose(
    handler: grpc.RpcMethodHandler[Any, Any],
) -> tuple[Callable[..., grpc.RpcMethodHandler[Any, Any]], Behavior, str]:
    """Return the factory for a stream of requests, the behaviour and the kind of a handler."""
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, _set(handler.stream_stream), "bidi_stream"
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler, _set(handler.stream_unary), "client_stream"
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler, _set(handler.unary_stream), "server_stream"
    return grpc.stream_unary_rpc_method_handler, _set(handler.unary_unary), "unary"


def _set(behavior: Behavior | None) -> Behavior:
    if behavior is None:
        raise TypeError("The handler has no behaviour of its kind.")
    return behavior


def _as_coroutine(behavior: Behavior) -> Proceed:
    """Convert a streaming handler, coroutine or generator, to a coroutine that writes."""

    async def run(requests: Any, context: Any) -> None:
        answer = behavior(requests, context)
        del requests  # only the handler keeps its request alive
        if inspect.isawaitable(answer):
            await answer
            return
        # A cancelled write must close the generator now, not at garbage collection.
        async with aclosing(answer) as messages:
            async for message in messages:
                await context.write(message)

    return run


def _enter(layer: Layer, call: Call, proceed: Proceed) -> Proceed:
    async def run(requests: Any, context: Any) -> Any:
        return await layer.around(call, requests, context, proceed)

    return run


def _without_frame_cycles(proceed: Proceed) -> Proceed:
    """Break the error–frame cycles of a failed call, so that its memory is freed at once."""

    async def run(requests: Any, context: Any) -> Any:
        try:
            return await proceed(requests, context)
        except BaseException as error:
            forget_frames(error)
            raise

    return run


def _as_generator(proceed: Proceed) -> Behavior:
    """Convert a coroutine that writes to a generator that yields nothing.

    OpenTelemetry's interceptor supports no other form of a streaming handler.
    """

    async def handle(requests: Any, context: Any) -> AsyncIterator[Any]:
        await proceed(requests, context)
        nothing: tuple[Any, ...] = ()
        for message in nothing:
            yield message

    return handle


def _code_name(context: Any) -> str:
    """Return the status of the call; grpc.aio stores a number, 0 while none is set."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(code or 0, "UNKNOWN")


_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}
