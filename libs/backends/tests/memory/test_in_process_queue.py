"""Guarantees specific to the in-process queue: exact times by its clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sluice_backends.memory.queue import InProcessQueue
from sluice_core.ports import WorkItem, WorkKind

PARTS = frozenset({WorkKind.PART})
ITEM = WorkItem(WorkKind.PART, "n1-u", "t", 1)


class SetClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_lease_ends_by_the_queue_clock() -> None:
    clock = SetClock()
    queue = InProcessQueue(lease_seconds=15.0, clock=clock)
    await queue.put(ITEM)
    held = await queue.take(PARTS, "a", 0.0)
    assert held is not None
    clock.now += 14.5
    assert await queue.take(PARTS, "b", 0.0) is None
    await queue.extend(held)
    clock.now += 14.5
    assert await queue.take(PARTS, "b", 0.0) is None
    clock.now += 0.5
    taken_over = await queue.take(PARTS, "b", 0.0)
    assert taken_over is not None
    assert taken_over.attempt == 2


async def test_holder_of_an_expired_lease_can_extend_and_acknowledge() -> None:
    """This holds as long as no other worker has taken the item."""
    clock = SetClock()
    queue = InProcessQueue(lease_seconds=15.0, clock=clock)
    await queue.put(ITEM)
    held = await queue.take(PARTS, "a", 0.0)
    assert held is not None
    clock.now += 20.0
    await queue.extend(held)
    assert await queue.take(PARTS, "b", 0.0) is None
    await queue.acknowledge(held)
    clock.now += 20.0
    assert await queue.take(PARTS, "b", 0.0) is None


async def test_delayed_item_waits_until_the_queue_clock_reaches_it() -> None:
    clock = SetClock()
    queue = InProcessQueue(clock=clock)
    await queue.put(ITEM)
    held = await queue.take(PARTS, "a", 0.0)
    assert held is not None
    assert (await queue.depth()).items == 0
    await queue.retry(held, 5.0)
    clock.now += 4.5
    assert await queue.take(PARTS, "a", 0.0) is None
    depth = await queue.depth()
    assert (depth.items, depth.oldest_age_seconds) == (1, 4.5)
    clock.now += 0.5
    again = await queue.take(PARTS, "a", 0.0)
    assert again is not None
    assert again.attempt == 2


async def test_heartbeats_do_not_accumulate() -> None:
    clock = SetClock()
    queue = InProcessQueue(lease_seconds=15.0, clock=clock)
    await queue.put(ITEM)
    held = await queue.take(PARTS, "a", 0.0)
    assert held is not None
    for _ in range(1000):
        clock.now += 5.0
        await queue.extend(held)
        assert await queue.take(PARTS, "b", 0.0) is None
    assert len(queue._leases) <= 5


async def test_cancelled_put_passes_its_room_on() -> None:
    queue = InProcessQueue(max_items=1)
    await queue.put(ITEM)
    others = [replace(ITEM, part_number=number) for number in (2, 3)]
    leaving, staying = [asyncio.create_task(queue.put(item)) for item in others]
    await asyncio.sleep(0)
    assert await queue.take(PARTS, "a", 0.0) is not None
    leaving.cancel()  # it was given the room and has not heard of it
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.wait_for(staying, 20.0)
    found = await queue.take(PARTS, "a", 0.0)
    assert found is not None
    assert found.item == others[1]
    assert await queue.take(PARTS, "a", 0.0) is None
