"""ASGI application of the embedded object listener."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_backends.files.signed_urls import GetGrant, SignedUrls
from sluice_common.rpc.errors import internal_error
from sluice_common.security.audit import RefusalSink
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import SluiceError
from sluice_core.ports.object_listener import ListenerStore, ObjectCreated
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.http.early_answers import waits_for_invitation
from sluice_gateway.http.paced_bodies import Pace
from sluice_gateway.http.request_context import RequestContext, answer_of
from sluice_gateway.metrics import HttpMetrics
from sluice_gateway.storage.bodies import send_last
from sluice_gateway.storage.downloads import Downloads
from sluice_gateway.storage.refusals import (
    STALLED,
    method_not_allowed,
    other_method,
    route_not_found,
)
from sluice_gateway.storage.signed_puts import SignedPuts

PATH: Final = "/objects"

_OBJECT: Final = re.compile(rf"{PATH}/([^/]+)/(.+)", re.DOTALL)
_METHODS: Final = ("GET", "HEAD", "PUT")
_ALLOWED_HEADERS: Final = (
    "Content-Type", "If-Match", "If-None-Match", "If-Range", "Range", "X-Amz-Checksum-Crc32c",
)  # fmt: skip
_EXPOSED_HEADERS: Final = (
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag",
    "Retry-After", "X-Amz-Checksum-Crc32c",
)  # fmt: skip
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s*]+")
_PREFLIGHT_SECONDS: Final = 600

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """How the listener serves.

    Args:
        origins: pages that may use it, such as `http://127.0.0.1:8080`. Others get no
            `Access-Control-Allow-Origin`. Never `*`: a URL that leaks would work from any page.
        pace: minimum pace of clients.

    Raise `ConfigurationError` for an origin that no browser sends.
    """

    origins: Sequence[str] = ()
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        for origin in self.origins:
            if _ORIGIN.fullmatch(origin) is None or origin != origin.lower():
                raise ConfigurationError(
                    f"{origin!r} is no origin of a page; write it like https://photos.example.org,"
                    " in lower case and without a path"
                )


def object_listener(
    store: ListenerStore,
    urls: SignedUrls,
    object_created: ObjectCreated,
    options: ListenerOptions,
    metrics: HttpMetrics,
    refusals: RefusalSink | None = None,
) -> ASGIApp:
    """Return the application.

    It belongs on a port of its own: browsers open six connections to an origin, and a batch of
    PUTs would keep the API's requests waiting for seconds.

    Args:
        urls: verifies URLs; they have to begin with this listener's address and `PATH`.
        object_created: takes the notifications of objects that were put whole. Whoever completes
            a multipart notifies of it in the same way.
        metrics: of the requests.
        refusals: takes refused URLs for the audit log.
    """
    listener = _Listener(
        urls,
        SignedPuts(store, object_created, options.pace),
        Downloads(store, options.pace),
    )
    app = CORSMiddleware(
        listener,
        allow_origins=tuple(options.origins),
        allow_methods=_METHODS,
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_EXPOSED_HEADERS,
        max_age=_PREFLIGHT_SECONDS,
    )
    return RequestContext(app, metrics, refusals)


class _Listener:
    """Verifies each request before anything else, and answers errors."""

    def __init__(self, urls: SignedUrls, puts: SignedPuts, downloads: Downloads) -> None:
        self._urls = urls
        self._puts = puts
        self._downloads = downloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the object listener speaks HTTP alone, not {scope['type']}")
        exchange = _Exchange(scope, receive, send)
        try:
            await self._serve(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return
        except SluiceError as raised:
            error = raised
        except Exception:  # noqa: BLE001 - the outermost handler of a request
            _log.exception("request.failed")
            error = internal_error()
        else:
            return
        if exchange.has_answered:
            # Returning now makes the server end the connection before the announced length.
            _log.warning("object.read_failed", reason=error.reason, detail=error.log_detail)
            return
        response = answer_of(scope, error)
        if exchange.has_body_left:
            await send_last(
                response, receive, send, drain=error.reason != STALLED and not exchange.is_uninvited
            )
        else:
            await response(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _OBJECT.fullmatch(scope["path"])
        if match is None:
            raise route_not_found()
        method = scope["method"]
        if method not in _METHODS:
            raise method_not_allowed(", ".join(_METHODS))
        # Anything but ASCII in a query is escaped; other bytes cannot be part of a valid one.
        query = scope["query_string"].decode("ascii", "replace")
        grant = self._urls.verify(ObjectRef(match[1], match[2]), query)
        if isinstance(grant, GetGrant) != (method != "PUT"):
            raise other_method()
        if isinstance(grant, GetGrant):
            await self._downloads.send(grant, scope, receive, send)
            return
        response = await self._puts.put(grant, Headers(scope=scope), receive)
        await response(scope, receive, send)


class _Exchange:
    """Knows how far a request and its answer have come."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        headers = Headers(scope=scope)
        self.has_answered = False
        self.is_uninvited = waits_for_invitation(scope)
        self.has_body_left = (
            headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        )

    async def receive(self) -> Message:
        self.is_uninvited = False
        message = await self._receive()
        self.has_body_left = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self.has_answered = True
        await self._send(message)
