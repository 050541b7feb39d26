"""Contract of event publishers. Add an adapter by one line in ALL, or in READABLE with a function
that returns its published events in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sluice_backends.discard.events import NoEvents
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_backends.log.event_log import open_event_log, read_events
from sluice_core.ports.event_publisher import (
    NODES_TOPIC,
    UPLOADS_TOPIC,
    EventPublisher,
    EventRecord,
)
from support.kafka import bootstrap_servers, records_in

RUN = secrets.token_hex(4)
"""Folders of tests have the same names in every run, and the broker forgets nothing."""

Published = Callable[[], Awaitable[list[EventRecord]]]
Factory = Callable[[Path], AbstractAsyncContextManager[tuple[EventPublisher, Published]]]


@asynccontextmanager
async def off(path: Path) -> AsyncIterator[tuple[EventPublisher, Published]]:
    async def nothing() -> list[EventRecord]:
        return []

    yield NoEvents(), nothing


@asynccontextmanager
async def log(path: Path) -> AsyncIterator[tuple[EventPublisher, Published]]:
    async def published() -> list[EventRecord]:
        return [event.record async for event in read_events(path / "events")]

    async with open_event_log(path / "events", fsync=False) as publisher:
        yield publisher, published


@asynccontextmanager
async def log_fsync(path: Path) -> AsyncIterator[tuple[EventPublisher, Published]]:
    async def published() -> list[EventRecord]:
        return [event.record async for event in read_events(path / "events")]

    async with open_event_log(path / "events", fsync=True) as publisher:
        yield publisher, published


@asynccontextmanager
async def kafka(path: Path) -> AsyncIterator[tuple[EventPublisher, Published]]:
    """Publish to topics of this test only: the broker's other topics are shared."""
    options = KafkaOptions(bootstrap_servers(), partitions=3)
    prefix = f"test.{RUN}.{hashlib.sha256(bytes(path)).hexdigest()[:12]}."

    class Prefixed:
        async def publish(self, events: Sequence[EventRecord]) -> None:
            await publisher.publish([replace(e, topic=prefix + e.topic) for e in events])

    async def published() -> list[EventRecord]:
        found = [
            record
            for topic in (UPLOADS_TOPIC, NODES_TOPIC)
            for record in await records_in(options, prefix + topic)
        ]
        return [replace(e, topic=e.topic.removeprefix(prefix)) for e in found]

    async with open_kafka_publisher(options) as publisher:
        yield Prefixed(), published


READABLE: list[Factory] = [log, log_fsync, kafka]
ALL: list[Factory] = [*READABLE, off]


def name_of(factory: Factory) -> str:
    return cast(str, getattr(factory, "__name__", "publisher"))


def event(number: int, key: str = "node-1", topic: str = UPLOADS_TOPIC) -> EventRecord:
    return EventRecord(
        event_id=f"id-{key}-{number}",
        type="sluice.events.v1.UploadCompleted",
        topic=topic,
        key=key,
        tenant="default",
        occurred_at=1_700_000_000.25 + number,
        payload=bytes(range(256)) + number.to_bytes(4, "big"),
        headers={"traceparent": f"00-{number:032x}-00f067aa0ba902b7-01"},
    )


@pytest.mark.parametrize("factory", READABLE, ids=name_of)
async def test_published_events_round_trip(factory: Factory, tmp_path: Path) -> None:
    events = [event(1), event(2, topic=NODES_TOPIC)]
    async with factory(tmp_path) as (publisher, published):
        await publisher.publish(events)
        assert await published() == events


@pytest.mark.rule(22)
@pytest.mark.parametrize("factory", READABLE, ids=name_of)
async def test_events_of_a_key_stay_in_order(factory: Factory, tmp_path: Path) -> None:
    async with factory(tmp_path) as (publisher, published):

        async def relay(key: str) -> None:
            for number in range(0, 20, 4):
                await publisher.publish([event(number + n, key) for n in range(4)])

        async with asyncio.TaskGroup() as group:
            for shard in range(5):
                group.create_task(relay(f"node-{shard}"))
        got = await published()
    for shard in range(5):
        key = f"node-{shard}"
        assert [e for e in got if e.key == key] == [event(n, key) for n in range(20)]


@pytest.mark.rule(23)
@pytest.mark.parametrize("factory", READABLE, ids=name_of)
async def test_republishing_after_a_lost_response_keeps_the_id(
    factory: Factory, tmp_path: Path
) -> None:
    async with factory(tmp_path) as (publisher, published):
        for _ in range(2):
            await publisher.publish([event(1)])
        assert {e.event_id for e in await published()} == {event(1).event_id}


@pytest.mark.parametrize("factory", ALL, ids=name_of)
async def test_publishing_no_events_succeeds(factory: Factory, tmp_path: Path) -> None:
    async with factory(tmp_path) as (publisher, published):
        await publisher.publish([])
        assert await published() == []


@pytest.mark.parametrize("factory", READABLE, ids=name_of)
async def test_reopened_publisher_continues(factory: Factory, tmp_path: Path) -> None:
    for number in range(3):
        async with factory(tmp_path) as (publisher, published):
            await publisher.publish([event(number)])
            got = await published()
    assert [e.event_id for e in got][-3:] == [event(n).event_id for n in range(3)]


async def test_with_events_off_publishing_succeeds() -> None:
    await NoEvents().publish([event(1)])
