"""Publisher on a real broker: ordered per key, no loss, explicit errors (rules 22 and 23)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from sluice_backends.kafka.metrics import PublisherMetrics
from sluice_backends.kafka.options import KafkaOptions, SecurityProtocol
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import InvalidArgument, Unavailable
from sluice_core.ports.event_publisher import refused_keys
from support.kafka import (
    failed,
    first_appearances,
    make_topic,
    messages_in,
    partitions_of,
    records_in,
    unique_name,
)
from support.waiting import until

KEYS = [f"node-{number}" for number in range(20)]


async def test_messages_carry_cloudevents_headers_in_binary_mode(
    kafka: KafkaOptions, topic: str
) -> None:
    event = failed(topic, "node-1", 1)
    async with open_kafka_publisher(kafka) as publisher:
        await publisher.publish([event])
    (message,) = await messages_in(kafka, topic)
    assert message.key == b"node-1"
    assert message.value == event.payload
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": event.event_id.encode(),
        "ce_type": b"sluice.events.v1.UploadFailed",
        "ce_source": b"sluice",
        "ce_time": b"2023-11-14T22:13:21.250000Z",
        "ce_subject": b"node-1",
        "ce_sluicetenant": b"default",
        "content-type": b"application/protobuf",
        "traceparent": b"00-00000000000000000000000000000002-00f067aa0ba902b7-01",
    }


@pytest.mark.rule(22)
async def test_events_of_a_key_stay_ordered_over_many_batches(
    kafka: KafkaOptions, topic: str
) -> None:
    events = [failed(topic, key, number) for number in range(40) for key in KEYS]
    async with open_kafka_publisher(replace(kafka, batch_bytes=2048)) as publisher:
        await publisher.publish(events[:300])
        await publisher.publish(events[300:])
    records = await records_in(kafka, topic)
    assert len(records) == len(events)
    for key in KEYS:
        assert [r for r in records if r.key == key] == [e for e in events if e.key == key]


async def test_concurrent_calls_are_serialized_without_loss(
    kafka: KafkaOptions, topic: str
) -> None:
    async with open_kafka_publisher(kafka) as publisher, asyncio.TaskGroup() as group:
        for key in KEYS:
            events = [failed(topic, key, number) for number in range(5)]
            group.create_task(publisher.publish(events))
    records = await records_in(kafka, topic)
    assert len(records) == 5 * len(KEYS)
    for key in KEYS:
        ids = [failed(topic, key, number).event_id for number in range(5)]
        assert [r.event_id for r in records if r.key == key] == ids


# ------------------------------------------------------------------ topics


async def test_missing_topic_is_created_with_configured_partitions(
    kafka: KafkaOptions, topic: str
) -> None:
    async with open_kafka_publisher(replace(kafka, partitions=7)) as publisher:
        await publisher.publish([failed(topic, "node-1", 1)])
    assert await partitions_of(kafka, topic) == 7


async def test_concurrent_topic_creation_succeeds(kafka: KafkaOptions, topic: str) -> None:
    async def publish(key: str) -> None:
        async with open_kafka_publisher(kafka) as publisher:
            await publisher.publish([failed(topic, key, 1)])

    async with asyncio.TaskGroup() as group:
        for key in KEYS[:4]:
            group.create_task(publish(key))
    assert sorted(r.key for r in await records_in(kafka, topic)) == KEYS[:4]


async def test_topic_with_fewer_partitions_only_warns(kafka: KafkaOptions, topic: str) -> None:
    await make_topic(kafka, topic, 2)
    with structlog.testing.capture_logs() as logs:
        async with open_kafka_publisher(kafka) as publisher:
            await publisher.publish([failed(topic, "node-1", 1)])
    (warning,) = [entry for entry in logs if entry["event"] == "topic.partitions_differ"]
    assert (warning["partitions"], warning["configured"]) == (2, 4)
    assert await partitions_of(kafka, topic) == 2


async def test_creation_error_names_the_topic(kafka: KafkaOptions, topic: str) -> None:
    async with open_kafka_publisher(replace(kafka, replication_factor=9)) as publisher:
        with pytest.raises(Unavailable, match=topic) as caught:
            await publisher.publish([failed(topic, "node-1", 1)])
    assert caught.value.reason == "EVENTS_TOPIC_MISSING"


# ------------------------------------------------------------------ refusals


async def test_oversized_event_is_named_and_nothing_is_sent(
    kafka: KafkaOptions, topic: str
) -> None:
    large = failed(topic, "node-2", 1, detail="x" * 5000)
    async with open_kafka_publisher(replace(kafka, max_event_bytes=4096)) as publisher:
        await publisher.publish([failed(topic, "node-1", 1)])
        with pytest.raises(InvalidArgument) as caught:
            await publisher.publish([failed(topic, "node-1", 2), large])
    assert caught.value.reason == "EVENT_REFUSED"
    assert caught.value.metadata == {"event_id": large.event_id, "key": "node-2"}
    assert len(await records_in(kafka, topic)) == 1


async def test_batches_shrink_to_the_topic_limit(kafka: KafkaOptions, topic: str) -> None:
    await make_topic(kafka, topic, 1, max_message_bytes="3000")
    small = [failed(topic, "node-1", number) for number in range(50)]
    large = failed(topic, "node-2", 1, detail="x" * 5000)
    async with open_kafka_publisher(kafka) as publisher:
        reasons: list[str] = []
        for _ in range(10):
            try:
                await publisher.publish(small)
                break
            except Unavailable as error:
                reasons.append(error.reason)
        assert set(reasons) == {"EVENTS_BATCH_TOO_LARGE"}
        with pytest.raises(InvalidArgument) as caught:
            await publisher.publish([large])
        assert caught.value.metadata == {"event_id": large.event_id, "key": "node-2"}
        await publisher.publish([failed(topic, "node-3", 1)])
    records = await records_in(kafka, topic)
    assert first_appearances(records, "node-1") == [event.event_id for event in small]
    assert first_appearances(records, "node-2") == []
    assert len(first_appearances(records, "node-3")) == 1


async def test_one_refusal_names_all_that_are_no_smaller(kafka: KafkaOptions, topic: str) -> None:
    """Each refusal costs a producer: one at a time they hold up whatever is behind them."""
    await make_topic(kafka, topic, 2, max_message_bytes="3000")
    fitting = [failed(topic, f"small-{number}", 1, detail="x" * 2000) for number in range(10)]
    large = [failed(topic, f"large-{number}", 1, detail="x" * 5000) for number in range(30)]
    smaller = failed(topic, "between", 1, detail="x" * 4000)
    named: list[frozenset[str]] = []
    reasons: set[str] = set()
    left = [*large[:15], *fitting, smaller, *large[15:]]
    async with open_kafka_publisher(kafka) as publisher:
        while left:
            try:
                await publisher.publish(left)
                break
            except Unavailable as error:
                reasons.add(error.reason)
            except InvalidArgument as error:
                named.append(refused_keys(error))
                left = [event for event in left if event.key not in named[-1]]
    assert reasons <= {"EVENTS_BATCH_TOO_LARGE"}
    assert frozenset().union(*named) == {event.key for event in (*large, smaller)}
    assert len(named) <= 2  # the smallest of them may be the second
    assert {record.key for record in await records_in(kafka, topic)} == {e.key for e in fitting}


# ------------------------------------------------------------------ uncertain outcomes


@pytest.mark.rule(22)
async def test_repeated_cancelled_calls_never_reorder_a_key(
    kafka: KafkaOptions, topic: str
) -> None:
    """The relay's deadline cancels the call at different points."""
    events = [failed(topic, key, number) for number in range(10) for key in KEYS[:5]]
    async with open_kafka_publisher(replace(kafka, batch_bytes=1024)) as publisher:
        await publisher.publish(events[:5])
        for step in range(12):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001 * step):
                    await publisher.publish(events[5:])
        await publisher.publish(events[5:])
    records = await records_in(kafka, topic)
    for key in KEYS[:5]:
        expected = [event.event_id for event in events if event.key == key]
        assert first_appearances(records, key) == expected


