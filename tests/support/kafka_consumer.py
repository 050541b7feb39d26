"""A consumer that runs for a block, its handler, and what it leaves on the broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.dead_letters import dead_letter_topic
from sluice_backends.kafka.handling import ConsumerOptions, Handler, RecentlySeen
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_core.ports.event_publisher import EventRecord
from support.kafka import messages_in


@dataclass
class Handled:
    """Handler that records its events and may fail them."""

    events: list[ReceivedEvent] = field(default_factory=list)
    fails: Callable[[ReceivedEvent], Exception | None] = lambda event: None
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def __call__(self, event: ReceivedEvent) -> None:
        self.calls[event.record.event_id] += 1
        if (error := self.fails(event)) is not None:
            raise error
        self.events.append(event)

    def ids(self, key: str | None = None) -> list[str]:
        return [e.record.event_id for e in self.events if key in (None, e.record.key)]


@asynccontextmanager
async def running(
    kafka: KafkaOptions,
    options: ConsumerOptions,
    handler: Handler,
    *,
    seen: RecentlySeen | None = None,
    metrics: ConsumerMetrics | None = None,
) -> AsyncIterator[None]:
    """Run a consumer for the block; stop it as a service does."""
    stop = asyncio.Event()
    consumer = EventConsumer(kafka, options, handler, seen=seen, metrics=metrics)
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer.run(stop))
        try:
            yield
        finally:
            stop.set()


async def publish(kafka: KafkaOptions, *events: EventRecord) -> None:
    async with open_kafka_publisher(kafka) as publisher:
        await publisher.publish(events)


async def letters(kafka: KafkaOptions, options: ConsumerOptions) -> list[dict[str, bytes]]:
    """Return the headers of the group's dead letters."""
    name = dead_letter_topic(options.topics[0], options.group)
    return [dict(message.headers) for message in await messages_in(kafka, name)]
