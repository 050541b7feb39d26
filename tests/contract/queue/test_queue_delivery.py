"""Contract of work queues: putting, taking and fairness."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from sluice_core.ports import WorkItem, WorkKind, WorkQueue
from support.work_queues import (
    BOTH,
    COMPLETIONS,
    LONG_SECONDS,
    PARTS,
    QUICK_LEASE_SECONDS,
    age_delivery,
    assert_nothing,
    completion,
    part,
    take,
)

# ------------------------------------------------------------------ putting and taking


async def test_item_is_delivered_once(lapsing_soon: WorkQueue) -> None:
    queue = lapsing_soon
    await queue.put(part())
    delivery = await take(queue)
    assert (delivery.item, delivery.attempt) == (part(), 1)
    await queue.acknowledge(delivery)
    await assert_nothing(queue, QUICK_LEASE_SECONDS * 2)


async def test_taking_from_an_empty_queue_ends_after_the_wait(without_polling: WorkQueue) -> None:
    begun = time.monotonic()
    await assert_nothing(without_polling, 0.1)
    assert 0.09 <= time.monotonic() - begun < LONG_SECONDS / 10


async def test_waiting_consumer_gets_a_later_item(without_polling: WorkQueue) -> None:
    async with asyncio.TaskGroup() as group:
        taker = group.create_task(take(without_polling))
        await asyncio.sleep(0.02)
        await without_polling.put(part())
    assert taker.result().item == part()


async def test_waiting_item_is_not_added_twice(queue: WorkQueue) -> None:
    await queue.put(part())
    await queue.put(part())
    await queue.acknowledge(await take(queue))
    await assert_nothing(queue)


async def test_an_item_that_is_held_can_be_put_again(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    # New work may have become ready since its holder read the ledger.
    await queue.put(part())
    first = await take(queue)
    await queue.put(part())
    second = await take(queue)
    assert second.item == part()
    for delivery in (first, second):
        await queue.acknowledge(delivery)
        await age_delivery(queue, delivery, 1.1)
    await assert_nothing(queue, 0.2)


async def test_a_worker_gets_only_the_kinds_it_asks_for(queue: WorkQueue) -> None:
    await queue.put(completion())
    assert await queue.take(PARTS, "worker", 0.05) is None
    assert (await take(queue, COMPLETIONS)).item == completion()


async def test_a_worker_of_both_kinds_gets_both(queue: WorkQueue) -> None:
    for item in (part(), completion()):
        await queue.put(item)
    taken = {(await take(queue, BOTH)).item, (await take(queue, BOTH)).item}
    assert taken == {part(), completion()}


async def test_a_put_wakes_a_worker_that_can_use_it(queue: WorkQueue) -> None:
    async with asyncio.TaskGroup() as group:
        for_parts = group.create_task(queue.take(PARTS, "a", 0.5))
        for_completions = group.create_task(queue.take(COMPLETIONS, "b", 5.0))
        await asyncio.sleep(0.02)
        await queue.put(completion())
    assert for_parts.result() is None
    assert for_completions.result() is not None


async def test_items_of_one_tenant_come_in_order(queue: WorkQueue) -> None:
    for number in range(1, 6):
        await queue.put(part(number))
    assert [(await take(queue)).item.part_number for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_every_item_is_taken_by_exactly_one_worker(queue: WorkQueue) -> None:
    taken: Counter[WorkItem] = Counter()

    all_taken = asyncio.Event()

    async def work() -> None:
        while not (all_taken.is_set() and (await queue.depth()).items == 0):
            delivery = await queue.take(PARTS, "worker", 0.2)
            if delivery is not None:
                taken[delivery.item] += 1
                await asyncio.sleep(0)
                await queue.acknowledge(delivery)
            if taken.total() >= 200:
                all_taken.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(work())
        for number in range(1, 201):
            await queue.put(part(number))
    assert taken == Counter({part(number): 1 for number in range(1, 201)})
    await assert_nothing(queue)


async def test_cancelled_consumer_loses_no_item(queue: WorkQueue) -> None:
    for round_number in range(1, 20):
        takers = [asyncio.create_task(queue.take(PARTS, "w", 5.0)) for _ in range(2)]
        await asyncio.sleep(0)
        await queue.put(part(round_number))
        takers[0].cancel()
        leaving, staying = takers
        await asyncio.wait([leaving])
        was_quicker = not leaving.cancelled()
        delivery = leaving.result() if was_quicker else await staying
        assert delivery is not None
        assert delivery.item == part(round_number)
        await queue.acknowledge(delivery)
        if was_quicker:
            staying.cancel()
            await asyncio.wait([staying])
            assert staying.cancelled()


# ------------------------------------------------------------------ fairness (rule 11)


@pytest.mark.rule(11)
async def test_a_tenant_with_much_work_does_not_starve_another(queue: WorkQueue) -> None:
    for number in range(1, 21):
        await queue.put(part(number, tenant="busy", upload_id="n1-busy"))
    for number in range(1, 4):
        await queue.put(part(number, tenant="small", upload_id="n1-small"))
    first_six = [(await take(queue)).item.tenant for _ in range(6)]
    assert first_six.count("small") == 3


async def test_neither_kind_starves_the_other(queue: WorkQueue) -> None:
    for number in range(1, 11):
        await queue.put(part(number))
        await queue.put(completion(f"n1-{number}"))
    first_ten = [(await take(queue, BOTH)).item.kind for _ in range(10)]
    assert 3 <= first_ten.count(WorkKind.PART) <= 7
