"""Kafka helpers: topics per test, sample events, and direct reads from the broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.group import LeaveGroupRequest

from sluice.events.v1 import uploads_pb2
from sluice_backends.kafka.connection import client_arguments
from sluice_backends.kafka.headers import from_message
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.ids import event_id
from support import services

_STUCK_SECONDS = 60.0
TYPE = "sluice.events.v1.UploadFailed"


def bootstrap_servers() -> str:
    """Return the tests' broker; skip with the mock, which has no topic administration."""
    return shared_broker().bootstrap_servers


def shared_broker() -> services.KafkaFacts:
    """Return the tests' broker with how to reach it; skip as `bootstrap_servers` does."""
    facts = services.kafka()
    if facts.kind == "mock":
        pytest.skip("the Kafka mock cannot create topics; install Java and Maven")
    return facts


def unique_name(what: str = "topic") -> str:
    """Return a unique name: tests share one broker, and their topics outlive them."""
    return f"test.{what}.{secrets.token_hex(6)}"


def failed(topic: str, key: str, number: int, *, detail: str = "") -> EventRecord:
    """Return a complete event, the `number`-th of node `key`."""
    identity = event_id(key, "UploadFailed", number)
    message = uploads_pb2.UploadFailed(
        header=uploads_pb2.EventHeader(event_id=identity, tenant="default", sequence=number),
        upload_id=f"upload-of-{key}",
        node_id=key,
        drive="photos",
        path=f"{key}.bin",
        reason="TEST",
        detail=detail,
    )
    return EventRecord(
        event_id=identity,
        type=TYPE,
        topic=topic,
        key=key,
        tenant="default",
        occurred_at=1_700_000_000.25 + number,
        payload=message.SerializeToString(),
        headers={"traceparent": f"00-{number + 1:032x}-00f067aa0ba902b7-01"},
    )


async def make_topic(options: KafkaOptions, topic: str, partitions: int, **settings: str) -> None:
    """Create a topic without the code under test; `_` in setting names is a dot."""
    admin = AIOKafkaAdminClient(**client_arguments(options))
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in settings.items()}
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=named)])
        assert [code for _, code, *_ in answer.topic_errors] == [0], answer
    finally:
        await admin.close()


async def partitions_of(options: KafkaOptions, topic: str) -> int:
    """Return the number of partitions of a topic; 0 without the topic."""
    admin = AIOKafkaAdminClient(**client_arguments(options))
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return len(described["partitions"])
    finally:
        await admin.close()


async def put(
    options: KafkaOptions,
    topic: str,
    *messages: tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]],
    max_request_size: int = 32 * 1024 * 1024,
) -> None:
    """Write raw messages: key, value, headers."""
    producer = AIOKafkaProducer(**client_arguments(options), max_request_size=max_request_size)
    await producer.start()
    try:
        for key, value, headers in messages:
            await producer.send_and_wait(topic, value, key=key, headers=list(headers))
    finally:
        await producer.stop()


async def ends_of(options: KafkaOptions, topic: str) -> dict[TopicPartition, int]:
    """Return the offsets of a topic's next messages."""
    partitions = [TopicPartition(topic, n) for n in range(await partitions_of(options, topic))]
    if not partitions:
        return {}  # the topic does not exist yet
    consumer = AIOKafkaConsumer(**client_arguments(options), enable_auto_commit=False)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


async def begin_at(
    options: KafkaOptions, group: str, offsets: Mapping[TopicPartition, int]
) -> None:
    """Commit a group's start offsets, so that it skips what other tests wrote before."""
    if not offsets:
        return  # the topic does not exist yet: every group begins at its start
    consumer = AIOKafkaConsumer(
        **client_arguments(options), group_id=group, enable_auto_commit=False
    )
    consumer.assign(list(offsets))
    await consumer.start()
    try:
        await consumer.commit(dict(offsets))
    finally:
        await consumer.stop()


