"""Handling every event at least once, in order per key, without one bad event stopping the rest.

- Offsets are committed after handling, so a crash repeats events and loses none; `SeenEvents` lets
  a repetition pass without effect.
- A partition is handled in batches: keys side by side, the events of one key one after the other.
  A slow or failing event holds up its own partition's batch, and none of the other partitions.
- An event that fails is tried again, a few times and for less than 30 seconds; then it goes to the
  dead letters, and so does at once what is no event at all. While the dead letters cannot be
  written, the partition waits: nothing is skipped.
- A partition that is taken away is first brought to rest: what is in hand is finished, nothing new
  begun, and what is handled is committed, so that the next owner repeats as little as possible.
"""

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
from sluice_backends.kafka.later import with_retry_topics
from sluice_backends.kafka.metrics import KafkaMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent, open_consumer, received
from sluice_backends.kafka.topics import ensure_topics
from sluice_core.errors import SluiceError

_log = structlog.get_logger(__name__)
_POLL_MS = 500
_BUSY_POLL_MS = 50
"""A partition that becomes free while others are polled waits no longer than this."""
_RECONNECT_SECONDS = 2.0


class MessageConsumer(Generic[M]):
    """One member of a consumer group, for messages of whatever kind `receive` reads.

    Args:
        receive: see `Handling`.
        handler: see `Handler`; called for at most `concurrency` messages at once.
        seen: what makes repetitions harmless; by default the ids that this process handled last.
    """

    def __init__(
        self,
        kafka: KafkaOptions,
        options: ConsumerOptions,
        receive: Callable[[Any, int], M],
        handler: Callable[[M], Awaitable[None]],
        *,
        seen: SeenEvents | None = None,
        metrics: KafkaMetrics | None = None,
    ) -> None:
        self._kafka = kafka
        self._options = options
        self._receive = receive
        self._handler = handler
        self._seen = seen or RecentlySeen()
        self._metrics = metrics or KafkaMetrics()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`, then finish what is in hand and leave the group.

        Kafka may be away, now and later; the consumer comes back by itself.
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
                    _log.warning("consumer_waits", group=self._options.group, error=str(error))
                    await _wait(stop, _RECONNECT_SECONDS)
        finally:
            await letters.aclose()

    async def _consume(self, handling: Handling[M], stop: asyncio.Event) -> None:
        topics = self._options.topics
        if self._options.later is not None:
            topics = with_retry_topics(topics, self._options.group)
        try:
            async with asyncio.timeout(self._kafka.publish_timeout_seconds):
                await ensure_topics(self._kafka, topics)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unavailable(error) from error
        work = _Work(self._options, handling, self._metrics)
        async with open_consumer(
            self._kafka,
            topics,
            self._options.start,
            group=self._options.group,
            listener=_Listener(work),
        ) as consumer:
            failure: KafkaError | None = None
            # A batch fails by a defect only; that ends the consumer.
            async with asyncio.TaskGroup() as group:
                work.consumer, work.group = consumer, group
                try:
                    await self._poll(consumer, work, stop)
                except KafkaError as error:
                    failure = error
                finally:
                    await work.rest(list(work.partitions))
            if failure is not None:
                raise unavailable(failure) from failure

    async def _poll(self, consumer: Any, work: _Work, stop: asyncio.Event) -> None:
        while not stop.is_set():
            assigned = consumer.assignment()
            free = [partition for partition in assigned if partition not in work.partitions]
            if work.partitions and not free:
                await work.wait_for_one(_POLL_MS / 1000)
                continue
            batches = await consumer.getmany(
                *free,
                timeout_ms=_BUSY_POLL_MS if work.partitions else _POLL_MS,
                max_records=self._options.batch_events,
            )
            for partition, messages in batches.items():
                work.begin(partition, messages)


class EventConsumer(MessageConsumer[ReceivedEvent]):
    """One member of a consumer group, for events of ours."""

    def __init__(
        self,
        kafka: KafkaOptions,
        options: ConsumerOptions,
        handler: Handler,
        *,
        seen: SeenEvents | None = None,
        metrics: KafkaMetrics | None = None,
    ) -> None:
        super().__init__(kafka, options, received, handler, seen=seen, metrics=metrics)


@dataclass(slots=True)
class _InHand:
    """The batch of a partition that is being handled."""

    task: asyncio.Task[None]
    leaving: asyncio.Event


@dataclass(slots=True)
class _Work:
    """What a consumer has in hand: at most one batch per partition."""

    options: ConsumerOptions
    handling: Handling[Any]
    metrics: KafkaMetrics
    consumer: Any = None
    group: asyncio.TaskGroup | None = None
    partitions: dict[TopicPartition, _InHand] = field(default_factory=dict)

    def begin(self, partition: TopicPartition, messages: Sequence[Any]) -> None:
        """Handle a batch in the background."""
        assert self.group is not None, "nothing is polled outside the group"
        leaving = asyncio.Event()
        task = self.group.create_task(self._batch(partition, messages, leaving))
        self.partitions[partition] = _InHand(task, leaving)

    async def wait_for_one(self, seconds: float) -> None:
        """Until some batch is through."""
        tasks = [in_hand.task for in_hand in self.partitions.values()]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def rest(self, partitions: Collection[TopicPartition]) -> None:
        """Bring partitions to rest: handlers that run may end, within the drain time."""
        found = [self.partitions[each] for each in partitions if each in self.partitions]
        for in_hand in found:
            in_hand.leaving.set()
        tasks = [in_hand.task for in_hand in found]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self.options.drain_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _batch(
        self, partition: TopicPartition, messages: Sequence[Any], leaving: asyncio.Event
    ) -> None:
        settled = [False] * len(messages)
        by_key: defaultdict[bytes | int, list[int]] = defaultdict(list)
        for index, message in enumerate(messages):
            # Without a key there is no order to keep.
            by_key[index if message.key is None else message.key].append(index)

        async def in_order(indexes: Sequence[int]) -> None:
            for index in indexes:
                if not await self.handling.settle(messages[index], leaving):
                    return
                settled[index] = True

        try:
            async with asyncio.TaskGroup() as group:
                for indexes in by_key.values():
                    group.create_task(in_order(indexes))
        finally:
            try:
                through = settled.index(False) if False in settled else len(settled)
                if through:
                    await self._commit(partition, messages[through - 1].offset + 1)
            finally:
                del self.partitions[partition]

    async def _commit(self, partition: TopicPartition, offset: int) -> None:
        """Remember how far we are. That it fails is no harm: events come again, and are seen."""
        try:
            async with asyncio.timeout(self.options.drain_seconds):
                await self.consumer.commit({partition: offset})
            end = self.consumer.highwater(partition)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            _log.warning(
                "offset_not_committed",
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
    """Partitions are given up at rest."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._work.rest(revoked)
        for partition in revoked:
            # Whoever has it next says how far it is.
            labels = (self._work.options.group, partition.topic, str(partition.partition))
            self._work.metrics.lag.remove(*labels)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        _log.info(
            "partitions_assigned",
            group=self._work.options.group,
            partitions=[f"{each.topic}/{each.partition}" for each in sorted(assigned)],
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
