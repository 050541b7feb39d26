"""Route class of the API: strict JSON bodies, and the errors that every route documents."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.json_bodies import check_media_type, read_json
from sluice_gateway.http.problems import MEDIA_TYPE


class FieldProblemView(BaseModel):
    """A field that is not valid."""

    field: str
    detail: str


class ProblemView(BaseModel):
    """Problem details (RFC 9457). Match on `reason`; texts may change."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    requestId: str  # noqa: N815 - the name on the wire
    traceId: str  # noqa: N815
    errors: list[FieldProblemView] = Field(default_factory=list)
    retryAfterSeconds: float | None = None  # noqa: N815
    metadata: dict[str, str] = Field(default_factory=dict)


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "Any error",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemView"}}},
    }
}
"""Documented answers of every route besides its success."""


NEEDS_TOKEN: Final[dict[str, Any]] = {"security": [{"bearer": []}]}
"""`openapi_extra` of routes that authenticate their caller."""
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
}


class _StrictRequest(Request):
    """Request whose JSON has one meaning."""

    async def json(self) -> Any:
        return await read_json(self)


class StrictRoute(APIRoute):
    """Route that takes JSON bodies declared as such, and no others."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        is_required = takes_body and self.body_field.field_info.is_required()  # type: ignore[union-attr]

        async def handle_strictly(request: Request) -> Response:
            if takes_body and (is_required or _has_body(request)):
                # FastAPI reports another type as a field that is missing.
                check_media_type(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def authenticated_route(authentication: Authentication) -> type[StrictRoute]:
    """Return the class of routes that authenticate their caller before they read the body.

    FastAPI reads, parses and validates bodies before it calls the function of a route. Strangers
    must not be able to have it do that work.
    """

    class AuthenticatedRoute(StrictRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_authenticated(request: Request) -> Response:
                await authentication(request)
                return await handle(request)

            return handle_authenticated

    return AuthenticatedRoute


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
