"""The backends of the intake, by combination: coordination ports and drive directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_common.backends.coordination import CoordinationPorts, open_redis_coordination
from sluice_common.direct.channel import open_service_channel
from sluice_common.direct.chunks import DirectChunkStore
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import CatalogueKind, ChunkTransport, Coordination
from sluice_core.ports import ChunkStore
from sluice_intake.drives import CachedDrives, DefaultDrives, DriveDirectory, GrpcDrives
from sluice_intake.housekeeping import background_housekeeping
from sluice_intake.metrics import IntakeMetrics


@asynccontextmanager
async def open_coordination(
    settings: SluiceSettings, metrics: IntakeMetrics
) -> AsyncIterator[CoordinationPorts]:
    """Open the ledger, the chunk store and the queue of the combination.

    Raise `ConfigurationError` when Redis or the TLS files cannot be used.
    """
    if settings.coordination is Coordination.REDIS:
        async with open_redis_coordination(settings, metrics.redis) as ports:
            yield ports
        return
    async with AsyncExitStack() as stack:
        chunks: ChunkStore = DiscardChunkStore()
        if settings.chunk_transport is ChunkTransport.DIRECT:
            channel = await stack.enter_async_context(
                open_service_channel(settings.repository_server, settings.tls)
            )
            chunks = await stack.enter_async_context(DirectChunkStore(channel))
        ledger = MemoryLedger(settings.to_ledger_options())
        await stack.enter_async_context(
            background_housekeeping(
                ledger, chunks, metrics.ledger, settings.sweeper.interval_seconds
            )
        )
        queue = InProcessQueue(settings.queue.lease_seconds, settings.queue.max_items)
        yield CoordinationPorts(ledger, chunks, queue)


@asynccontextmanager
async def open_drives(settings: SluiceSettings) -> AsyncIterator[DriveDirectory]:
    """Open the drive directory: the repository, or the defaults when there is no catalogue."""
    if settings.catalogue is CatalogueKind.OFF:
        yield DefaultDrives()
        return
    async with open_service_channel(settings.repository_server, settings.tls) as channel:
        yield CachedDrives(GrpcDrives(channel))
