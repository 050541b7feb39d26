"""Handing items over to workers that may leave at any moment; no Redis is needed for that."""

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
    takers: WaitingConsumers, kinds: frozenset[WorkKind] = PARTS, seconds: float = 5.0
) -> asyncio.Task[Delivery | None]:
    task = asyncio.create_task(takers.wait(kinds, "worker", seconds))
    await asyncio.sleep(0)
    return task


async def test_who_waits_longest_for_the_kind_gets_the_item() -> None:
    takers = WaitingConsumers()
    of_parts, of_both = await waiting(takers, PARTS), await waiting(takers, BOTH)
    assert takers.kinds() == BOTH
    assert len(takers.consumers(WorkKind.PART, 10)) == 2
    assert takers.consumers(WorkKind.PART, 1) == ["worker"]
    takers.hand_over(delivery(1, WorkKind.COMPLETION))
    takers.hand_over(delivery(2))
    assert await of_both == delivery(1, WorkKind.COMPLETION)
    assert await of_parts == delivery(2)
    assert takers.kinds() == frozenset()


async def test_nothing_comes_within_the_time() -> None:
    assert await WaitingConsumers().wait(PARTS, "worker", 0.01) is None


async def test_an_item_for_one_that_left_goes_to_another() -> None:
    takers = WaitingConsumers()
    leaving, staying = await waiting(takers), await waiting(takers)
    takers.hand_over(delivery())
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert await staying == delivery()
    assert takers.next_unclaimed() is None


async def test_an_item_that_nobody_is_there_for_is_unclaimed() -> None:
    takers = WaitingConsumers()
    leaving = await waiting(takers)
    takers.hand_over(delivery(1))
    leaving.cancel()
    await asyncio.wait([leaving])
    takers.hand_over(delivery(2))
    assert takers.unclaimed
    assert takers.next_unclaimed() == delivery(1)
    assert takers.next_unclaimed() == delivery(2)
    assert takers.next_unclaimed() is None


async def test_an_item_that_comes_with_the_end_of_the_wait_is_not_lost() -> None:
    takers = WaitingConsumers()
    task = await waiting(takers, seconds=0.02)
    loop = asyncio.get_running_loop()
    # In the iteration of the loop in which the time ends, before the worker is woken.
    loop.call_at(loop.time() + 0.02, takers.hand_over, delivery())
    found = await task
    assert found == delivery() or takers.next_unclaimed() == delivery()


async def test_all_who_wait_hear_of_a_failure_and_later_ones_do_not() -> None:
    takers = WaitingConsumers()
    first = await waiting(takers)
    takers.fail(Unavailable("REDIS_UNAVAILABLE", "away"))
    with pytest.raises(Unavailable):
        await first
    second = await waiting(takers)
    takers.hand_over(delivery())
    assert await second == delivery()


async def test_a_worker_that_leaves_as_it_hears_of_a_failure_just_leaves() -> None:
    takers = WaitingConsumers()
    leaving = await waiting(takers)
    takers.fail(Unavailable("REDIS_UNAVAILABLE", "away"))
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert takers.next_unclaimed() is None
