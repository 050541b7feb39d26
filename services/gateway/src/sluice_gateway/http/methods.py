"""Methods of paths: what `Allow` says, and HEAD wherever there is GET (RFC 9110, 9.1)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class Methods:
    """The methods of each path, over all routes: each of several routes has one of them."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = [each for each in routes if isinstance(each, Route)]

    def of(self, path: str) -> list[str]:
        """Return the methods of a path in alphabetical order, none for one without a route."""
        found = set[str]()
        for route in self._routes:
            if route.path_regex.match(path):
                found |= route.methods or set()
        if "GET" in found:
            found.add("HEAD")
        return sorted(found)

    def takes_head_as_get(self, path: str) -> bool:
        """Return whether a path has a route with GET, and none with HEAD."""
        methods = [each.methods or set() for each in self._routes if each.path_regex.match(path)]
        return any("GET" in each for each in methods) and not any(
            "HEAD" in each for each in methods
        )


class HeadRequests:
    """Has HEAD served by the GET of the same path. The server sends its head alone.

    FastAPI's routes have no HEAD of their own, unlike Starlette's.
    """

    def __init__(self, app: ASGIApp, methods: Methods) -> None:
        self._app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or not self._methods.takes_head_as_get(scope["path"]):
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]  # for the metrics
