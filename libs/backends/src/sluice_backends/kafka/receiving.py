"""Events from Kafka messages, and the client's consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from google.protobuf.message import Message

from sluice_backends.kafka.connection import client_arguments, start_client
from sluice_backends.kafka.errors import unavailable
from sluice_backends.kafka.headers import NotAnEvent, from_message
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.schemas import strip_frame
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import EventRecord

_log = structlog.get_logger(__name__)
_REBALANCE_SECONDS = 30.0
"""Time that a group member gets to release its partitions."""
_MAX_POLL_INTERVAL_SECONDS = 86_400.0
"""Longest time between two polls. With the client's default of five minutes, a batch of slow events
would cost the member its place, and the next owner would start the same batch anew, without end.
Heartbeats prove that the member lives; `handling_seconds` ends handlers that hang."""


class Start(StrEnum):
    """Start of reading without a committed offset."""

    BEGINNING = "beginning"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """Event with its parsed message and position."""

    record: EventRecord
    message: Message
    partition: int
    offset: int
    retry_number: int = 0
    """Delayed retries, this one included (`DelayedRetries`)."""

    @property
    def event_id(self) -> str:
        return self.record.event_id

    @property
    def topic(self) -> str:
        return self.record.topic


def parse_event(raw: Any, max_bytes: int) -> ReceivedEvent:
    """Return the event of a client's record; raise `BadEvent` if it holds no valid one."""
    value: bytes = raw.value or b""
    if len(value) > max_bytes:
        raise BadEvent("TOO_LARGE", f"{len(value)} bytes are more than the {max_bytes} allowed")
    try:
        record = from_message(raw.topic, raw.key, value, raw.headers)
    except NotAnEvent as error:
        raise BadEvent("NOT_AN_EVENT", str(error)) from None
    record = replace(record, payload=strip_frame(value))
    retry_number = getattr(raw, "retry_number", 0)  # a client's own record has none
    return ReceivedEvent(record, parse_record(record), raw.partition, raw.offset, retry_number)


@asynccontextmanager
async def open_consumer(
    options: KafkaOptions,
    topics: Sequence[str],
    start: Start,
    *,
    group: str | None = None,
    listener: ConsumerRebalanceListener | None = None,
) -> AsyncIterator[Any]:
    """Yield the client's consumer for the block; the caller commits offsets.

    Without a group it reads every partition. Raise `Unavailable` EVENTS_UNAVAILABLE.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(options),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if start is Start.BEGINNING else "latest",
        rebalance_timeout_ms=int(_REBALANCE_SECONDS * 1000),
        max_poll_interval_ms=int(_MAX_POLL_INTERVAL_SECONDS * 1000),
        max_partition_fetch_bytes=options.max_event_bytes,
    )
    try:
        try:
            consumer.subscribe(list(topics), listener=listener)
            async with asyncio.timeout(options.connect_timeout_seconds):
                await start_client(consumer)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unavailable(error) from error
        yield consumer
    finally:
        await _stop(consumer, 2 * options.request_timeout_seconds)


async def _stop(consumer: Any, seconds: float) -> None:
    """Leave the group; a broker that hangs removes the member when its session times out."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        _log.warning("consumer.close_failed", error=repr(error))
