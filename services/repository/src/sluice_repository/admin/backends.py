"""The backends of the operators' commands, opened so that looking at them changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.files.store import FileObjectStore
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.backends.coordination import open_redis_coordination
from sluice_common.backends.opening import as_configuration_error
from sluice_common.backends.storage import CatalogueDatabase, catalogue_database
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import CatalogueKind, Coordination, Objects, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_repository.metrics import RepositoryMetrics


@dataclass(frozen=True, slots=True)
class AdminBackends:
    """The ports of one command.

    `chunks` and `queue` are None where another process has them to itself, and `catalogue` for a
    combination without one.
    """

    ledger: UploadLedger
    chunks: ChunkStore | None
    queue: WorkQueue | None
    objects: ObjectStore
    catalogue: Catalogue | None
    bucket: str
    """Of drives that name none."""
    queue_outlives: bool = True
    """False for a queue in the memory of this process."""
    keeps_objects: bool = True
    """False for a store that measures, and discards what it is given."""


OpenBackends = Callable[
    [SluiceSettings, RepositoryMetrics, bool], AbstractAsyncContextManager[AdminBackends]
]
"""Opens the backends of the settings; True for a command that changes something."""


@asynccontextmanager
async def open_service_backends(
    settings: SluiceSettings, metrics: RepositoryMetrics, writes: bool
) -> AsyncIterator[AdminBackends]:
    """Open the backends that several processes share.

    Raise `ConfigurationError` for settings of another combination, and for a backend that cannot be
    used.
    """
    require_separable(settings.supported_combination)
    if settings.coordination is not Coordination.REDIS:
        raise ConfigurationError(
            f"SLUICE_COORDINATION={settings.coordination} keeps uploads in the memory of one "
            "process, where no other one sees them; read the metrics of that process"
        )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        coordination = await enter(open_redis_coordination(settings, metrics.redis))
        yield AdminBackends(
            coordination.ledger,
            coordination.chunks,
            coordination.queue,
            await enter(open_stored_objects(settings, metrics, beside_owner=not writes)),
            await enter(open_present_catalogue(settings, writes=writes)),
            settings.bucket,
            keeps_objects=settings.objects is not Objects.DISCARD,
        )


@asynccontextmanager
async def open_stored_objects(
    settings: SluiceSettings, metrics: RepositoryMetrics, *, beside_owner: bool
) -> AsyncIterator[ObjectStore]:
    """Open the object store without the check of a service, which writes to it."""
    async with AsyncExitStack() as stack:
        match settings.objects:
            case Objects.S3:
                from sluice_backends.s3.store import open_s3_store

                options = settings.s3.to_options()
                yield await stack.enter_async_context(open_s3_store(options, metrics.s3))
            case Objects.FILES:
                yield await stack.enter_async_context(
                    FileObjectStore(
                        DataDir(settings.data_dir).objects,
                        fsync=settings.fsync,
                        beside_owner=beside_owner,
                    )
                )
            case Objects.DISCARD:
                yield DiscardObjectStore()


@asynccontextmanager
async def open_present_catalogue(
    settings: SluiceSettings, *, writes: bool
) -> AsyncIterator[Catalogue | None]:
    """Open the catalogue as it is: a command of an operator migrates nothing by the way.

    Raise `ConfigurationError` for a missing file: neither it nor its directory is made.
    """
    database: CatalogueDatabase | None
    if settings.catalogue is CatalogueKind.SQLITE:
        database = _present_file(DataDir(settings.data_dir), writes=writes)
    else:
        database = catalogue_database(settings)
    if database is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        with as_configuration_error(database.setting):
            catalogue = await stack.enter_async_context(
                open_catalogue(database.url, fsync=settings.fsync)
            )
        yield catalogue


def _present_file(data_dir: DataDir, *, writes: bool) -> CatalogueDatabase:
    if not data_dir.catalogue.exists():
        raise ConfigurationError(
            f"SLUICE_DATA_DIR: {data_dir.root} has no catalogue; name the directory of its server"
        )
    path = str(data_dir.catalogue.absolute())
    url = f"sqlite:///{path}" if writes else f"sqlite:///file:{quote(path)}?mode=ro&uri=true"
    return CatalogueDatabase(url, "SLUICE_DATA_DIR")
