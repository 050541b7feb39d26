"""Opener of the event publisher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_backends.discard.events import NoEvents
from sluice_backends.kafka.metrics import PublisherMetrics
from sluice_backends.log.event_log import open_event_log
from sluice_common.backends.opening import as_configuration_error
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_core.ports.event_publisher import EventPublisher


@asynccontextmanager
async def open_publisher(
    settings: SluiceSettings, metrics: PublisherMetrics
) -> AsyncIterator[EventPublisher]:
    """Open the publisher of the settings.

    Raise `ConfigurationError` if it can never publish.
    """
    async with AsyncExitStack() as stack:
        publisher: EventPublisher
        match settings.events:
            case Events.KAFKA:
                from sluice_backends.kafka.publisher import open_kafka_publisher

                with as_configuration_error("SLUICE_KAFKA__BOOTSTRAP_SERVERS"):
                    publisher = await stack.enter_async_context(
                        open_kafka_publisher(settings.to_kafka_options(), metrics)
                    )
            case Events.LOG:
                publisher = await stack.enter_async_context(
                    open_event_log(DataDir(settings.data_dir).events, fsync=settings.fsync)
                )
            case Events.OFF:
                publisher = NoEvents()
        yield publisher
