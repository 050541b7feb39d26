"""Ordered producer: messages in order per key, all acknowledged or `Unavailable`."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from sluice_backends.kafka.aiokafka_internals import discard_batches, sender_task
from sluice_backends.kafka.connection import client_arguments, start_client
from sluice_backends.kafka.errors import TOO_LARGE, unavailable
from sluice_backends.kafka.headers import Headers
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.topics import ensure_topics
from sluice_core.errors import InvalidArgument, SluiceError, Unavailable
from sluice_core.ports.event_publisher import event_refused

_log = structlog.get_logger(__name__)
_FRAME_BYTES = 100
"""Upper bound of a record's overhead around key, value and headers."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Message to send; error texts call it `name`."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    name: str

    @property
    def size(self) -> int:
        """Bytes on the wire, an upper estimate."""
        headers = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return _FRAME_BYTES + len(self.key) + len(self.value) + headers


class OrderedProducer:
    """Sender of messages. Concurrent calls are serialized. Close it with `aclose`.

    The client's producer is idempotent and resends a batch until it is acknowledged, so the
    messages of one batch are appended once, whole and in order. This class adds:

    - One batch in flight per partition. The client would send the batches behind a failed one, and
      a later event would overtake an earlier one of its key.
    - Any uncertainty (an error, a deadline, a cancelled call) stops the producer: after a failed
      batch its sequence numbers have a gap, and it must not go on sending in the background what
      the caller has seen fail. The next call starts a new producer.
    - Requests of a stopped producer may still arrive late. The caller repeats everything from the
      earliest message that is not acknowledged, so a late message is a repetition and overtakes
      nothing.
    - Bounded memory: one call at a time, one batch per partition.
    """

    def __init__(self, options: KafkaOptions, *, max_message_bytes: int | None = None) -> None:
        """`max_message_bytes`: limit of created topics; by default the broker's."""
        self._options = options
        self._topic_message_bytes = max_message_bytes
        self._max_message_bytes = max_message_bytes or options.max_event_bytes
        self._batch_bytes = options.batch_bytes
        self._partition_of = DefaultPartitioner()
        self._turn = asyncio.Lock()
        self._producer: Any = None
        self._ending: asyncio.Task[None] | None = None
        self._known_topics: set[str] = set()

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages; return when every in-sync replica has all of them.

        Raise `Unavailable` when the outcome is uncertain, and `InvalidArgument` EVENT_REFUSED for
        a message that no broker accepts; it also names those of the topic that are no smaller.
        After an error or a cancellation, some may have arrived.
        """
        too_large = [one for one in messages if one.size > self._max_message_bytes]
        if too_large:
            raise _refused(*too_large)
        if not messages:
            return
        async with self._turn:
            try:
                async with asyncio.timeout(self._options.publish_timeout_seconds):
                    await self._send(messages)
            except BaseExceptionGroup as group:
                self._end()
                raise _first_error(group.exceptions) from group
            except (KafkaError, OSError, TimeoutError) as error:
                self._end()
                raise unavailable(error) from error
            except BaseException:
                self._end()
                raise

    async def aclose(self) -> None:
        """Stop the producer; nothing is in flight once every call of `send` has returned."""
        self._end()
        await self._ended()

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        topics = {message.topic for message in messages}
        if missing := topics - self._known_topics:
            await ensure_topics(self._options, missing, max_message_bytes=self._topic_message_bytes)
            self._known_topics |= missing
        producer = await self._started()
        partitions = {
            topic: sorted(await producer.partitions_for(topic)) for topic in sorted(topics)
        }
        lanes: defaultdict[tuple[str, int], deque[Outgoing]] = defaultdict(deque)
        for message in messages:
            numbers = partitions[message.topic]
            number = self._partition_of(message.key, numbers, numbers)
            lanes[message.topic, number].append(message)
        async with asyncio.TaskGroup() as group:
            for (topic, number), lane in lanes.items():
                group.create_task(self._send_lane(producer, topic, number, lane, messages))

    async def _send_lane(
        self,
        producer: Any,
        topic: str,
        partition: int,
        lane: deque[Outgoing],
        messages: Sequence[Outgoing],
    ) -> None:
        """Send a lane, the messages of one partition, batch after batch; `messages`: all lanes."""
        while lane:
            batch = producer.create_batch()
            sent: list[Outgoing] = []
            while lane and _append(batch, lane[0]):
                sent.append(lane.popleft())
            batch.close()
            try:
                await (await producer.send_batch(batch, topic, partition=partition))
            except TOO_LARGE as error:
                # The topic's limit is below the broker's default and applies to the whole batch.
                if len(sent) == 1:
                    raise _refused(*_no_smaller(producer, sent[0], messages)) from error
                self._batch_bytes = max(1, batch.size() // 4)
                raise Unavailable(
                    "EVENTS_BATCH_TOO_LARGE",
                    f"The batch is too large for the topic {topic}; try again with smaller ones.",
                ) from error

    async def _started(self) -> Any:
        """Return the current producer, or a new one once the last is closed."""
        await self._ended()
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **client_arguments(self._options),
                acks="all",
                enable_idempotence=True,
                max_batch_size=self._batch_bytes,
                max_request_size=2**31 - 1,  # sizes are checked here
            )
            await start_client(self._producer)
        return self._producer

    def _end(self) -> None:
        """Stop sending at once; close the connections in the background."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            if (sending := sender_task(producer)) is not None:
                sending.cancel()
            self._ending = asyncio.create_task(self._close(producer), name="close a producer")
            # Topics may have been deleted meanwhile; the next producer checks again.
            self._known_topics.clear()

    async def _ended(self) -> None:
        """Wait until the last producer is closed.

        Unlike awaiting the task, `asyncio.wait` neither cancels it when this call is cancelled nor
        raises its error.
        """
        if self._ending is not None:
            await asyncio.wait([self._ending])
            self._ending = None

    async def _close(self, producer: Any) -> None:
        """Close a producer without waiting for unacknowledged batches.

        The client's stop() waits for every batch, without a limit. So wait for its cancelled
        sender task (it finishes requests that are on the wire), drop the remaining batches, then
        stop().
        """
        sending = sender_task(producer)
        if sending is not None:
            await asyncio.wait([sending], timeout=self._options.request_timeout_seconds)
        discard_batches(producer)
        try:
            async with asyncio.timeout(self._options.request_timeout_seconds):
                await producer.stop()
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("producer.close_failed", error=repr(error))


