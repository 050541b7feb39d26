"""Where finished uploads are kept: objects and the catalogue of nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from sluice_common.backends.opening import blaming
from sluice_common.catalogue.migrate import migrate
from sluice_common.catalogue.port import Catalogue
from sluice_common.catalogue.sql import open_catalogue
from sluice_common.mixtures import CatalogueKind, Objects
from sluice_common.objects.discard import DiscardObjectStore
from sluice_common.objects.files import FileObjectStore
from sluice_common.objects.port import ObjectStore
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics

BUCKET: Final = "SLUICE_BUCKET"


@asynccontextmanager
async def open_objects(
    settings: SluiceSettings, metrics: Metrics, folder: Path
) -> AsyncIterator[ObjectStore]:
    """The object store of the settings; files lie in `folder`.

    Raises `ConfigurationError` when the default bucket cannot be used.
    """
    async with AsyncExitStack() as stack:
        store: ObjectStore
        match settings.objects:
            case Objects.S3:
                from sluice_common.objects.s3.store import open_s3_store

                store = await stack.enter_async_context(
                    open_s3_store(settings.s3.to_options(), metrics)
                )
            case Objects.FILES:
                store = await stack.enter_async_context(
                    FileObjectStore(folder, fsync=settings.fsync)
                )
            case Objects.DISCARD:
                store = DiscardObjectStore()
        with blaming(BUCKET):
            await store.check(settings.bucket)
        yield store


def catalogue_url(settings: SluiceSettings, sqlite_file: Path) -> str:
    """Where the catalogue's database is."""
    if settings.catalogue is CatalogueKind.MYSQL:
        return settings.mysql.url
    return f"sqlite:///{sqlite_file.absolute()}"


@asynccontextmanager
async def open_database_catalogue(
    settings: SluiceSettings, sqlite_file: Path
) -> AsyncIterator[Catalogue | None]:
    """The catalogue of the settings, migrated first unless that is switched off; None without one.

    Raises `ConfigurationError` when the database cannot be used, or has another release's schema.
    """
    if settings.catalogue is CatalogueKind.OFF:
        yield None
        return
    mysql = settings.catalogue is CatalogueKind.MYSQL
    url = catalogue_url(settings, sqlite_file)
    async with AsyncExitStack() as stack:
        with blaming("SLUICE_MYSQL__URL" if mysql else "SLUICE_DATA_DIR"):
            if settings.migrate_on_start:
                # During a rollout the release before restarts on the schema of the next.
                await migrate(url, accept_newer=True)
            catalogue = await stack.enter_async_context(open_catalogue(url, fsync=settings.fsync))
        yield catalogue
