"""The ASGI application: routes, and the layers around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from sluice_core.errors import SluiceError
from sluice_gateway.auth.routes import auth_routes
from sluice_gateway.auth.well_known import well_known_routes
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.body_limits import BodyLimits
from sluice_gateway.http.methods import HeadRequests, Methods
from sluice_gateway.http.operations import operation_routes
from sluice_gateway.http.origins import CorsHeaders, OriginCheck
from sluice_gateway.http.plain_routes import DocumentedRoute
from sluice_gateway.http.refusals import FieldProblem, InvalidRequest, method_not_allowed
from sluice_gateway.http.request_context import RequestContext, answer_of, error_of
from sluice_gateway.http.routes import SECURITY_SCHEMES, ProblemView
from sluice_gateway.http.security_headers import SecurityHeaders
from sluice_gateway.jobs.progress import progress_route
from sluice_gateway.jobs.routes import job_routes
from sluice_gateway.live.routes import live_routes
from sluice_gateway.panel.routes import panel_routes
from sluice_gateway.photos.routes import photo_routes
from sluice_gateway.tus.routes import streams_body, tus_routes

VERSION: Final = "1"
MAX_AUTH_BODY_BYTES: Final = 16 * 1024


def build_app(deps: GatewayDeps) -> ASGIApp:
    """Return the application with all its layers, the outermost last."""
    options = deps.options
    app = _routes(deps)
    app = BodyLimits(
        app,
        lambda path: _max_body_bytes(path, options.max_body_bytes),
        options.max_bodies_bytes,
        options.body_seconds,
        answer_of,
    )
    app = OriginCheck(
        app,
        # Its own by setting too: behind a proxy with TLS, requests name another scheme.
        (*options.own_origins, *options.origins),
        is_keyless=options.is_keyless,
        loopback_names_only=options.loopback_names_only,
    )
    app = RequestContext(app, deps.metrics.http, deps.refusals)
    app = CorsHeaders(app, options.origins)
    return SecurityHeaders(app, options.object_origins, is_https=options.is_https)


def _max_body_bytes(path: str, of_others: int) -> int | None:
    """Return the limit of a route's bodies; None for one that limits them itself."""
    if streams_body(path):
        return None
    # Anybody may send these: a password, a token or a link.
    return min(MAX_AUTH_BODY_BYTES, of_others) if path.startswith("/api/auth/") else of_others


def _routes(deps: GatewayDeps) -> ASGIApp:
    app = FastAPI(
        title="Sluice",
        version=VERSION,
        description="Photo uploads for browsers and phones.",
        openapi_url=None,
        docs_url=None,  # their pages load scripts of other origins
        redoc_url=None,
        redirect_slashes=False,
    )
    routers = [auth_routes(deps.accounts, deps.authentication, is_keyless=deps.options.is_keyless)]
    if deps.photos is not None:
        routers.append(job_routes(deps.photos, deps.authentication))
        routers.append(photo_routes(deps.photos, deps.authentication))
    for router in routers:
        app.include_router(router)
    if deps.photos is not None:
        app.router.routes.append(progress_route(deps.photos, deps.authentication))
    routes: list[BaseRoute] = [*operation_routes(deps.metrics.registry, deps.is_ready)]
    if deps.hub is not None:
        routes += live_routes(deps.hub)
    if deps.keys is not None and deps.terms is not None:
        routes += well_known_routes(deps.keys, deps.terms)
    if deps.tus is not None:
        routes += tus_routes(deps.tus)
    app.router.routes.extend(routes)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return openapi_document(app)

    if deps.panel is not None:
        app.router.routes.extend(panel_routes(deps.panel))
    included = [route for router in routers for route in router.routes]
    methods = Methods([*included, *app.router.routes])
    _answer_errors(app, methods)
    return HeadRequests(app, methods)


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, with problem details in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        components = document.setdefault("components", {})
        components["securitySchemes"] = SECURITY_SCHEMES
        schemas = components.setdefault("schemas", {})
        template = "#/components/schemas/{model}"
        problem = ProblemView.model_json_schema(ref_template=template)
        schemas.update(problem.pop("$defs", {}))
        schemas["ProblemView"] = problem
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        paths = document.setdefault("paths", {})
        for route in app.routes:
            if isinstance(route, DocumentedRoute):
                paths.setdefault(route.path, {}).update(route.operation)
        for path in paths.values():
            for operation in path.values():
                operation.get("responses", {}).pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema


def _answer_errors(app: FastAPI, methods: Methods) -> None:
    """Answer every error of a route as problem details.

    Starlette handles them inside its own layers; `RequestContext` handles the rest.
    """

    async def answer(request: Request, raised: Exception) -> Response:
        return answer_of(request.scope, error_of(raised))

    async def answer_http(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, HTTPException)
        error = error_of(raised)
        if error.reason == "METHOD_NOT_ALLOWED":
            # Starlette names the methods of one route of several.
            error = method_not_allowed(", ".join(methods.of(request.scope["path"])))
        return answer_of(request.scope, error)

    async def answer_invalid(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, RequestValidationError)
        return answer_of(request.scope, InvalidRequest(_field_problems(raised.errors())))

    app.add_exception_handler(SluiceError, answer)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(Exception, answer)


def _field_problems(errors: Sequence[Any]) -> list[FieldProblem]:
    """Return pydantic's errors without the values, which may be passwords."""
    return [
        FieldProblem(
            ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]),
            str(error["msg"]),
        )
        for error in errors
    ]
