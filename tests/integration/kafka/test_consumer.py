"""Consumer on a real broker: at least once, ordered per key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace

import pytest

from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.handling import ConsumerOptions, RecentlySeen
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent
from support.kafka import failed, make_topic
from support.kafka_consumer import Handled, publish, running
from support.waiting import until

KEYS = [f"node-{number}" for number in range(8)]


# ------------------------------------------------------------------ handling


async def test_events_are_decoded_and_ordered_per_key(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    events = [failed(topic, key, number) for number in range(30) for key in KEYS]
    await publish(kafka, *events)
    handled = Handled()
    async with running(kafka, options, handled):
        await until(lambda: len(handled.events) == len(events))
    for key in KEYS:
        assert handled.ids(key) == [event.event_id for event in events if event.key == key]
    first = handled.events[0]
    assert first.record == next(e for e in events if e.event_id == first.record.event_id)
    assert first.message.path == f"{first.record.key}.bin"  # type: ignore[attr-defined]


async def test_keys_run_concurrently_and_each_key_in_sequence(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await publish(kafka, *(failed(topic, key, n) for n in range(5) for key in KEYS))
    active: defaultdict[str, int] = defaultdict(int)
    most: defaultdict[str, int] = defaultdict(int)
    done = 0

    async def handler(event: ReceivedEvent) -> None:
        nonlocal done
        for name in (event.record.key, "all"):
            active[name] += 1
            most[name] = max(most[name], active[name])
        await asyncio.sleep(0.02)
        for name in (event.record.key, "all"):
            active[name] -= 1
        done += 1

    async with running(kafka, replace(options, concurrency=4), handler):
        await until(lambda: done == 5 * len(KEYS))
    assert most.pop("all") == 4
    assert set(most.values()) == {1}


async def test_handled_events_are_committed(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await publish(kafka, *(failed(topic, "node-1", n) for n in range(5)))
    first = Handled()
    async with running(kafka, options, first):
        await until(lambda: len(first.events) == 5)
    await publish(kafka, failed(topic, "node-1", 5))
    second = Handled()
    async with running(kafka, options, second):
        await until(lambda: len(second.events) == 1)
    assert second.ids() == [failed(topic, "node-1", 5).event_id]


async def test_killed_consumer_leaves_its_event_to_the_next(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await publish(kafka, *(failed(topic, "node-1", n) for n in range(3)))
    reached = asyncio.Event()

    async def hangs(event: ReceivedEvent) -> None:
        if event.record.event_id == failed(topic, "node-1", 1).event_id:
            reached.set()
            await asyncio.Event().wait()

    dying = EventConsumer(kafka, replace(options, drain_seconds=0.1), hangs)
    task = asyncio.create_task(dying.run(asyncio.Event()))
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    successor = Handled()
    async with running(kafka, options, successor):
        await until(lambda: len(successor.events) >= 2)
    assert successor.ids()[-2:] == [failed(topic, "node-1", n).event_id for n in (1, 2)]


@pytest.mark.rule(23)
async def test_redelivered_event_is_a_no_op(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    again = [failed(topic, "node-1", n) for n in (1, 2)]
    await publish(kafka, *again, *again, failed(topic, "node-1", 3))
    handled, metrics = Handled(), ConsumerMetrics()
    async with running(kafka, options, handled, metrics=metrics):
        await until(lambda: len(handled.events) >= 3)
    assert handled.ids() == [failed(topic, "node-1", n).event_id for n in (1, 2, 3)]
    labels = {"group": options.group, "topic": topic, "outcome": "repeated"}
    assert metrics.registry.get_sample_value("sluice_consumer_events_total", labels) == 2


async def test_lag_falls_to_zero(kafka: KafkaOptions, options: ConsumerOptions, topic: str) -> None:
    await make_topic(kafka, topic, 1)
    await publish(kafka, *(failed(topic, "node-1", n) for n in range(10)))
    handled, metrics = Handled(), ConsumerMetrics()
    labels = {"group": options.group, "topic": topic, "partition": "0"}

    def lag() -> float | None:
        return metrics.registry.get_sample_value("sluice_consumer_lag", labels)

    async with running(kafka, replace(options, batch_events=4), handled, metrics=metrics):
        await until(lambda: lag() == 0)
    assert len(handled.events) == 10


# ------------------------------------------------------------------ groups


async def test_rebalance_loses_nothing_and_keeps_order(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    """Members come and go while events are being handled."""
    events = [failed(topic, key, number) for number in range(60) for key in KEYS]
    await publish(kafka, *events)
    seen, handled = RecentlySeen(), Handled()

    async def slowly(event: ReceivedEvent) -> None:
        await asyncio.sleep(0.005)
        await handled(event)

    small = replace(options, batch_events=20)
    async with running(kafka, small, slowly, seen=seen):
        await until(lambda: len(handled.events) > 40)
        async with running(kafka, small, slowly, seen=seen):
            await until(lambda: len(handled.events) > 200, seconds=60)
        await until(lambda: len(handled.events) >= len(events), seconds=60)
    for key in KEYS:
        assert list(dict.fromkeys(handled.ids(key))) == [
            event.event_id for event in events if event.key == key
        ]


async def test_revoked_partition_is_committed_first(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    """So the next owner, which has no record of handled events, repeats none."""
    events = [failed(topic, key, number) for number in range(30) for key in KEYS]
    await publish(kafka, *events)
    handled = Handled()

    async def slowly(event: ReceivedEvent) -> None:
        await asyncio.sleep(0.005)
        await handled(event)

    small = replace(options, batch_events=20)
    async with running(kafka, small, slowly):
        await until(lambda: len(handled.events) > 40)
        async with running(kafka, small, slowly):
            await until(lambda: len(handled.events) == len(events), seconds=60)
    assert set(handled.calls.values()) == {1}


async def test_consumer_waits_for_an_unreachable_broker() -> None:
    nowhere = KafkaOptions("127.0.0.1:9", publish_timeout_seconds=1, connect_timeout_seconds=1)
    handled = Handled()
    async with running(nowhere, ConsumerOptions("group", ("topic",)), handled):
        await asyncio.sleep(1.5)
    assert handled.events == []
