"""Dead letters of a consumer group in Kafka: list, replay, drop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NoError, for_code

from sluice_backends.kafka.connection import client_arguments, start_client
from sluice_backends.kafka.dead_letters import MAX_LETTER_BYTES, dead_letter_topic
from sluice_backends.kafka.errors import unavailable
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.producer import OrderedProducer, Outgoing
from sluice_core.errors import FailedPrecondition

_POLL_MS: Final = 500
_PREFIX: Final = "dlq_"


@dataclass(frozen=True, slots=True)
class KafkaDeadLetter:
    """A dead letter and its partition."""

    raw: Any
    place: TopicPartition

    @property
    def facts(self) -> dict[str, str]:
        """Reason, origin and CloudEvents attributes of the letter, for people."""
        names = ("ce_id", "ce_type", "ce_subject", "ce_sluicetenant")
        return {
            name.removeprefix("ce_").removeprefix(_PREFIX): value.decode(errors="replace")
            for name, value in self.raw.headers
            if name in names or name.startswith(_PREFIX)
        }

    def original(self, topic: str) -> Outgoing:
        """Return the original message.

        Raise `FailedPrecondition` LETTER_WITHOUT_VALUE for one that was too large to keep.
        """
        if not self.raw.value:
            raise FailedPrecondition(
                "LETTER_WITHOUT_VALUE",
                "The message was too large for a dead letter; its headers say where the original"
                " is. Drop the letter to skip it.",
            )
        return Outgoing(
            topic=topic,
            key=self.raw.key or b"",
            value=self.raw.value,
            headers=[(n, v or b"") for n, v in self.raw.headers if not n.startswith(_PREFIX)],
            name=f"{self.place.topic}/{self.place.partition}/{self.raw.offset}",
        )


class KafkaDeadLetters:
    """The dead letters of one group on one topic; create it with `open_dead_letters`.

    A topic keeps all messages. Which letters are settled is stored as the committed offsets of
    the group `<group>.dlq`, so letters of a partition are settled in order.
    """

    def __init__(self, topic: str, consumer: Any, producer: OrderedProducer) -> None:
        self._topic = topic
        self._consumer = consumer
        self._producer = producer

    async def unsettled(self) -> AsyncIterator[KafkaDeadLetter]:
        """Yield letters neither replayed nor dropped, up to the current end of the topic."""
        partitions = self._consumer.assignment()
        if not partitions:
            return
        ends = await self._consumer.end_offsets(partitions)
        for place in sorted(partitions):
            while await self._consumer.position(place) < ends[place]:
                found = await self._consumer.getmany(place, timeout_ms=_POLL_MS)
                for raw in found.get(place, ()):
                    if raw.offset < ends[place]:
                        yield KafkaDeadLetter(raw, place)

    async def replay(self, letter: KafkaDeadLetter) -> None:
        """Publish the message to its original topic and settle the letter."""
        await self._producer.send([letter.original(self._topic)])
        await self.drop(letter)

    async def drop(self, letter: KafkaDeadLetter) -> None:
        """Settle the letter, and all before it in its partition."""
        await self._consumer.commit({letter.place: letter.raw.offset + 1})


@asynccontextmanager
async def open_dead_letters(
    options: KafkaOptions, topic: str, group: str
) -> AsyncIterator[KafkaDeadLetters]:
    """Open the dead letters of `group` on `topic`. Raise `Unavailable` EVENTS_UNAVAILABLE."""
    letters = dead_letter_topic(topic, group)
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(options.publish_timeout_seconds):
                partitions = await _partitions(options, letters)
                consumer = AIOKafkaConsumer(
                    **client_arguments(options),
                    group_id=f"{group}.dlq",
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    max_partition_fetch_bytes=MAX_LETTER_BYTES,
                )
                stack.push_async_callback(consumer.stop)
                if partitions:
                    consumer.assign(partitions)
                await start_client(consumer)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unavailable(error) from error
        producer = OrderedProducer(options)
        stack.push_async_callback(producer.aclose)
        try:
            yield KafkaDeadLetters(topic, consumer, producer)
        except KafkaError as error:
            raise unavailable(error) from error


async def _partitions(options: KafkaOptions, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic; an empty list if it does not exist yet."""
    admin = AIOKafkaAdminClient(**client_arguments(options))
    try:
        await start_client(admin)
        (described,) = await admin.describe_topics([topic])
        if for_code(described["error_code"]) is not NoError:
            return []
        return [TopicPartition(topic, one["partition"]) for one in described["partitions"]]
    finally:
        await admin.close()
