"""Work of the gateway beside its requests: the projector and the sweeper of photos."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_core.ports.object_listener import ObjectCreated
from sluice_gateway.backends import GatewayBackends
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.projection.log_source import LogSource
from sluice_gateway.projection.projector import Projector
from sluice_gateway.projection.sweeper import PhotoSweeper
from sluice_gateway.settings import sweep_options


class Work(Protocol):
    """Background work."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; finish soon after it."""
        ...


def projector_of(backends: GatewayBackends, metrics: GatewayMetrics) -> Projector:
    """Return the projector of these backends."""
    announcer = Announcer(backends.catalogue, backends.live)
    return Projector(backends.catalogue, announcer, metrics.projection)


def background_work(
    settings: SluiceSettings,
    backends: GatewayBackends,
    projector: Projector,
    metrics: GatewayMetrics,
    wake: asyncio.Event,
    object_created: ObjectCreated,
) -> Sequence[Work]:
    """Return the projector with the source of its events, and the sweeper.

    Without events the sweeper alone finds what has changed.

    Args:
        wake: set when this process publishes an event of uploads or nodes.
        object_created: see `PhotoSweeper`.
    """
    assert backends.objects is not None, "photos need a store"
    work: list[Work] = [
        PhotoSweeper(
            backends.catalogue,
            backends.objects,
            projector,
            Announcer(backends.catalogue, backends.live),
            metrics.projection,
            sweep_options(settings),
            object_created,
        )
    ]
    match settings.events:
        case Events.LOG:
            data_dir = DataDir(settings.data_dir)
            state = data_dir.gateway
            work.append(LogSource(data_dir.events, state, wake, projector, metrics.projection))
        case Events.KAFKA:
            from sluice_gateway.projection.kafka_source import event_consumer

            kafka, group = settings.to_kafka_options(), settings.gateway.group
            drain = settings.drain_seconds * 0.8
            work.append(event_consumer(kafka, group, projector, metrics.consumer, drain))
        case Events.OFF:
            pass
    return work


@asynccontextmanager
async def working(work: Sequence[Work], stop: asyncio.Event) -> AsyncIterator[None]:
    """Run all work inside the block; at its end wait until it has drained.

    Without `stop` the block ends by an error, and the work is cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run(stop), name=type(each).__name__) for each in work]
        try:
            yield
        finally:
            if not stop.is_set():
                for task in tasks:
                    task.cancel()
