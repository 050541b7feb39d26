"""Openers of the object store and the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.store import FileObjectStore
from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.migrate import migrate
from sluice_common.backends.opening import as_configuration_error
from sluice_common.process.data_dir import DataDir, create_data_dir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import CatalogueKind, Objects
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore

BUCKET: Final = "SLUICE_BUCKET"


@asynccontextmanager
async def open_objects(
    settings: SluiceSettings,
    metrics: S3Metrics,
    urls: SignedUrls | None = None,
    *,
    retry_seconds: float | None = None,
) -> AsyncIterator[ObjectStore]:
    """Open the object store of the settings.

    Args:
        urls: signer of the URLs of a store in files, where an object listener serves them. S3
            signs its own.
        retry_seconds: no repeat of a call of S3 starts later, where somebody waits for it. Longer
            by default.

    Raise `ConfigurationError` if the default bucket cannot be used.
    """
    async with AsyncExitStack() as stack:
        store: ObjectStore
        match settings.objects:
            case Objects.S3:
                from sluice_backends.s3.store import open_s3_store

                options = settings.s3.to_options()
                if retry_seconds is not None:
                    retry = replace(options.retry, total_seconds=retry_seconds)
                    options = replace(options, retry=retry)
                store = await stack.enter_async_context(open_s3_store(options, metrics))
            case Objects.FILES:
                store = await stack.enter_async_context(
                    FileObjectStore(
                        DataDir(settings.data_dir).objects, fsync=settings.fsync, urls=urls
                    )
                )
            case Objects.DISCARD:
                store = DiscardObjectStore()
        with as_configuration_error(BUCKET):
            await store.check(settings.bucket)
        yield store


@dataclass(frozen=True, slots=True)
class CatalogueDatabase:
    """URL of the catalogue's database, and the setting that holds it."""

    url: str = field(repr=False)  # may contain a password
    setting: str


def catalogue_database(settings: SluiceSettings) -> CatalogueDatabase | None:
    """Return the database of the settings; None without a catalogue.

    Raise `ConfigurationError` if the directory of a database file cannot be created.
    """
    match settings.catalogue:
        case CatalogueKind.MYSQL:
            return CatalogueDatabase(settings.mysql.url.get_secret_value(), "SLUICE_MYSQL__URL")
        case CatalogueKind.SQLITE:
            file = create_data_dir(settings.data_dir).catalogue
            return CatalogueDatabase(f"sqlite:///{file.absolute()}", "SLUICE_DATA_DIR")
        case CatalogueKind.OFF:
            return None


@asynccontextmanager
async def open_database_catalogue(
    settings: SluiceSettings,
) -> AsyncIterator[GatewayCatalogue | None]:
    """Open the catalogue of the settings, migrated unless that is disabled; None without one.

    Raise `ConfigurationError` if the database is unusable or has the schema of another release.
    """
    database = catalogue_database(settings)
    if database is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        with as_configuration_error(database.setting):
            if settings.migrate_on_start:
                # During a rollout the previous release may restart on the new schema.
                await migrate(database.url, accept_newer=True)
            catalogue = await stack.enter_async_context(
                open_catalogue(database.url, fsync=settings.fsync)
            )
        yield catalogue
