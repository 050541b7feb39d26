"""The way of messages to the brokers: in order per key, all or a clear "not certain".

The client's producer is idempotent and sends a batch again until it is acknowledged, so what one
batch holds is appended once, whole and in order. Four things are ours:

- A partition has one batch in flight. The client would send the batches behind one that failed,
  and a later event would overtake an earlier one of its key.
- Any doubt (an error, a deadline, a cancelled call) ends the producer: its sequence numbers have a
  gap after a failed batch, and nothing may go on sending in the background what the caller was
  told has failed. The next call starts with a new one.
- What an ended producer had on the wire may still arrive, late. The caller repeats everything from
  the earliest message that is not acknowledged, so it is a repetition and overtakes nothing.
- Memory: one call at a time, and of it one batch per partition.
"""

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

from sluice_common.errors import InvalidArgument, SluiceError, Unavailable
from sluice_common.events.kafka.connection import client_arguments, start_client
from sluice_common.events.kafka.errors import TOO_LARGE, unavailable
from sluice_common.events.kafka.headers import Headers
from sluice_common.events.kafka.options import KafkaOptions
from sluice_common.events.kafka.topics import ensure_topics
from sluice_common.events.port import event_refused

_log = structlog.get_logger(__name__)
_FRAME_BYTES = 100
"""What a record has around key, value and headers, generously."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message; `name` is what an error calls it."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    name: str

    @property
    def size(self) -> int:
        """Bytes on the wire, about."""
        headers = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return _FRAME_BYTES + len(self.key) + len(self.value) + headers


class OrderedProducer:
    """Sends messages; safe to call concurrently, calls take turns. Close it with `aclose`."""

    def __init__(self, options: KafkaOptions, *, max_message_bytes: int | None = None) -> None:
        """`max_message_bytes`: what the topics are made to take, if not what brokers usually do."""
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
        """Returns when every in-sync replica has them all.

        Raises `Unavailable` when that is not certain, and `InvalidArgument` EVENT_REFUSED for a
        message that no broker will take, which also names those of its topic that are no smaller.
        Then, or when it is cancelled, some may have arrived.
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
                raise _told(group.exceptions) from group
            except (KafkaError, OSError, TimeoutError) as error:
                self._end()
                raise unavailable(error) from error
            except BaseException:
                self._end()
                raise

    async def aclose(self) -> None:
        """End the producer; nothing is in flight once every call of `send` has returned."""
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
                alike = [message for message in messages if message.topic == topic]
                group.create_task(self._send_lane(producer, topic, number, lane, alike))

    async def _send_lane(
        self,
        producer: Any,
        topic: str,
        partition: int,
        lane: deque[Outgoing],
        alike: Sequence[Outgoing],
    ) -> None:
        """The messages of one partition, batch after batch; `alike` are all of its topic."""
        while lane:
            batch = producer.create_batch()
            taken: list[Outgoing] = []
            while lane and _fits(batch, lane[0]):
                taken.append(lane.popleft())
            batch.close()
            try:
                await (await producer.send_batch(batch, topic, partition=partition))
            except TOO_LARGE as error:
                # The topic takes less than brokers usually do, and it counts by the batch.
                if len(taken) == 1:
                    raise _refused(*_no_smaller(producer, taken[0], alike)) from error
                self._batch_bytes = max(1, batch.size() // 4)
                raise Unavailable(
                    "EVENTS_BATCH_TOO_LARGE",
                    f"The topic {topic} takes smaller batches only; the next ones are smaller.",
                ) from error

    async def _started(self) -> Any:
        """The producer that is in use, or a new one once the last has ended."""
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
        """Let nothing more go out, now; closing its connections takes a moment longer."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            if (sending := producer._sender.sender_task) is not None:
                sending.cancel()
            self._ending = asyncio.create_task(self._close(producer), name="end of a producer")
            # Topics may have been deleted; whoever starts anew looks again.
            self._known_topics.clear()

    async def _ended(self) -> None:
        """Until the connections of the last producer are closed. Waiting, unlike awaiting, lets
        it come to its end when we are cancelled, and how it ended is not our caller's affair."""
        if self._ending is not None:
            await asyncio.wait([self._ending])
            self._ending = None

    async def _close(self, producer: Any) -> None:
        """The client's own stop() waits until every batch is acknowledged, for ever if need be.

        So its sending task, cancelled by now, is waited for (it lets requests end that are on the
        wire), then the batches that are left are forgotten, and stop() has nothing to wait for.
        """
        sending = producer._sender.sender_task
        if sending is not None:
            await asyncio.wait([sending], timeout=self._options.request_timeout_seconds)
        producer._message_accumulator._batches.clear()
        producer._message_accumulator._pending_batches.clear()
        try:
            async with asyncio.timeout(self._options.request_timeout_seconds):
                await producer.stop()
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("producer_not_closed", error=repr(error))


def _fits(batch: Any, message: Outgoing) -> bool:
    """Append the message, unless the batch is full; an empty batch takes any."""
    appended = batch.append(
        timestamp=None, key=message.key, value=message.value, headers=message.headers
    )
    return appended is not None


def _no_smaller(producer: Any, refused: Outgoing, alike: Iterable[Outgoing]) -> list[Outgoing]:
    """Return a refused message, and after it those of its topic that are at least as large.

    The limit counts for all of them. Refused one by one, each would end a producer, and whatever
    is behind them would wait for as many new ones.
    """

    def size(message: Outgoing) -> int:
        batch = producer.create_batch()  # not compressed: its size decides
        _fits(batch, message)
        found: int = batch.size()
        return found

    limit = size(refused)
    others = [one for one in alike if one is not refused and size(one) >= limit]
    return [refused, *others]


def _refused(message: Outgoing, *others: Outgoing) -> InvalidArgument:
    return event_refused(
        message.name,
        message.key.decode(errors="replace"),
        f"Event {message.name} has {message.size} bytes, more than {message.topic} takes;"
        " raise the topic's max.message.bytes and the limit of events.",
        other_keys={other.key.decode(errors="replace") for other in others},
    )


def _told(errors: Iterable[BaseException]) -> BaseException:
    """What the caller gets of several errors: first of all that an event is refused."""
    ours = [error for error in errors if isinstance(error, SluiceError)]
    refused = [error for error in ours if isinstance(error, InvalidArgument)]
    return next(iter(refused or ours), None) or unavailable(next(iter(errors)))
