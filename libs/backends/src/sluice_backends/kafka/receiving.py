"""From Kafka's messages back to events."""

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
from sluice_backends.kafka.schemas import unframed
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import EventRecord

_log = structlog.get_logger(__name__)
_REBALANCE_SECONDS = 30.0
"""How long a member of a group may take to give up its partitions."""
_BETWEEN_POLLS_SECONDS = 86_400.0
"""How long a member may not ask for more. The client would have it leave the group after five
minutes, and have all begin anew what it has in hand: a batch of slow events would never end. That
it lives is what heartbeats tell; that no handler hangs, the limit of its time."""


class Start(StrEnum):
    """Where reading begins when nobody remembers."""

    BEGINNING = "beginning"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event, its message, and where it stood."""

    record: EventRecord
    message: Message
    partition: int
    offset: int
    tried_later: int = 0
    """Later tries, this one included (`later.py`)."""

    @property
    def event_id(self) -> str:
        return self.record.event_id

    @property
    def topic(self) -> str:
        return self.record.topic


def received(raw: Any, max_bytes: int) -> ReceivedEvent:
    """The event in a client's record; raises `BadEvent` when there is none that can be trusted."""
    value: bytes = raw.value or b""
    if len(value) > max_bytes:
        raise BadEvent("TOO_LARGE", f"{len(value)} bytes are more than the {max_bytes} allowed")
    try:
        record = from_message(raw.topic, raw.key, value, raw.headers)
    except NotAnEvent as error:
        raise BadEvent("NOT_AN_EVENT", str(error)) from None
    record = replace(record, payload=unframed(value))
    tried_later = getattr(raw, "tried_later", 0)  # a client's own record has none
    return ReceivedEvent(record, parse_record(record), raw.partition, raw.offset, tried_later)


@asynccontextmanager
async def open_consumer(
    options: KafkaOptions,
    topics: Sequence[str],
    start: Start,
    *,
    group: str | None = None,
    listener: ConsumerRebalanceListener | None = None,
) -> AsyncIterator[Any]:
    """The client's consumer for the length of the block; offsets are committed by hand.

    Without a group it reads every partition. Raises `Unavailable` EVENTS_UNAVAILABLE.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(options),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if start is Start.BEGINNING else "latest",
        rebalance_timeout_ms=int(_REBALANCE_SECONDS * 1000),
        max_poll_interval_ms=int(_BETWEEN_POLLS_SECONDS * 1000),
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
    """Leave the group; a broker that hangs finds out by itself that we are gone."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        _log.warning("consumer_not_closed", error=repr(error))
