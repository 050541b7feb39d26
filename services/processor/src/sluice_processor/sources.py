"""Where work comes from, as the settings say."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sluice_common.data_dir import DataDir
from sluice_common.events.port import UPLOADS_TOPIC
from sluice_common.mixtures import Events
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_processor.handler import NodeProcessor
from sluice_processor.log_source import LogSource
from sluice_processor.settings import processor_options


class Source(Protocol):
    """Something that knows of nodes to look at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Have nodes processed until `stop`; what is in hand then may end within the drain."""
        ...


def sources_of(
    settings: SluiceSettings, processor: NodeProcessor, metrics: Metrics, wake: asyncio.Event
) -> tuple[Source, ...]:
    """The sources of the settings; none where no events are published.

    Args:
        wake: set by whoever publishes in this process.
    """
    options = processor_options(settings)
    match settings.events:
        case Events.LOG:
            data_dir = DataDir(settings.data_dir)
            state = data_dir.processor
            return (LogSource(data_dir.events, state, wake, processor, options, metrics),)
        case Events.KAFKA:
            from sluice_processor.kafka_lag import GroupLag
            from sluice_processor.kafka_source import uploads_consumer

            kafka = settings.to_kafka_options()
            group = settings.processor.group
            return (
                uploads_consumer(kafka, group, processor, options, metrics),
                GroupLag(kafka, group, UPLOADS_TOPIC, "kafka", metrics),
            )
        case Events.OFF:
            return ()


async def run_sources(sources: tuple[Source, ...], stop: asyncio.Event) -> None:
    """Run them side by side until `stop`."""
    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(source.run(stop))
