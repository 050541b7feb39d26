"""Event publisher on Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_backends.kafka.connection import check_login
from sluice_backends.kafka.headers import to_headers, to_key
from sluice_backends.kafka.metrics import PublisherMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.producer import OrderedProducer, Outgoing
from sluice_backends.kafka.schemas import SchemaFrames, open_schema_frames
from sluice_core.errors import SluiceError
from sluice_core.ports.event_publisher import EventRecord

_CANCELLED = "CANCELLED"


class KafkaPublisher:
    """`EventPublisher` on Kafka; opened by `open_kafka_publisher`."""

    def __init__(
        self, producer: OrderedProducer, frames: SchemaFrames | None, metrics: PublisherMetrics
    ) -> None:
        self._producer = producer
        self._frames = frames
        self._metrics = metrics

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """See `EventPublisher`; all events of a key go to one partition."""
        started = asyncio.get_running_loop().time()
        try:
            await self._producer.send([await self._outgoing(event) for event in events])
        except SluiceError as error:
            self._metrics.publish_errors.labels(error.reason).inc()
            raise
        except asyncio.CancelledError:
            # Usually the caller's deadline.
            self._metrics.publish_errors.labels(_CANCELLED).inc()
            raise
        seconds = asyncio.get_running_loop().time() - started
        self._metrics.publish_seconds.observe(seconds)

    async def _outgoing(self, event: EventRecord) -> Outgoing:
        value = event.payload
        if self._frames is not None:
            value = await self._frames.frame(event)
        return Outgoing(event.topic, to_key(event), value, to_headers(event), event.event_id)


@asynccontextmanager
async def open_kafka_publisher(
    options: KafkaOptions, metrics: PublisherMetrics | None = None
) -> AsyncIterator[KafkaPublisher]:
    """Yield a publisher for the block.

    Kafka may be unavailable: uploads do not wait for it, and `publish` connects when it is back.
    Raise `ConfigurationError` when a broker refuses the credentials or the TLS files cannot be
    used.
    """
    await check_login(options)
    async with AsyncExitStack() as stack:
        frames: SchemaFrames | None = None
        if options.schema_registry_url is not None:
            frames = await stack.enter_async_context(open_schema_frames(options))
        producer = OrderedProducer(options)
        stack.push_async_callback(producer.aclose)
        yield KafkaPublisher(producer, frames, metrics or PublisherMetrics())
