"""Kafka source: upload events, and store notifications from a separate topic."""

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
from sluice_core.events.registry import BadEvent
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import RETRY_LATER_REASONS, NodeProcessor
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.notification_source import count_skipped, process_all
from sluice_processor.sources.store_notifications import BadNotification, Notice, parse_notification
from sluice_processor.sources.work import sort_notices, work_of

KAFKA: Final = "kafka"
KAFKA_S3: Final = "kafka-s3"
"""Names of the two topics' sources in the metrics."""


@dataclass(frozen=True, slots=True)
class ReceivedNotices:
    """A notification message of a store."""

    topic: str
    notices: Sequence[Notice]
    retry_number: int = 0

    @property
    def event_id(self) -> str:
        """Always empty: the handler recognizes repeats by the content of the object."""
        return ""


def work_consumer(
    kafka: KafkaOptions,
    group: str,
    s3_topic: str | None,
    processor: NodeProcessor,
    options: ProcessorOptions,
    metrics: ProcessorMetrics,
) -> MessageConsumer[ReceivedEvent | ReceivedNotices]:
    """Return a member of `group` that processes completed uploads and, with `s3_topic`, objects
    named by store notifications.

    The consumer handles retries, delays and dead letters. A message that fails `attempts` times,
    or for `handling_seconds`, goes to `<topic>.<group>.dlq`, and its partition advances. One that
    ran out of time first goes to `<topic>.<group>.retry`, `retries` times.
    """
    slots = asyncio.Semaphore(options.concurrency)

    def receive(raw: Any, max_bytes: int) -> ReceivedEvent | ReceivedNotices:
        return _notices(raw, max_bytes) if raw.topic == s3_topic else parse_event(raw, max_bytes)

    async def handle(message: ReceivedEvent | ReceivedNotices) -> None:
        if isinstance(message, ReceivedNotices):
            found = sort_notices(message.notices)
            count_skipped(metrics, KAFKA_S3, found)
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
        delayed_retries=DelayedRetries(RETRY_LATER_REASONS, options.retries, options.retry_seconds),
    )
    return MessageConsumer(kafka, consuming, receive, handle, metrics=metrics.consumer)


def _notices(raw: Any, max_bytes: int) -> ReceivedNotices:
    """Parse a notification message; raise `BadEvent` for anything else."""
    value: bytes = raw.value or b""
    if len(value) > max_bytes:
        raise BadEvent("TOO_LARGE", f"{len(value)} bytes are more than the {max_bytes} allowed")
    try:
        return ReceivedNotices(raw.topic, parse_notification(value), raw.retry_number)
    except BadNotification as error:
        raise BadEvent(error.reason, str(error)) from None
