"""Routes of operators: liveness, readiness, metrics, and what Spring Boot calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from sluice_core.errors import SluiceError
from sluice_gateway.http.plain_routes import PlainRoute

Readiness = Callable[[], Awaitable[bool]]

_READY_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


def operation_routes(registry: CollectorRegistry, is_ready: Readiness) -> list[PlainRoute]:
    """Return the routes. None of them takes a token: probes and scrapers have none.

    Args:
        is_ready: whether requests can be served now; may raise `SluiceError`.
    """

    async def ready() -> bool:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await is_ready()
        except (SluiceError, TimeoutError) as error:
            _log.warning("readiness.check_failed", error=repr(error))
            return False

    async def healthz(_: Request) -> Response:
        # That it answers proves that the event loop runs.
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        if await ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503)

    async def health(_: Request) -> Response:
        if await ready():
            return JSONResponse({"status": "UP"})
        return JSONResponse({"status": "OUT_OF_SERVICE"}, 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # A thread: thousands of series take longer than the event loop may wait.
        content = await asyncio.to_thread(encode, registry)
        return Response(content, media_type=content_type)

    return [
        PlainRoute("/healthz", healthz),
        PlainRoute("/readyz", readyz),
        PlainRoute("/metrics", metrics),
        PlainRoute("/actuator/health", health),
        PlainRoute("/actuator/health/liveness", health_of_process),
        PlainRoute("/actuator/health/readiness", health),
        PlainRoute("/actuator/prometheus", metrics),
    ]


async def health_of_process(_: Request) -> Response:
    """Answer that the process lives, whatever its backends do."""
    return JSONResponse({"status": "UP"})
