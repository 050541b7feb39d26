"""Contract of work queues: bounds and depth."""

from __future__ import annotations

import asyncio
import time

import pytest

from sluice_core.ports import WorkQueue
from support.work_queues import MAX_ITEMS, assert_nothing, part, take


async def test_put_waits_while_the_queue_is_full(queue: WorkQueue) -> None:
    for number in range(1, MAX_ITEMS + 1):
        await queue.put(part(number))
    blocked = asyncio.create_task(queue.put(part(MAX_ITEMS + 1)))
    await asyncio.sleep(0.05)
    assert not blocked.done()
    await queue.acknowledge(await take(queue))
    await asyncio.wait_for(blocked, 20.0)


async def test_putting_a_waiting_item_never_waits(queue: WorkQueue) -> None:
    for number in range(1, MAX_ITEMS + 1):
        await queue.put(part(number))
    await asyncio.wait_for(queue.put(part(1)), 20.0)


async def test_cancelled_put_adds_nothing_and_blocks_no_other(queue: WorkQueue) -> None:
    for number in range(1, MAX_ITEMS + 1):
        await queue.put(part(number))
    leaving = asyncio.create_task(queue.put(part(1000)))
    staying = asyncio.create_task(queue.put(part(1001)))
    await asyncio.sleep(0.02)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    for _ in range(2):  # each of two processes answers; requests of the cancelled put are done then
        await queue.depth()
    await queue.acknowledge(await take(queue))
    await asyncio.wait_for(staying, 20.0)
    numbers = []
    for _ in range(MAX_ITEMS):
        delivery = await take(queue)
        numbers.append(delivery.item.part_number)
        await queue.acknowledge(delivery)  # or it comes again when its lease ends
    assert numbers[-1] == 1001
    await assert_nothing(queue)


async def test_depth_counts_waiting_items_and_their_oldest_age(queue: WorkQueue) -> None:
    empty = await queue.depth()
    assert (empty.items, empty.oldest_age_seconds) == (0, 0.0)
    begun = time.monotonic()
    await queue.put(part(1))
    await asyncio.sleep(0.05)
    await queue.put(part(2))
    depth = await queue.depth()
    assert depth.items == 2
    assert 0.04 <= depth.oldest_age_seconds <= time.monotonic() - begun + 0.1
    for _ in range(2):
        await queue.acknowledge(await take(queue))
    assert (await queue.depth()).items == 0
