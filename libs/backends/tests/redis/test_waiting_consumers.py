"""Unit tests: hand-over of items to workers that may be cancelled at any moment."""

from __future__ import annotations

import asyncio

import pytest

from sluice_backends.redis.queue.waiting_consumers import WaitingConsumers
from sluice_core.errors import Unavailable
from sluice_core.ports import Delivery, WorkItem, WorkKind

PARTS = frozenset({WorkKind.PART})
COMPLETIONS = frozenset({WorkKind.COMPLETION})
BOTH = PARTS | COMPLETIONS


def delivery(number: int = 1, kind: WorkKind = WorkKind.PART) -> Delivery:
    return Delivery(WorkItem(kind, "n1-u", "t", number), f"d{number}", 1)


async def waiting(
    consumers: WaitingConsumers, kinds: frozenset[WorkKind] = PARTS, seconds: float = 5.0
) -> asyncio.Task[Delivery | None]:
    task = asyncio.create_task(consumers.wait(kinds, "worker", seconds))
    await asyncio.sleep(0)
    return task


async def test_longest_waiting_worker_gets_the_item() -> None:
    consumers = WaitingConsumers()
    of_parts, of_both = await waiting(consumers, PARTS), await waiting(consumers, BOTH)
    assert consumers.kinds() == BOTH
    assert len(consumers.consumers(WorkKind.PART, 10)) == 2
    assert consumers.consumers(WorkKind.PART, 1) == ["worker"]
    consumers.hand_over(delivery(1, WorkKind.COMPLETION))
    consumers.hand_over(delivery(2))
    assert await of_both == delivery(1, WorkKind.COMPLETION)
    assert await of_parts == delivery(2)
    assert consumers.kinds() == frozenset()


async def test_wait_without_an_item_times_out() -> None:
    assert await WaitingConsumers().wait(PARTS, "worker", 0.01) is None


async def test_item_of_a_cancelled_worker_goes_to_another() -> None:
    consumers = WaitingConsumers()
    leaving, staying = await waiting(consumers), await waiting(consumers)
    consumers.hand_over(delivery())
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert await staying == delivery()
    assert consumers.next_unclaimed() is None


async def test_item_without_a_worker_is_unclaimed() -> None:
    consumers = WaitingConsumers()
    leaving = await waiting(consumers)
    consumers.hand_over(delivery(1))
    leaving.cancel()
    await asyncio.wait([leaving])
    consumers.hand_over(delivery(2))
    assert consumers.unclaimed
    assert consumers.next_unclaimed() == delivery(1)
    assert consumers.next_unclaimed() == delivery(2)
    assert consumers.next_unclaimed() is None


async def test_item_arriving_with_the_timeout_is_not_lost() -> None:
    consumers = WaitingConsumers()
    task = await waiting(consumers, seconds=0.02)
    loop = asyncio.get_running_loop()
    # In the loop iteration of the timeout, before the worker resumes.
    loop.call_at(loop.time() + 0.02, consumers.hand_over, delivery())
    received = await task
    assert received == delivery() or consumers.next_unclaimed() == delivery()


async def test_failure_reaches_waiting_workers_only() -> None:
    consumers = WaitingConsumers()
    first = await waiting(consumers)
    consumers.fail(Unavailable("REDIS_UNAVAILABLE", "away"))
    with pytest.raises(Unavailable):
        await first
    second = await waiting(consumers)
    consumers.hand_over(delivery())
    assert await second == delivery()


async def test_worker_cancelled_during_a_failure_is_cancelled() -> None:
    consumers = WaitingConsumers()
    leaving = await waiting(consumers)
    consumers.fail(Unavailable("REDIS_UNAVAILABLE", "away"))
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert consumers.next_unclaimed() is None
