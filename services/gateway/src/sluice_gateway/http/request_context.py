"""Outermost layer of every request: ids, trace, metrics, and the answer for errors."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_common.rpc.errors import internal_error, to_sluice_error
from sluice_common.security.audit import RefusalSink
from sluice_common.telemetry.tracing import (
    current_traceparent,
    receive_traceparent,
    span,
    trace_id_of,
)
from sluice_core.access.audit import MAX_PEER_CHARACTERS, Trail, begin_trail
from sluice_core.errors import InvalidArgument, PermissionDenied, SluiceError, Unauthenticated
from sluice_gateway.http.audited_refusals import refusal_entry
from sluice_gateway.http.problems import problem_response
from sluice_gateway.http.refusals import method_not_allowed, route_not_found
from sluice_gateway.metrics import HttpMetrics

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")
_RECORD: Final = "sluice.request"
_UNKNOWN_ROUTE: Final = "UNKNOWN"
"""Label of requests without a route: paths of strangers must not become labels."""
_EVENT_STREAM: Final = b"text/event-stream"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RequestRecord:
    """What finds a request in logs and traces, and the error that answers it."""

    request_id: str
    trace_id: str
    error: SluiceError | None = None


def answer_of(scope: Mapping[str, Any], error: SluiceError) -> Response:
    """Return the problem document of an error for a request, and note the error."""
    record = scope[_RECORD]
    assert isinstance(record, RequestRecord), "RequestContext sets it"
    record.error = error
    return problem_response(error, record.request_id, record.trace_id)


def note_refusal(scope: Mapping[str, Any], error: SluiceError) -> None:
    """Note a refusal whose answer is no problem document, such as a frame of a WebSocket.

    No-op without a `RequestContext` around the application, which reads it.
    """
    record = scope.get(_RECORD)
    if isinstance(record, RequestRecord):
        record.error = error


def request_id_of(scope: Mapping[str, Any]) -> str:
    """Return the id of a request, which its answer, logs and audit entries carry."""
    record = scope[_RECORD]
    assert isinstance(record, RequestRecord), "RequestContext sets it"
    return record.request_id


def error_of(raised: Exception) -> SluiceError:
    """Return the error to report for what a handler raised.

    Starlette and FastAPI raise `HTTPException` for unknown routes and methods, and around what the
    reading of a body raised.
    """
    if isinstance(raised, HTTPException):
        if isinstance(raised.__cause__, SluiceError):
            return raised.__cause__
        return _of_status(raised)
    return to_sluice_error(raised) or internal_error()


def _of_status(raised: HTTPException) -> SluiceError:
    match raised.status_code:
        case HTTPStatus.NOT_FOUND:
            return route_not_found()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return method_not_allowed((raised.headers or {}).get("Allow", ""))
        case HTTPStatus.UNAUTHORIZED:
            return Unauthenticated("NO_CREDENTIALS", "The request carries no credentials.")
        case HTTPStatus.FORBIDDEN:
            return PermissionDenied("PERMISSION_DENIED", "The request is not allowed.")
        case status if 400 <= status < 500:
            return InvalidArgument(
                "MALFORMED_MESSAGE", "The request cannot be read; correct the client."
            )
        case _:
            return internal_error()


class RequestContext:
    """Binds ids to every log line, measures the request, and answers errors as problem details.

    A client's request id is used if it is short and plain; any other is replaced, because it is
    logged. Without a valid `traceparent` a trace id is made, so that every answer has one.

    Args:
        refusals: takes refused callers and commands for the audit log.
    """

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, refusals: RefusalSink | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _first_headers(scope)
        requested = headers.get(b"x-request-id", "")
        request_id = requested if _REQUEST_ID.fullmatch(requested) else secrets.token_hex(8)
        traceparent = headers.get(b"traceparent", "")
        if not trace_id_of(traceparent):
            # Not sampled: only a collector of ours decides what is kept.
            traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
            parent = ""
        else:
            parent = traceparent
        receive_traceparent(traceparent)
        method = scope.get("method", "WEBSOCKET")
        with span(f"HTTP {method}", parent) as current:
            trace_id = trace_id_of(current_traceparent())
            scope[_RECORD] = record = RequestRecord(request_id, trace_id)
            begin_trail(Trail(request_id, _peer_of(scope)))
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=trace_id)
            measured = _Measurement(self._metrics, scope)
            exchange = _Exchange(scope, send, record, measured)
            try:
                await self._answered(exchange, receive)
            finally:
                measured.end(exchange.status)
                current.set_attribute("http.route", _route_of(scope))
                current.set_attribute("http.response.status_code", _label_of(exchange.status))

    async def _answered(self, exchange: _Exchange, receive: Receive) -> None:
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except ClientDisconnect:
            _log.debug("request.disconnected")
        except Exception as raised:  # noqa: BLE001 - the outermost handler of a request
            await self._failed(exchange, receive, raised)
        if exchange.record.error is not None:
            self._note(exchange.scope, exchange.record.error)

    async def _failed(self, exchange: _Exchange, receive: Receive, raised: Exception) -> None:
        """Answer what no handler of the application has answered."""
        error = error_of(raised)
        if error.reason == "INTERNAL":
            _log.error("request.failed", exc_info=raised)
        if exchange.is_complete:
            return  # Starlette answers a defect and raises it again
        if exchange.status is not None:
            # Half an answer is out: the connection ends, so that it is not taken for a whole one.
            raise raised
        if exchange.scope["type"] == "websocket":
            exchange.record.error = error
            # Before the handshake: the server answers it with 403.
            await exchange.send({"type": "websocket.close", "code": 1008})
            return
        await answer_of(exchange.scope, error)(exchange.scope, receive, exchange.send)

    def _note(self, scope: Scope, error: SluiceError) -> None:
        """Count a refusal, and log what the answer does not say."""
        self._metrics.refused.labels(error.reason).inc()
        if self._refusals is not None and (entry := refusal_entry(scope, error)) is not None:
            self._refusals.add(entry)
        if error.log_detail:
            _log.warning("request.refused", reason=error.reason, detail=error.log_detail)


class _Measurement:
    """The duration of a request until the end of its answer.

    An answer without an end of its own, a stream of events or a WebSocket, is measured until it
    begins. Its life says nothing about the server, and would be counted when it is over only.
    """

    def __init__(self, metrics: HttpMetrics, scope: Scope) -> None:
        self._metrics = metrics
        self._scope = scope
        self._began = time.perf_counter()
        self._is_open = True
        metrics.in_progress.inc()

    def end(self, status: int | None) -> None:
        """Observe the duration, unless it was observed."""
        if not self._is_open:
            return
        self._is_open = False
        self._metrics.in_progress.dec()
        method = self._scope.get("method", "GET")  # the handshake of a WebSocket is one
        labels = (method, _route_of(self._scope), _label_of(status))
        self._metrics.seconds.labels(*labels).observe(time.perf_counter() - self._began)


class _Exchange:
    """One request, and how far its answer has come."""

    def __init__(
        self, scope: Scope, send: Send, record: RequestRecord, measured: _Measurement
    ) -> None:
        self.scope = scope
        self.record = record
        self.status: int | None = None
        self.is_complete = False
        self._send = send
        self._measured = measured
        self._own = [
            (b"x-request-id", record.request_id.encode("ascii")),
            (b"x-trace-id", record.trace_id.encode("ascii")),
        ]

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self.status = message["status"]
                if _is_stream(message):
                    self._measured.end(self.status)
                message = {**message, "headers": [*message.get("headers", ()), *self._own]}
            case "http.response.body":
                self.is_complete = not message.get("more_body", False)
            case "websocket.accept":
                self.status = HTTPStatus.SWITCHING_PROTOCOLS
                self._measured.end(self.status)
            case "websocket.close":
                if self.status is None:
                    self.status = HTTPStatus.FORBIDDEN  # the server refuses the handshake with it
                self.is_complete = True
            case _:
                pass
        await self._send(message)


def _is_stream(start: Message) -> bool:
    """Return whether an answer goes on until its client leaves."""
    return any(
        name.lower() == b"content-type" and value.startswith(_EVENT_STREAM)
        for name, value in start.get("headers", ())
    )


def _label_of(status: int | None) -> str:
    """Return the status as a label; NONE for a request whose client left before the answer."""
    return "NONE" if status is None else str(int(status))


def _route_of(scope: Mapping[str, Any]) -> str:
    """Return the template of the route, such as /queries/photos/{photoId}."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _UNKNOWN_ROUTE


def _peer_of(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return "" if client is None else str(client[0])[:MAX_PEER_CHARACTERS]


def _first_headers(scope: Mapping[str, Any]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        found.setdefault(name, value.decode("latin-1"))
    return found
