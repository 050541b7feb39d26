"""Lag of a consumer group, as the broker knows it."""

from __future__ import annotations

import asyncio

from sluice_backends.kafka.lag import GroupLag
from sluice_backends.kafka.options import KafkaOptions
from support.kafka import begin_at, ends_of, make_topic, put, unique_name
from support.waiting import until


async def measured(kafka: KafkaOptions, group: str, topic: str) -> int:
    """Return the first measurement."""
    reports: list[int] = []
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(GroupLag(kafka, group, topic, reports.append).run(stop))
        await until(lambda: bool(reports))
        stop.set()
    return reports[0]


async def test_lag_counts_what_the_group_has_not_committed(kafka: KafkaOptions) -> None:
    """Also before the group has a member."""
    topic, group = unique_name(), unique_name("processor")
    await make_topic(kafka, topic, 2)
    await put(kafka, topic, *((b"k", b"v", ()) for _ in range(5)))
    assert await measured(kafka, group, topic) == 5
    await begin_at(kafka, group, await ends_of(kafka, topic))
    assert await measured(kafka, group, topic) == 0
    await put(kafka, topic, (b"k", b"v", ()))
    assert await measured(kafka, group, topic) == 1
