"""The configured backends of the standalone, opened in dependency order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_backends.embedded.ledger.ledger import open_sqlite_ledger
from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_common.backends.coordination import CoordinationPorts, open_redis_coordination
from sluice_common.backends.opening import as_configuration_error
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import ChunkTransport, Coordination
from sluice_core.configuration import ConfigurationError
from sluice_repository.backends import Storage, open_storage
from sluice_repository.metrics import RepositoryMetrics


@dataclass(frozen=True, slots=True)
class Backends:
    """The ports of one process."""

    coordination: CoordinationPorts
    storage: Storage


@asynccontextmanager
async def open_backends(
    settings: SluiceSettings,
    metrics: RepositoryMetrics,
    data_dir: DataDir,
    urls: SignedUrls | None = None,
) -> AsyncIterator[Backends]:
    """Open the backends while the block runs; close them in reverse order.

    Args:
        urls: signer of the URLs of objects in files.

    Raise `ConfigurationError` for a backend that this release cannot use.
    """
    if settings.chunk_transport is ChunkTransport.DIRECT:
        raise ConfigurationError(
            f"the combination {settings.supported_combination.name!r} measures the transport "
            "between two processes: run `sluice-intake` and `sluice-repository`"
        )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        coordination = await enter(_open_coordination(settings, metrics, data_dir))
        with as_configuration_error(f"SLUICE_DATA_DIR: {data_dir.root}"):
            storage = await enter(open_storage(settings, metrics, urls))
        yield Backends(coordination, storage)


@asynccontextmanager
async def _open_coordination(
    settings: SluiceSettings, metrics: RepositoryMetrics, data_dir: DataDir
) -> AsyncIterator[CoordinationPorts]:
    if settings.coordination is Coordination.REDIS:
        async with open_redis_coordination(settings, metrics.redis) as ports:
            yield ports
        return
    options = settings.to_ledger_options()
    queue = InProcessQueue(settings.queue.lease_seconds, settings.queue.max_items)
    if settings.coordination is Coordination.MEMORY:
        yield CoordinationPorts(MemoryLedger(options), DiscardChunkStore(), queue)
        return
    async with AsyncExitStack() as stack:
        with as_configuration_error(f"SLUICE_DATA_DIR: {data_dir.root}"):
            ledger = await stack.enter_async_context(
                open_sqlite_ledger(data_dir.ledger, options, fsync=settings.fsync)
            )
            chunks = await stack.enter_async_context(
                FileChunkStore(data_dir.chunks, fsync=settings.fsync)
            )
        yield CoordinationPorts(ledger, chunks, queue)
