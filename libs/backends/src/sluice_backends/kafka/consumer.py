"""Consumer group member: at-least-once delivery, ordered per key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from sluice_backends.kafka.dead_letters import DeadLetters
from sluice_backends.kafka.errors import unavailable
from sluice_backends.kafka.handling import (
    ConsumerOptions,
    Handler,
    Handling,
    M,
    RecentlySeen,
    SeenEvents,
)
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent, open_consumer, parse_event
from sluice_backends.kafka.retry_topics import with_retry_topics
from sluice_backends.kafka.topics import ensure_topics
from sluice_core.errors import SluiceError

_log = structlog.get_logger(__name__)
_POLL_MS = 500
_BUSY_POLL_MS = 50
"""Longest wait of a partition that becomes idle while others are polled."""
_RECONNECT_SECONDS = 2.0


class MessageConsumer(Generic[M]):
    """Member of a consumer group, for messages of the kind that `receive` parses.

    - Offsets are committed after handling: a crash redelivers events and loses none. `SeenEvents`
      makes a redelivered event a no-op.
    - A partition is handled in batches. Keys run concurrently, the events of one key in sequence.
      A slow or failing event delays the batch of its own partition only.
    - A failing event is retried a few times, for less than 30 seconds, then written to the dead
      letters. A message that cannot be parsed becomes a dead letter at once. While dead letters
      cannot be written, the partition waits; nothing is skipped.
    - A revoked partition is drained first: running handlers finish, no new ones start, and the
      offset is committed, so that the next owner repeats as little as possible.

    Args:
        receive: see `Handling`.
        handler: see `Handler`; called for at most `concurrency` messages at once.
        seen: deduplicates redelivered events; by default the latest ids that this process handled.
    """

    def __init__(
        self,
        kafka: KafkaOptions,
        options: ConsumerOptions,
        receive: Callable[[Any, int], M],
        handler: Callable[[M], Awaitable[None]],
        *,
        seen: SeenEvents | None = None,
        metrics: ConsumerMetrics | None = None,
    ) -> None:
        self._kafka = kafka
        self._options = options
        self._receive = receive
        self._handler = handler
        self._seen = seen or RecentlySeen()
        self._metrics = metrics or ConsumerMetrics()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`, then drain the running batches and leave the group.

        While Kafka is unavailable, reconnect every `_RECONNECT_SECONDS`.
        """
        letters = DeadLetters(self._kafka, self._options.group)
        handling = Handling(
            self._options,
            self._receive,
            self._handler,
            self._seen,
            letters,
            self._metrics,
            self._kafka.max_event_bytes,
        )
        try:
            while not stop.is_set():
                try:
                    await self._consume(handling, stop)
                except SluiceError as error:
                    _log.warning("consumer.failed", group=self._options.group, error=str(error))
                    await _wait(stop, _RECONNECT_SECONDS)
        finally:
            await letters.aclose()

    async def _consume(self, handling: Handling[M], stop: asyncio.Event) -> None:
        topics = self._options.topics
        if self._options.delayed_retries is not None:
            topics = with_retry_topics(topics, self._options.group)
        try:
            async with asyncio.timeout(self._kafka.publish_timeout_seconds):
                await ensure_topics(self._kafka, topics)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unavailable(error) from error
        batches = _Batches(self._options, handling, self._metrics)
        async with open_consumer(
            self._kafka,
            topics,
            self._options.start,
            group=self._options.group,
            listener=_Listener(batches),
        ) as consumer:
            failure: KafkaError | None = None
            # Only a defect makes a batch raise; that stops the consumer.
            async with asyncio.TaskGroup() as group:
                batches.consumer, batches.group = consumer, group
                try:
                    await self._poll(consumer, batches, stop)
                except KafkaError as error:
                    failure = error
                finally:
                    await batches.drain(list(batches.running))
            if failure is not None:
                raise unavailable(failure) from failure

    async def _poll(self, consumer: Any, batches: _Batches, stop: asyncio.Event) -> None:
        while not stop.is_set():
            assigned = consumer.assignment()
            idle = [partition for partition in assigned if partition not in batches.running]
            if batches.running and not idle:
                await batches.wait_for_one(_POLL_MS / 1000)
                continue
            fetched = await consumer.getmany(
                *idle,
                timeout_ms=_BUSY_POLL_MS if batches.running else _POLL_MS,
                max_records=self._options.batch_events,
            )
            for partition, messages in fetched.items():
                batches.start(partition, messages)


