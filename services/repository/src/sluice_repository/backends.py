"""The backends of the repository: object store, catalogue and publisher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sluice_backends.files.signed_urls import SignedUrls
from sluice_common.backends.publishing import open_publisher
from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.settings import SluiceSettings
from sluice_core.ports.event_publisher import EventPublisher
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_repository.metrics import RepositoryMetrics


@dataclass(frozen=True, slots=True)
class Storage:
    """The destinations of finished uploads and of their events."""

    objects: ObjectStore
    catalogue: GatewayCatalogue | None
    """Of which the roles of the repository use `Catalogue`."""
    publisher: EventPublisher


@asynccontextmanager
async def open_storage(
    settings: SluiceSettings, metrics: RepositoryMetrics, urls: SignedUrls | None = None
) -> AsyncIterator[Storage]:
    """Open the object store, the catalogue and the publisher that the settings select.

    Args:
        urls: see `open_objects`.

    Raise `ConfigurationError` for a backend that cannot be used.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        objects = await enter(open_objects(settings, metrics.s3, urls))
        catalogue = await enter(open_database_catalogue(settings))
        yield Storage(objects, catalogue, await enter(open_publisher(settings, metrics.publisher)))
