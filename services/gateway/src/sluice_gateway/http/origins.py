"""Origins of pages (RFC 6454): who may use the API from a browser, and by which host name."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.http.refusals import host_not_allowed, origin_not_allowed

_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS: Final = (
    "authorization, content-type, idempotency-key, if-none-match, last-event-id, traceparent, "
    "x-request-id, tus-resumable, upload-checksum, upload-concat, upload-defer-length, "
    "upload-length, upload-metadata, upload-offset, x-http-method-override, x-requested-with"
)
_EXPOSED_HEADERS: Final = (
    "ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, X-Trace-Id, "
    "Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, "
    "Upload-Concat, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset"
)
_PREFLIGHT: Final = {
    "access-control-allow-methods": _METHODS,
    "access-control-allow-headers": _REQUEST_HEADERS,
    "access-control-max-age": "600",
}
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginCheck:
    """Refuses requests of foreign pages, and on a keyless server those for foreign host names.

    A keyless server trusts every caller. A page of another origin in the user's browser
    reaches it too, under its own origin, or under its own host name that it lets resolve to
    127.0.0.1 (DNS rebinding). With keys a request needs a token, which a foreign page does not
    have; then only WebSockets are checked, to which CORS does not apply.

    It answers preflight requests, for which `CorsHeaders` adds the origin.

    Args:
        allowed: further origins whose pages may use the API.
        is_keyless: whether requests need no token.
        loopback_names_only: refuse host names that are not this machine's.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed: Collection[str],
        *,
        is_keyless: bool,
        loopback_names_only: bool,
    ) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._is_keyless = is_keyless
        self._loopback_names_only = loopback_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise `PermissionDenied` HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts, origins = headers_of(scope, b"host"), headers_of(scope, b"origin")
        if self._loopback_names_only and not (len(hosts) == 1 and _is_loopback(hosts[0])):
            raise host_not_allowed()
        is_preflight = _is_preflight(scope, origins)
        if self._is_keyless or is_preflight or scope["type"] == "websocket":
            own = own_origin(scope)
            if any(each != own and each not in self._allowed for each in origins):
                raise origin_not_allowed()
        if is_preflight:
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class CorsHeaders:
    """Cross-origin resource sharing (https://fetch.spec.whatwg.org/#http-cors-protocol).

    The API takes tokens in a header and no cookies, so that credentials are never allowed, and `*`
    is never an answer. It surrounds `RequestContext`, so that pages can read errors too.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A cache must not give what one origin may read to another.
        added = {b"vary": b"origin"}
        origins = headers_of(scope, b"origin")
        if len(origins) == 1 and origins[0] in self._allowed:
            added[b"access-control-allow-origin"] = origins[0].encode("latin-1")
            added[b"access-control-expose-headers"] = _EXPOSED_HEADERS.encode("ascii")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                # A route with its own rules has set some; a second origin is one too many.
                present = {name for name, _ in headers}
                headers += [each for each in added.items() if each[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _is_preflight(scope: Mapping[str, Any], origins: Collection[str]) -> bool:
    return bool(
        scope["type"] == "http"
        and scope["method"] == "OPTIONS"
        and origins
        and headers_of(scope, b"access-control-request-method")
    )


def headers_of(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """Return every value of a header; `name` is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def own_origin(scope: Mapping[str, Any]) -> str | None:
    """Return the origin of the server's own pages, as its caller names it in `Host`."""
    hosts = headers_of(scope, b"host")
    if len(hosts) != 1:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return normalized_origin(f"{scheme}://{hosts[0]}")


def normalized_origin(text: str) -> str | None:
    """Return an origin as browsers send it: lower case, without the default port.

    None if the text is no origin: it has a path, a user or another scheme than HTTP.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#")):
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port is None or port == _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{port}"


def _is_loopback(host: str) -> bool:
    origin = normalized_origin(f"http://{host}")
    name = urlsplit(origin).hostname if origin is not None else None
    if name is None:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
