"""Measurement of the work that waits for the processors, where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from sluice_backends.sqs.options import SqsOptions
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_gateway.jobs.pressure import MEASURE_SECONDS, Backlog, BackPressure

_log = structlog.get_logger(__name__)

Measuring = Callable[[asyncio.Event], Awaitable[None]]
"""Measures until the event is set."""


@asynccontextmanager
async def measuring(settings: SluiceSettings, pressure: BackPressure) -> AsyncIterator[None]:
    """Measure every backlog of the settings while the block runs."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_running(measure, stop), name="backlog")
            for measure in (pressure.run, *_sources(settings, pressure))
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _running(measure: Measuring, stop: asyncio.Event) -> None:
    await measure(stop)


def _sources(settings: SluiceSettings, pressure: BackPressure) -> Sequence[Measuring]:
    sources: list[Measuring] = []
    if settings.events is Events.KAFKA:
        from sluice_backends.kafka.lag import GroupLag

        kafka, group = settings.to_kafka_options(), settings.processor.group
        topics = {Backlog.KAFKA: UPLOADS_TOPIC, Backlog.KAFKA_S3: settings.processor.s3_topic}
        sources += [
            GroupLag(kafka, group, topic, partial(pressure.report, backlog)).run
            for backlog, topic in topics.items()
            if topic is not None
        ]
    if settings.sqs.queue_url is not None:
        options = SqsOptions(**settings.sqs.model_dump())
        sources.append(partial(measure_queue, options, pressure))
    return sources


async def measure_queue(options: SqsOptions, pressure: BackPressure, stop: asyncio.Event) -> None:
    """Measure the depth of the queue; while it does not answer nothing is reported."""
    from sluice_backends.sqs.queue import open_queue

    async with open_queue(options, concurrency=1) as queue:
        while True:
            try:
                pressure.report(Backlog.SQS, (await queue.facts()).waiting)
            except SluiceError as error:
                _log.warning("backlog.measurement_failed", backlog="sqs", error=str(error))
            if await wait_at_most(stop, MEASURE_SECONDS):
                return
