"""Routes of Starlette, for what is not part of the documented API, and for hot routes.

They import no FastAPI, which a process may not need (`first_request.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send


class PlainRoute(Route):
    """Starlette's route, which leaves its template for the metrics as FastAPI's does.

    For routes that are not part of the documented API, and for the hot ones: FastAPI takes three
    times as long.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await super().handle(scope, receive, send)


class PlainWebSocketRoute(WebSocketRoute):
    """Starlette's route of WebSockets, which leaves its template for the metrics."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await super().handle(scope, receive, send)


class DocumentedRoute(PlainRoute):
    """Hot route that is part of the documented API.

    Args:
        operation: its OpenAPI Operation Object, by method in lower case.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], operation: Mapping[str, Any]
    ) -> None:
        super().__init__(path, endpoint, methods=[method.upper() for method in operation])
        self.operation: Final = operation
