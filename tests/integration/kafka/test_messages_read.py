"""The helper that reads whole topics: also those with gaps between the offsets."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from sluice_backends.kafka.connection import client_arguments
from sluice_backends.kafka.options import KafkaOptions
from support.kafka import ends_of, make_topic, messages_in, put, unique_name


async def test_topic_that_ends_with_transactions_is_read(kafka: KafkaOptions) -> None:
    """Their markers have offsets and are no messages, also at the ends of the partitions."""
    topic = unique_name()
    await make_topic(kafka, topic, 3)
    for number in range(2):
        producer = AIOKafkaProducer(**client_arguments(kafka), transactional_id=f"{topic}-{number}")
        await producer.start()
        try:
            await producer.begin_transaction()
            for partition in (0, 1):
                await producer.send_and_wait(topic, b"%d" % number, partition=partition)
            await (producer.commit_transaction() if number else producer.abort_transaction())
        finally:
            await producer.stop()
    found = [(each.partition, each.value) for each in await messages_in(kafka, topic)]
    assert found == [(0, b"0"), (0, b"1"), (1, b"0"), (1, b"1")]
    assert sum((await ends_of(kafka, topic)).values()) > len(found)


async def test_messages_since_offsets_are_read_by_partition(kafka: KafkaOptions) -> None:
    """More than one fetch of the consumer returns, and from partitions that it did not know too."""
    topic = unique_name()
    await make_topic(kafka, topic, 12)
    await put(kafka, topic, *((b"%d" % number, b"old", ()) for number in range(40)))
    ends = await ends_of(kafka, topic)
    await put(kafka, topic, *((b"%d" % number, b"new", ()) for number in range(1_500)))
    found = await messages_in(kafka, topic, ends)
    assert [each.value for each in found] == [b"new"] * 1_500
    assert [each.partition for each in found] == sorted(each.partition for each in found)
    places = [(each.partition, each.offset) for each in found]
    assert places == sorted(places)
    assert len(await messages_in(kafka, topic, {})) == len(await messages_in(kafka, topic)) == 1_540
