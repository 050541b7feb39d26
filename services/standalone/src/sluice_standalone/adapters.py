"""Opens the adapters of the mixture that the settings name, in the order in which they depend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sluice_common.catalogue.migrate import migrate
from sluice_common.catalogue.port import Catalogue
from sluice_common.catalogue.sql import open_catalogue
from sluice_common.configuration import ConfigurationError
from sluice_common.coordination.discard.chunks import DiscardChunkStore
from sluice_common.coordination.embedded.chunks import FileChunkStore
from sluice_common.coordination.embedded.ledger import open_sqlite_ledger
from sluice_common.coordination.memory.ledger import MemoryLedger
from sluice_common.coordination.memory.queue import InProcessQueue
from sluice_common.coordination.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_common.errors import SluiceError
from sluice_common.events.log import open_event_log
from sluice_common.events.off import NoEvents
from sluice_common.events.port import EventPublisher
from sluice_common.mixtures import CatalogueKind, Coordination, Events, Objects
from sluice_common.objects.discard import DiscardObjectStore
from sluice_common.objects.files import FileObjectStore
from sluice_common.objects.port import ObjectStore
from sluice_common.settings import SluiceSettings
from sluice_standalone.data_dir import DataDir


@dataclass(frozen=True, slots=True)
class Adapters:
    """The ports of one process."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    objects: ObjectStore
    catalogue: Catalogue | None
    publisher: EventPublisher


@asynccontextmanager
async def open_adapters(settings: SluiceSettings, data_dir: DataDir) -> AsyncIterator[Adapters]:
    """Open them inside the block; they close in the opposite order.

    Raises `ConfigurationError` when what lies on disk cannot be used by this release.
    """
    async with AsyncExitStack() as stack:
        try:
            adapters = await _open(settings, data_dir, stack)
        except SluiceError as error:
            raise ConfigurationError(
                f"SLUICE_DATA_DIR: {data_dir.root}: {error.message}"
            ) from error
        yield adapters


async def _open(settings: SluiceSettings, data_dir: DataDir, stack: AsyncExitStack) -> Adapters:
    fsync = settings.fsync
    ledger: UploadLedger
    chunks: ChunkStore
    if settings.coordination is Coordination.EMBEDDED:
        ledger = await stack.enter_async_context(
            open_sqlite_ledger(data_dir.ledger, settings.to_ledger_options(), fsync=fsync)
        )
        chunks = await stack.enter_async_context(FileChunkStore(data_dir.chunks, fsync=fsync))
    else:
        ledger = MemoryLedger(settings.to_ledger_options())
        chunks = DiscardChunkStore()

    objects: ObjectStore = DiscardObjectStore()
    if settings.objects is Objects.FILES:
        objects = await stack.enter_async_context(FileObjectStore(data_dir.objects, fsync=fsync))

    catalogue: Catalogue | None = None
    if settings.catalogue is CatalogueKind.SQLITE:
        await migrate(data_dir.catalogue_url)
        catalogue = await stack.enter_async_context(
            open_catalogue(data_dir.catalogue_url, fsync=fsync)
        )

    publisher: EventPublisher = NoEvents()
    if settings.events is Events.LOG:
        publisher = await stack.enter_async_context(open_event_log(data_dir.events, fsync=fsync))

    queue = InProcessQueue(settings.queue.lease_seconds, settings.queue.max_items)
    return Adapters(ledger, chunks, queue, objects, catalogue, publisher)
