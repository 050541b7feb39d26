"""Dead letters in Kafka: what a consumer group gave up on, to be looked at, replayed or dropped.

A topic keeps everything, so what is settled is remembered as the offsets of a group of its own,
`<group>.dlq`: letters are settled in the order in which they lie in their partition.
"""

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
class KafkaLetter:
    """A dead letter and where it lies."""

    raw: Any
    place: TopicPartition

    @property
    def facts(self) -> dict[str, str]:
        """Why it is here and where it was, with the CloudEvents attributes, for people."""
        names = ("ce_id", "ce_type", "ce_subject", "ce_sluicetenant")
        return {
            name.removeprefix("ce_").removeprefix(_PREFIX): value.decode(errors="replace")
            for name, value in self.raw.headers
            if name in names or name.startswith(_PREFIX)
        }

    def original(self, topic: str) -> Outgoing:
        """The message as it came. Raises `FailedPrecondition` LETTER_WITHOUT_VALUE for one that
        was too large to be kept whole."""
        if not self.raw.value:
            raise FailedPrecondition(
                "LETTER_WITHOUT_VALUE",
                "The message was too large for a letter; its headers say where the whole one is."
                " Drop the letter to pass it by.",
            )
        return Outgoing(
            topic=topic,
            key=self.raw.key or b"",
            value=self.raw.value,
            headers=[(n, v or b"") for n, v in self.raw.headers if not n.startswith(_PREFIX)],
            name=f"{self.place.topic}/{self.place.partition}/{self.raw.offset}",
        )


class KafkaLetters:
    """The letters of one group on one topic; made by `open_letters`."""

    def __init__(self, topic: str, consumer: Any, producer: OrderedProducer) -> None:
        self._topic = topic
        self._consumer = consumer
        self._producer = producer

    async def unsettled(self) -> AsyncIterator[KafkaLetter]:
        """Those that nobody has replayed or dropped, up to the end as it is now."""
        partitions = self._consumer.assignment()
        if not partitions:
            return
        ends = await self._consumer.end_offsets(partitions)
        for place in sorted(partitions):
            while await self._consumer.position(place) < ends[place]:
                found = await self._consumer.getmany(place, timeout_ms=_POLL_MS)
                for raw in found.get(place, ()):
                    if raw.offset < ends[place]:
                        yield KafkaLetter(raw, place)

    async def replay(self, letter: KafkaLetter) -> None:
        """Publish the message again where it came from; then it is settled."""
        await self._producer.send([letter.original(self._topic)])
        await self.drop(letter)

    async def drop(self, letter: KafkaLetter) -> None:
        """It is settled, and with it those before it in its partition."""
        await self._consumer.commit({letter.place: letter.raw.offset + 1})


@asynccontextmanager
async def open_letters(
    options: KafkaOptions, topic: str, group: str
) -> AsyncIterator[KafkaLetters]:
    """The letters of `group` on `topic`. Raises `Unavailable` EVENTS_UNAVAILABLE."""
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
            yield KafkaLetters(topic, consumer, producer)
        except KafkaError as error:
            raise unavailable(error) from error


async def _partitions(options: KafkaOptions, topic: str) -> list[TopicPartition]:
    """None of a topic that nobody has needed yet."""
    admin = AIOKafkaAdminClient(**client_arguments(options))
    try:
        await start_client(admin)
        (described,) = await admin.describe_topics([topic])
        if for_code(described["error_code"]) is not NoError:
            return []
        return [TopicPartition(topic, one["partition"]) for one in described["partitions"]]
    finally:
        await admin.close()