async def forget_members(options: KafkaOptions, group: str) -> None:
    """Remove killed members from the group at once instead of after the session timeout."""
    admin = AIOKafkaAdminClient(**client_arguments(options))
    await admin.start()
    try:
        coordinator = await admin.find_coordinator(group)
        (answer,) = await admin.describe_consumer_groups([group], coordinator)
        for _, _, _, _, _, members, *_ in answer.groups:
            for member_id, *_ in members:
                await admin._send_request(LeaveGroupRequest(group, member_id), coordinator)
    finally:
        await admin.close()


async def messages_in(
    options: KafkaOptions, topic: str, since: Mapping[TopicPartition, int] | None = None
) -> list[Any]:
    """Return every message of the topic, partition by partition; none without the topic.

    All partitions are assigned at once: after each new assignment the broker answers the fetch of
    the former one first, half a second later. Fails when no partition gets further for
    `_STUCK_SECONDS`, with what the consumer waits for.

    Args:
        since: start offsets instead of the beginning; partitions not in it are new.
    """
    partitions = [TopicPartition(topic, n) for n in range(await partitions_of(options, topic))]
    messages: dict[TopicPartition, list[Any]] = {partition: [] for partition in partitions}
    if not partitions:
        return []
    consumer = AIOKafkaConsumer(
        **client_arguments(options),
        enable_auto_commit=False,
        max_partition_fetch_bytes=32 * 1024 * 1024,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        consumer.assign(partitions)
        for partition in partitions:
            # A position below the first message would be reset to behind the last one.
            wanted = 0 if since is None else since.get(partition, 0)
            consumer.seek(partition, max(begins[partition], wanted))
        positions: dict[TopicPartition, int] = {}
        moved = time.monotonic()
        while True:
            # Positions, not messages, are counted: transactions and compaction leave gaps.
            current = {partition: await _position(consumer, partition) for partition in partitions}
            left = {each for each in partitions if current[each] < ends[each]}
            if not left:
                return [message for each in partitions for message in messages[each]]
            if current != positions:
                positions, moved = current, time.monotonic()
            assert time.monotonic() < moved + _STUCK_SECONDS, (
                f"no message of {left} from {positions} to {ends}: {vars(consumer._fetcher)}"
            )
            for partition, batch in (await consumer.getmany(timeout_ms=200)).items():
                messages[partition] += [
                    message for message in batch if message.offset < ends[partition]
                ]
    finally:
        await consumer.stop()


async def _position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Return the offset of the next message. Fails when it is being reset for too long.

    The client waits for a reset without a limit of its own, and one follows when the broker
    removes messages between the question for the first of them and the first fetch.
    """
    try:
        async with asyncio.timeout(_STUCK_SECONDS):
            position: int = await consumer.position(partition)
    except TimeoutError:
        state = vars(consumer._fetcher)
        raise AssertionError(f"{partition} has no position: {state}") from None
    return position


async def records_in(
    options: KafkaOptions, topic: str, since: Mapping[TopicPartition, int] | None = None
) -> list[EventRecord]:
    """Return the events in a topic, partition by partition, with raw payloads."""
    return [
        from_message(raw.topic, raw.key, raw.value, raw.headers)
        for raw in await messages_in(options, topic, since)
    ]


async def committed(options: KafkaOptions, group: str, partition: TopicPartition) -> int | None:
    """Return the committed offset of a group."""
    consumer = AIOKafkaConsumer(
        **client_arguments(options), group_id=group, enable_auto_commit=False
    )
    consumer.assign([partition])
    await consumer.start()
    try:
        offset: int | None = await consumer.committed(partition)
        return offset
    finally:
        await consumer.stop()


async def lag_of(options: KafkaOptions, group: str, topic: str) -> int:
    """Return the lag of a group, as an autoscaler reads it from the broker."""
    lag = 0
    for partition, end in (await ends_of(options, topic)).items():
        lag += end - (await committed(options, group, partition) or 0)
    return lag


def first_appearances(records: Sequence[EventRecord], key: str) -> list[str]:
    """Return the ids of a key's events without repeats."""
    return list(dict.fromkeys(record.event_id for record in records if record.key == key))