async def test_cancelled_call_sends_nothing_more(kafka: KafkaOptions, topic: str) -> None:
    """A relay that lost its lease must not send in the background either."""
    await make_topic(kafka, topic, 1)
    events = [failed(topic, "node-1", number) for number in range(3000)]
    metrics = PublisherMetrics()
    async with open_kafka_publisher(replace(kafka, batch_bytes=1024), metrics) as publisher:
        await publisher.publish(events[:1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await publisher.publish(events)
        arrived = -1
        while (before := arrived) != (arrived := len(await records_in(kafka, topic))):  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # requests on the wire arrive
        assert before == arrived < len(events)
    labels = {"reason": "CANCELLED"}
    assert metrics.registry.get_sample_value("sluice_event_publish_errors_total", labels) == 1


async def test_unreachable_broker_is_unavailable_and_counted() -> None:
    nowhere = KafkaOptions("127.0.0.1:9", publish_timeout_seconds=2, connect_timeout_seconds=1)
    metrics = PublisherMetrics()
    async with open_kafka_publisher(nowhere, metrics) as publisher:
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await publisher.publish([failed(unique_name(), "node-1", 1)])
            assert caught.value.reason == "EVENTS_UNAVAILABLE"
    labels = {"reason": "EVENTS_UNAVAILABLE"}
    count = metrics.registry.get_sample_value("sluice_event_publish_errors_total", labels)
    assert count == 2


async def test_refused_credentials_are_a_configuration_error(
    kafka: KafkaOptions,
) -> None:
    """The broker's listener has no SASL and refuses it."""
    refused = replace(
        kafka,
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        username="sluice",
        password=SecretStr("hush"),
    )
    with pytest.raises(ConfigurationError, match="refuses the credentials") as caught:
        async with open_kafka_publisher(refused):
            pass
    assert "hush" not in str(caught.value)


async def test_acknowledged_calls_are_timed(kafka: KafkaOptions, topic: str) -> None:
    metrics = PublisherMetrics()
    async with open_kafka_publisher(kafka, metrics) as publisher:
        await publisher.publish([failed(topic, "node-1", 1)])
    count = metrics.registry.get_sample_value("sluice_event_publish_seconds_count")
    assert count == 1


async def test_deleted_topic_is_created_again(kafka: KafkaOptions, topic: str) -> None:
    async with open_kafka_publisher(replace(kafka, publish_timeout_seconds=5)) as publisher:
        await publisher.publish([failed(topic, "node-1", 1)])
        admin = AIOKafkaAdminClient(bootstrap_servers=list(kafka.servers))
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()

        async def is_gone() -> bool:
            return await partitions_of(kafka, topic) == 0

        # Until the broker has applied the deletion it acknowledges events of the old topic.
        await until(is_gone, 60, "the broker deletes the topic")
        async with asyncio.timeout(60):
            while True:
                try:
                    await publisher.publish([failed(topic, "node-1", 2)])
                    break
                except Unavailable:
                    continue
    assert [r.event_id for r in await records_in(kafka, topic)] == [
        failed(topic, "node-1", 2).event_id
    ]
