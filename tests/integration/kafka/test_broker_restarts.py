"""Broker killed, paused and restarted: no loss, no reordering per key (fault row 10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.publisher import KafkaPublisher, open_kafka_publisher
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_core.errors import Unavailable
from sluice_core.ports.event_publisher import EventRecord
from support.kafka import failed, first_appearances, records_in, unique_name
from support.kafka_broker import KafkaBroker
from support.waiting import until

KEYS = [f"node-{number}" for number in range(6)]
PAGE = 60
PAGES = 40

pytestmark = pytest.mark.slow


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path)
    try:
        await broker.start()
        yield broker
    finally:
        broker.kill()


async def relay(publisher: KafkaPublisher, events: list[EventRecord], published: list[int]) -> None:
    """Publish like the relay: page by page, each retried under a deadline until acknowledged."""
    for start in range(0, len(events), PAGE):
        while True:
            try:
                async with asyncio.timeout(3):
                    await publisher.publish(events[start : start + PAGE])
                break
            except (Unavailable, TimeoutError):
                await asyncio.sleep(0.2)
        published.append(start)


@pytest.mark.rule(22)
async def test_publishing_resumes_after_broker_restart(
    broker: KafkaBroker,
) -> None:
    topic = unique_name()
    events = [failed(topic, KEYS[n % 6], n) for n in range(PAGE * PAGES)]
    published: list[int] = []
    async with open_kafka_publisher(replace(broker.options, batch_bytes=2048)) as publisher:
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(relay(publisher, events, published))
            await until(lambda: len(published) > 3)
            broker.kill()
            await asyncio.sleep(1)
            await broker.start()
            resumed_at = len(published)
            await until(lambda: len(published) > resumed_at + 3)
            broker.pause()
            await asyncio.sleep(4)
            assert not publishing.done()
            broker.go_on()
        records = await records_in(broker.options, topic)
    for key in KEYS:
        expected = [event.event_id for event in events if event.key == key]
        assert first_appearances(records, key) == expected


async def test_consumer_survives_broker_restart_without_loss(broker: KafkaBroker) -> None:
    topic = unique_name()
    events = [failed(topic, KEYS[n % 6], n) for n in range(300)]
    handled: list[str] = []
    stop = asyncio.Event()

    async def handler(event: ReceivedEvent) -> None:
        await asyncio.sleep(0.01)
        handled.append(event.record.event_id)

    options = ConsumerOptions("group", (topic,), batch_events=20, concurrency=2)
    async with open_kafka_publisher(broker.options) as publisher:
        await publisher.publish(events)
    async with asyncio.TaskGroup() as group:
        group.create_task(EventConsumer(broker.options, options, handler).run(stop))
        await until(lambda: len(handled) > 40)
        broker.kill()
        await asyncio.sleep(1)
        await broker.start()
        await until(lambda: len(set(handled)) == len(events), seconds=90)
        stop.set()
    assert set(handled) == {event.event_id for event in events}