class EventConsumer(MessageConsumer[ReceivedEvent]):
    """Member of a consumer group, for the events that Sluice publishes."""

    def __init__(
        self,
        kafka: KafkaOptions,
        options: ConsumerOptions,
        handler: Handler,
        *,
        seen: SeenEvents | None = None,
        metrics: ConsumerMetrics | None = None,
    ) -> None:
        super().__init__(kafka, options, parse_event, handler, seen=seen, metrics=metrics)


@dataclass(slots=True)
class _RunningBatch:
    """Batch of a partition that is being handled."""

    task: asyncio.Task[None]
    revoked: asyncio.Event


@dataclass(slots=True)
class _Batches:
    """Running batches of a consumer, at most one per partition."""

    options: ConsumerOptions
    handling: Handling[Any]
    metrics: ConsumerMetrics
    consumer: Any = None
    group: asyncio.TaskGroup | None = None
    running: dict[TopicPartition, _RunningBatch] = field(default_factory=dict)

    def start(self, partition: TopicPartition, messages: Sequence[Any]) -> None:
        """Handle a batch in the background."""
        assert self.group is not None, "polling happens inside the task group only"
        revoked = asyncio.Event()
        task = self.group.create_task(self._run(partition, messages, revoked))
        self.running[partition] = _RunningBatch(task, revoked)

    async def wait_for_one(self, seconds: float) -> None:
        """Wait until a batch has finished."""
        tasks = [batch.task for batch in self.running.values()]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self, partitions: Collection[TopicPartition]) -> None:
        """Wait for the running handlers of partitions; cancel them after the drain time."""
        batches = [self.running[each] for each in partitions if each in self.running]
        for batch in batches:
            batch.revoked.set()
        tasks = [batch.task for batch in batches]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self.options.drain_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, partition: TopicPartition, messages: Sequence[Any], revoked: asyncio.Event
    ) -> None:
        settled = [False] * len(messages)
        by_key: defaultdict[bytes | int, list[int]] = defaultdict(list)
        for index, message in enumerate(messages):
            # Messages without a key have no order.
            by_key[index if message.key is None else message.key].append(index)

        async def in_order(indexes: Sequence[int]) -> None:
            for index in indexes:
                if not await self.handling.settle(messages[index], revoked):
                    return
                settled[index] = True

        try:
            async with asyncio.TaskGroup() as group:
                for indexes in by_key.values():
                    group.create_task(in_order(indexes))
        finally:
            try:
                count = settled.index(False) if False in settled else len(settled)
                if count:
                    await self._commit(partition, messages[count - 1].offset + 1)
            finally:
                del self.running[partition]

    async def _commit(self, partition: TopicPartition, offset: int) -> None:
        """Commit an offset. A failure is harmless: redelivered events are deduplicated."""
        try:
            async with asyncio.timeout(self.options.drain_seconds):
                await self.consumer.commit({partition: offset})
            end = self.consumer.highwater(partition)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            _log.warning(
                "offset.commit_failed",
                topic=partition.topic,
                partition=partition.partition,
                error=repr(error),
            )
            return
        if end is not None:
            self.metrics.lag.labels(
                self.options.group, partition.topic, str(partition.partition)
            ).set(max(0, end - offset))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the client has no types
    """Drains partitions before they are revoked."""

    def __init__(self, batches: _Batches) -> None:
        self._batches = batches

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._batches.drain(revoked)
        for partition in revoked:
            # The next owner reports the lag.
            labels = (self._batches.options.group, partition.topic, str(partition.partition))
            self._batches.metrics.lag.remove(*labels)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        _log.info(
            "partitions.assigned",
            group=self._batches.options.group,
            partitions=[f"{each.topic}/{each.partition}" for each in sorted(assigned)],
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