def _append(batch: Any, message: Outgoing) -> bool:
    """Append a message; return False if the batch is full. An empty batch takes any message."""
    appended = batch.append(
        timestamp=None, key=message.key, value=message.value, headers=message.headers
    )
    return appended is not None


def _no_smaller(producer: Any, refused: Outgoing, messages: Iterable[Outgoing]) -> list[Outgoing]:
    """Return a refused message, and after it those of its topic that are at least as large.

    The topic's limit applies to all of them. Refused one by one, each would stop a producer, and
    the messages behind them would wait for as many new ones.
    """

    def size(message: Outgoing) -> int:
        batch = producer.create_batch()  # not compressed: its size decides
        _append(batch, message)
        found: int = batch.size()
        return found

    limit = size(refused)
    others = [
        one
        for one in messages
        if one.topic == refused.topic and one is not refused and size(one) >= limit
    ]
    return [refused, *others]


def _refused(message: Outgoing, *others: Outgoing) -> InvalidArgument:
    return event_refused(
        message.name,
        message.key.decode(errors="replace"),
        f"Event {message.name} has {message.size} bytes, more than {message.topic} accepts;"
        " raise the topic's max.message.bytes and the limit of events.",
        other_keys={other.key.decode(errors="replace") for other in others},
    )


def _first_error(errors: Iterable[BaseException]) -> BaseException:
    """Return the most specific of several errors: a refused event before all others."""
    ours = [error for error in errors if isinstance(error, SluiceError)]
    refused = [error for error in ours if isinstance(error, InvalidArgument)]
    return next(iter(refused or ours), None) or unavailable(next(iter(errors)))
