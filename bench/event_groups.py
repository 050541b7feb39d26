"""Consumer groups of Kafka, which earlier runs on the same topics must not keep busy."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition


async def begin_at_the_end(brokers: str, group: str, *topics: str) -> None:
    """Set the group to the end of the topics, past the events of earlier runs."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer.topics()  # loads the metadata of their partitions
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        if partitions:
            consumer.assign(partitions)
            await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()
