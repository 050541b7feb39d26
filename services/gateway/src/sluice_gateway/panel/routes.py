"""Routes of the panel: its files, and one page under every path of its history.

They need no token: the bundle holds no secret, and people who log in need it first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from sluice_gateway.http.conditional import known_etags
from sluice_gateway.http.plain_routes import PlainRoute
from sluice_gateway.panel.files import PanelFile, PanelFiles
from sluice_gateway.panel.negotiation import accepts_gzip, asks_for_page

API_PREFIXES: Final = frozenset(
    {
        ".well-known", "actuator", "api", "assets", "commands", "files", "healthz", "metrics",
        "objects", "openapi.json", "queries", "readyz", "ws",
    }
)  # fmt: skip
"""First segments that no page has: what is not there keeps its problem document. `assets` is among
them, so that a browser never takes a page for a script that is missing."""
_PAGE: Final = re.compile(r"/([A-Za-z0-9_-]+)(?:/[A-Za-z0-9_-]+)*/?")
"""Paths of pages. No dots: neither `/.env` nor `/favicon.ico` is one."""
_COMMON: Final = {
    # Names have no hashes, so that each use asks; 304 costs a round trip and no bytes.
    "cache-control": "no-cache",
    "vary": "accept-encoding, origin",
}


def panel_routes(files: PanelFiles) -> list[BaseRoute]:
    """Return the routes. They belong behind all others: pages take what nothing else has."""
    routes: list[BaseRoute] = [
        PlainRoute(path, _endpoint(file))
        for path in files.paths
        if (file := files.find(path)) is not None
    ]

    async def page(request: Request) -> Response:
        return _answer(request, files.page())

    return [*routes, PlainRoute("/", page), PageRoute(page)]


class PageRoute(BaseRoute):
    """Answers navigations of browsers under paths that nothing else has.

    It matches no other request. A catch-all would turn 405 of the API into 200, and 404 into a
    page that programs cannot read.
    """

    path: Final = "/{page}"
    """Label of its requests in the metrics."""

    def __init__(self, page: Callable[[Request], Awaitable[Response]]) -> None:
        self._page = page

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is a navigation to a path that a page may have."""
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not is_read or (match := _PAGE.fullmatch(scope["path"])) is None:
            return Match.NONE, {}
        accept = ",".join(Headers(scope=scope).getlist("accept"))
        if match[1] in API_PREFIXES or not asks_for_page(accept):
            return Match.NONE, {}
        return Match.FULL, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        response = await self._page(Request(scope, receive))
        await response(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> NoMatchFound:  # type: ignore[override]
        raise NoMatchFound(name, path_params)


def _endpoint(file: PanelFile) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return _answer(request, file)

    return serve


def _answer(request: Request, file: PanelFile) -> Response:
    """Return the file in the coding that the client takes, or 304 if the client has that."""
    chosen, headers = file.identity, dict[str, str](_COMMON)
    accepted = ",".join(request.headers.getlist("accept-encoding"))
    is_compressed = file.compressed is not None and accepts_gzip(accepted)
    if is_compressed and file.compressed is not None:
        chosen = file.compressed
    headers["etag"] = f'"{chosen.etag}"'
    known = request.headers.get("if-none-match", "").strip() == "*"
    if known or chosen.etag in known_etags(request):
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    if is_compressed:
        headers["content-encoding"] = "gzip"
    return Response(chosen.content, HTTPStatus.OK, headers, file.media_type)
