"""Lag of a consumer group, for autoscalers and back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluice_backends.kafka.connection import client_arguments, start_client
from sluice_backends.kafka.options import KafkaOptions

_log = structlog.get_logger(__name__)
_INTERVAL_SECONDS: Final = 10.0


class GroupLag:
    """Measures the lag of a group on one topic periodically.

    The lag is read from the broker, not from this process, so that it covers the whole group and
    stays correct while no member makes progress.

    Args:
        report: takes each measurement, in messages.
    """

    def __init__(
        self, kafka: KafkaOptions, group: str, topic: str, report: Callable[[int], None]
    ) -> None:
        self._kafka = kafka
        self._group = group
        self._topic = topic
        self._report = report

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until `stop`; while Kafka is unavailable nothing is reported."""
        while not stop.is_set():
            try:
                async with _clients(self._kafka) as (admin, consumer):
                    while not stop.is_set():
                        self._report(await self._measure(admin, consumer))
                        await _pause(stop)
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("lag.measurement_failed", group=self._group, error=repr(error))
                await _pause(stop)

    async def _measure(self, admin: Any, consumer: Any) -> int:
        async with asyncio.timeout(2 * self._kafka.request_timeout_seconds):
            (described,) = await admin.describe_topics([self._topic])
            partitions = [
                TopicPartition(self._topic, one["partition"]) for one in described["partitions"]
            ]
            done = await admin.list_consumer_group_offsets(self._group, partitions=partitions)
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
        # An offset of -1 means none: the partition will be read from its beginning.
        return sum(
            max(0, ends[each] - max(begins[each], done[each].offset if each in done else -1))
            for each in partitions
        )


@asynccontextmanager
async def _clients(options: KafkaOptions) -> AsyncIterator[tuple[Any, Any]]:
    async with AsyncExitStack() as stack:
        admin = AIOKafkaAdminClient(**client_arguments(options))
        stack.push_async_callback(admin.close)
        consumer = AIOKafkaConsumer(**client_arguments(options), enable_auto_commit=False)
        stack.push_async_callback(consumer.stop)
        async with asyncio.timeout(options.connect_timeout_seconds):
            await start_client(admin)
            await start_client(consumer)
        yield admin, consumer


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_INTERVAL_SECONDS):
            await stop.wait()
    except TimeoutError:
        return
