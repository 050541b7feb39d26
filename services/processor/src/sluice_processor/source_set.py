"""The sources of work that the settings name."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from sluice_common.backends.opening import as_configuration_error
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_core.errors import Unavailable
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import NodeProcessor
from sluice_processor.options import ProcessorOptions
from sluice_processor.settings import processor_options, sqs_options
from sluice_processor.sources.log import LogSource

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """A source of nodes to process."""

    async def run(self, stop: asyncio.Event) -> None:
        """Process nodes until `stop`; those in progress then have the drain time to finish."""
        ...


def sources_of(
    settings: SluiceSettings,
    processor: NodeProcessor,
    metrics: ProcessorMetrics,
    wake: asyncio.Event,
) -> tuple[Source, ...]:
    """Return the sources of the settings, possibly none.

    Args:
        wake: set when this process publishes an event.
    """
    options = processor_options(settings)
    sources: list[Source] = []
    match settings.events:
        case Events.LOG:
            data_dir = DataDir(settings.data_dir)
            state = data_dir.processor
            sources.append(LogSource(data_dir.events, state, wake, processor, options, metrics))
        case Events.KAFKA:
            sources += _kafka_sources(settings, processor, options, metrics)
        case Events.OFF:
            pass
    sqs = sqs_options(settings)
    if sqs is not None:
        from sluice_processor.sources.sqs import SqsSource

        sources.append(SqsSource(sqs, processor, options, metrics))
    return tuple(sources)


def _kafka_sources(
    settings: SluiceSettings,
    processor: NodeProcessor,
    options: ProcessorOptions,
    metrics: ProcessorMetrics,
) -> list[Source]:
    from sluice_backends.kafka.lag import GroupLag
    from sluice_processor.sources.kafka import KAFKA, KAFKA_S3, work_consumer

    kafka, group = settings.to_kafka_options(), settings.processor.group
    s3_topic = settings.processor.s3_topic
    sources: list[Source] = [
        work_consumer(kafka, group, s3_topic, processor, options, metrics),
        GroupLag(kafka, group, UPLOADS_TOPIC, metrics.lag.labels(KAFKA).set),
    ]
    if s3_topic is not None:
        sources.append(GroupLag(kafka, group, s3_topic, metrics.lag.labels(KAFKA_S3).set))
    return sources


async def check_sources(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for an unusable queue, and for a Kafka that refuses the login or
    cannot be trusted.

    What is unavailable is only logged: it may come back.
    """
    if settings.events is Events.KAFKA:
        from sluice_backends.kafka.connection import check_login

        await check_login(settings.to_kafka_options())
    sqs = sqs_options(settings)
    if sqs is None:
        return
    from sluice_backends.sqs.queue import open_queue

    async with open_queue(sqs, concurrency=1) as queue:
        with as_configuration_error("SLUICE_SQS__QUEUE_URL"):
            try:
                await queue.facts()
            except Unavailable as error:
                _log.warning("queue.check_failed", error=str(error))


async def run_sources(sources: tuple[Source, ...], stop: asyncio.Event) -> None:
    """Run all sources concurrently until `stop`."""
    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(source.run(stop))
