"""Work from Kafka: the events of uploads, as a member of a consumer group."""

from __future__ import annotations

from sluice_common.events.kafka.consumer import EventConsumer
from sluice_common.events.kafka.handling import ConsumerOptions
from sluice_common.events.kafka.options import KafkaOptions
from sluice_common.events.kafka.receiving import ReceivedEvent
from sluice_common.events.port import UPLOADS_TOPIC
from sluice_common.telemetry.metrics import Metrics
from sluice_processor.deps import ProcessorOptions
from sluice_processor.handler import NodeProcessor
from sluice_processor.work import work_of


def uploads_consumer(
    kafka: KafkaOptions,
    group: str,
    processor: NodeProcessor,
    options: ProcessorOptions,
    metrics: Metrics,
) -> EventConsumer:
    """A member of `group` that processes the nodes of completed uploads.

    Tries, delays and dead letters are the consumer's: an event that fails `attempts` times, or
    for `handling_seconds`, goes to `<topic>.<group>.dlq`, and its partition moves on.
    """

    async def handle(event: ReceivedEvent) -> None:
        work = work_of(event.record, event.message)
        if work is not None:
            await processor.process(work)

    consuming = ConsumerOptions(
        group=group,
        topics=(UPLOADS_TOPIC,),
        concurrency=options.concurrency,
        attempts=options.attempts,
        handling_seconds=options.handling_seconds,
        retry_base_seconds=options.retry_base_seconds,
        retry_cap_seconds=options.retry_cap_seconds,
        drain_seconds=options.drain_seconds,
    )
    return EventConsumer(kafka, consuming, handle, metrics=metrics)
