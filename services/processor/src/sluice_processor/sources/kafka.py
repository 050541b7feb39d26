"""Work from Kafka, as a member of a consumer group: the events of uploads, and what a store tells
of its objects in a topic of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sluice_backends.kafka.consumer import MessageConsumer
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent, parse_event
from sluice_backends.kafka.retry_topics import DelayedRetries
from sluice_common.telemetry.metrics import Metrics
from sluice_core.events.registry import BadEvent
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_processor.deps import ProcessorOptions
from sluice_processor.nodes.handler import TRIED_LATER, NodeProcessor
from sluice_processor.sources.notification_source import count_passed, process_all
from sluice_processor.sources.store_notifications import BadNotification, Notice, parse_notification
from sluice_processor.sources.work import sorted_notices, work_of

KAFKA: Final = "kafka"
KAFKA_S3: Final = "kafka-s3"
"""What metrics call the two."""


@dataclass(frozen=True, slots=True)
class ReceivedNotices:
    """A message of a store."""

    topic: str
    notices: Sequence[Notice]
    retry_number: int = 0

    @property
    def event_id(self) -> str:
        """None: the handler knows by the content of an object what it has looked at."""
        return ""


def work_consumer(
    kafka: KafkaOptions,
    group: str,
    s3_topic: str | None,
    processor: NodeProcessor,
    options: ProcessorOptions,
    metrics: Metrics,
) -> MessageConsumer[ReceivedEvent | ReceivedNotices]:
    """A member of `group` that processes the nodes of completed uploads and, if there is a topic
    for them, of the objects that a store tells of.

    Tries, delays and dead letters are the consumer's: a message that fails `attempts` times, or
    for `handling_seconds`, goes to `<topic>.<group>.dlq`, and its partition moves on. One that ran
    out of time goes to `<topic>.<group>.retry` first, `retries` times.
    """
    slots = asyncio.Semaphore(options.concurrency)

    def receive(raw: Any, max_bytes: int) -> ReceivedEvent | ReceivedNotices:
        return _notices(raw, max_bytes) if raw.topic == s3_topic else parse_event(raw, max_bytes)

    async def handle(message: ReceivedEvent | ReceivedNotices) -> None:
        if isinstance(message, ReceivedNotices):
            found = sorted_notices(message.notices)
            count_passed(metrics, KAFKA_S3, found)
            is_final = message.retry_number >= options.retries
            await process_all(processor, found, slots, is_final=is_final)
            return
        work = work_of(message.record, message.message)
        if work is not None:
            is_final = message.retry_number >= options.retries
            await processor.process(replace(work, is_final=is_final))

    consuming = ConsumerOptions(
        group=group,
        topics=(UPLOADS_TOPIC,) if s3_topic is None else (UPLOADS_TOPIC, s3_topic),
        concurrency=options.concurrency,
        attempts=options.attempts,
        handling_seconds=options.handling_seconds,
        retry_base_seconds=options.retry_base_seconds,
        retry_cap_seconds=options.retry_cap_seconds,
        drain_seconds=options.drain_seconds,
        delayed_retries=DelayedRetries(TRIED_LATER, options.retries, options.retry_seconds),
    )
    return MessageConsumer(kafka, consuming, receive, handle, metrics=metrics.kafka)


def _notices(raw: Any, max_bytes: int) -> ReceivedNotices:
    """Raises `BadEvent` for what no store sends."""
    value: bytes = raw.value or b""
    if len(value) > max_bytes:
        raise BadEvent("TOO_LARGE", f"{len(value)} bytes are more than the {max_bytes} allowed")
    try:
        return ReceivedNotices(raw.topic, parse_notification(value), raw.retry_number)
    except BadNotification as error:
        raise BadEvent(error.reason, str(error)) from None
