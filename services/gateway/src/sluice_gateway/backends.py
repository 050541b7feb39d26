"""The backends of the gateway: catalogue, object store and live updates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from sluice_backends.instruments import Registry
from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_backends.redis.metrics import RedisMetrics
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Coordination
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.live_updates import LiveUpdates
from sluice_core.ports.object_store import ObjectStore

_LIVE_CONNECTIONS: Final = 16


@dataclass(frozen=True, slots=True)
class GatewayBackends:
    """The ports of one gateway."""

    catalogue: GatewayCatalogue
    objects: ObjectStore | None
    """None for a gateway without jobs and photos."""
    live: LiveUpdates


@asynccontextmanager
async def open_live_updates(
    settings: SluiceSettings, registry: Registry
) -> AsyncIterator[LiveUpdates]:
    """Open the live updates: of all replicas where Redis coordinates, else of this process.

    A Redis that does not answer is no error here: updates are a wake-up beside the catalogue.
    """
    if settings.coordination is not Coordination.REDIS:
        yield MemoryLiveUpdates()
        return
    from sluice_backends.redis.client.connection import RedisClients
    from sluice_backends.redis.live.updates import RedisLiveUpdates

    options = replace(settings.redis.to_options(), max_connections=_LIVE_CONNECTIONS)
    async with AsyncExitStack() as stack:
        clients = RedisClients(options, registry.group(RedisMetrics))
        stack.push_async_callback(clients.aclose)
        updates = RedisLiveUpdates(clients)
        await stack.enter_async_context(updates.running())
        yield updates
