"""Routes of resumable uploads, and what they work with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from starlette.routing import BaseRoute

from sluice_common.direct.channel import open_service_channel
from sluice_common.settings.security import Tls
from sluice_core.ports.photos import PhotoCatalogue
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.plain_routes import PlainRoute
from sluice_gateway.tus.body_slots import BodySlots
from sluice_gateway.tus.concatenation import Concatenation
from sluice_gateway.tus.creation import Creation
from sluice_gateway.tus.headers import PREFIX
from sluice_gateway.tus.intake import IntakeUploads
from sluice_gateway.tus.nodes import RepositoryNodes
from sluice_gateway.tus.options import TusOptions
from sluice_gateway.tus.photos import PhotoUploads
from sluice_gateway.tus.reception import Reception
from sluice_gateway.tus.server import TusServer, upload_endpoint, uploads_endpoint


@asynccontextmanager
async def open_tus(
    authentication: Authentication,
    intake: str,
    repository: str,
    tls: Tls,
    options: TusOptions | None = None,
    photos: PhotoCatalogue | None = None,
) -> AsyncIterator[TusServer]:
    """Yield a tus server that calls these services.

    Args:
        intake, repository: `host:port` or a gRPC target; in `sluice serve` a socket of its own.
        photos: those that uploads may name; None where there are none.

    Raise `ConfigurationError` for TLS files that cannot be used.
    """
    async with (
        open_service_channel(intake, tls) as to_intake,
        open_service_channel(repository, tls) as to_repository,
    ):
        yield tus_server(authentication, to_intake, to_repository, options or TusOptions(), photos)


def tus_server(
    authentication: Authentication,
    intake: grpc.aio.Channel,
    repository: grpc.aio.Channel,
    options: TusOptions,
    photos: PhotoCatalogue | None = None,
) -> TusServer:
    """Return the tus server on channels that the caller owns."""
    uploads, nodes = IntakeUploads(intake), RepositoryNodes(repository)
    slots = BodySlots(options.max_bodies)
    reception = Reception(uploads, slots, options)
    bound = PhotoUploads(photos)
    concatenation = Concatenation(uploads, nodes, reception, bound, options)
    creation = Creation(uploads, reception, concatenation, bound, options)
    return TusServer(authentication, uploads, nodes, creation, reception, options)


def tus_routes(server: TusServer) -> list[BaseRoute]:
    """Return the routes. Their bodies need an exemption from `BodyLimits`: see `streams_body`."""
    uploads = uploads_endpoint(server)
    return [
        PlainRoute(PREFIX, uploads, include_in_schema=False),
        PlainRoute(f"{PREFIX}/", uploads, include_in_schema=False),
        PlainRoute(f"{PREFIX}/{{upload_id}}", upload_endpoint(server), include_in_schema=False),
    ]


def streams_body(path: str) -> bool:
    """Return whether requests for this path have bodies that are never held as a whole."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")
