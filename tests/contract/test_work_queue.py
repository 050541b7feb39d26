"""Contract of work queues. Add an adapter by one line in ALL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from sluice_backends.memory import queue as memory_queue
from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_backends.redis.queue import queue as redis_queues
from sluice_backends.redis.queue.queue import RedisQueue, open_redis_queue
from sluice_core.ports import Delivery, WorkItem, WorkKind, WorkQueue
from support import redis_queues as redis_support
from support.redis_server import OPERATION_SECONDS, shared_cluster, shared_server

LONG_SECONDS = 600.0
"""Longer than any test takes, on a machine as busy as may be."""
QUICK_LEASE_SECONDS = 0.3
"""Over at once, for what is never held on to."""
MAX_ITEMS = 50

Factory = Callable[[float], AbstractAsyncContextManager[WorkQueue]]
"""Opens a queue with leases of so many seconds."""


@asynccontextmanager
async def in_process(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    yield InProcessQueue(lease_seconds=lease_seconds, max_items=MAX_ITEMS)


@asynccontextmanager
async def redis(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    server = shared_server()
    server.flush()
    async with redis_queue(RedisOptions(server.url, shards=4), lease_seconds) as queue:
        yield queue


@asynccontextmanager
async def redis_cluster(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    cluster = shared_cluster()
    cluster.flush()
    options = RedisOptions(cluster.url, cluster=True, shards=4)
    async with redis_queue(options, lease_seconds) as queue:
        yield queue


@asynccontextmanager
async def redis_two_processes(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    """Alternate calls between two queues, as between two processes.

    They share one shard: each process visits the shards at a different pace, and the order is
    exact only within a shard.
    """
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, shards=1)
    async with (
        redis_queue(options, lease_seconds) as first,
        redis_queue(options, lease_seconds) as second,
    ):
        yield redis_support.RoundRobinQueue(first, second)


@asynccontextmanager
async def redis_queue(options: RedisOptions, lease_seconds: float) -> AsyncIterator[WorkQueue]:
    options = replace(options, operation_timeout_seconds=OPERATION_SECONDS)
    async with (
        open_redis(options) as clients,
        open_redis_queue(clients, options, lease_seconds, MAX_ITEMS) as queue,
    ):
        yield queue


ALL: list[Factory] = [in_process, redis, redis_cluster, redis_two_processes]

PARTS = frozenset({WorkKind.PART})
COMPLETIONS = frozenset({WorkKind.COMPLETION})
BOTH = PARTS | COMPLETIONS


def name_of(factory: Factory) -> str:
    return cast(str, getattr(factory, "__name__", "queue"))


@pytest.fixture(params=ALL, ids=name_of)
def factory(request: pytest.FixtureRequest) -> Factory:
    return cast(Factory, request.param)


@pytest.fixture
async def queue(factory: Factory) -> AsyncIterator[WorkQueue]:
    """A queue whose leases outlast the test."""
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def without_polling(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkQueue]:
    """A queue without polling: every delivery results from a notification."""
    monkeypatch.setattr(memory_queue, "_POLL_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(redis_queues, "_SCAN_SECONDS", LONG_SECONDS)
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def frequent_polling(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkQueue]:
    """A queue with frequent polling: `age_delivery` expires leases, which are found soon."""
    monkeypatch.setattr(memory_queue, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(redis_queues, "_SCAN_SECONDS", 0.02)
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def lapsing_soon(factory: Factory) -> AsyncIterator[WorkQueue]:
    async with factory(QUICK_LEASE_SECONDS) as opened:
        yield opened


def part(number: int = 1, tenant: str = "t", upload_id: str = "n1-u") -> WorkItem:
    return WorkItem(WorkKind.PART, upload_id, tenant, number)


def completion(upload_id: str = "n1-u", tenant: str = "t") -> WorkItem:
    return WorkItem(WorkKind.COMPLETION, upload_id, tenant)


async def take(
    queue: WorkQueue, kinds: frozenset[WorkKind] = PARTS, wait_seconds: float = 20.0
) -> Delivery:
    delivery = await queue.take(kinds, "worker", wait_seconds)
    assert delivery is not None
    return delivery


async def age_delivery(queue: WorkQueue, delivery: Delivery, leases: float) -> None:
    """Simulate the passage of this many lease lengths."""
    if isinstance(queue, InProcessQueue):
        move_clock(queue, leases)
    else:
        await redis_support.age_delivery(on_redis(queue), delivery, leases * LONG_SECONDS)


async def elapse_delays(queue: WorkQueue, item: WorkItem, leases: float) -> None:
    """Simulate the end of the delay of this item."""
    if isinstance(queue, InProcessQueue):
        move_clock(queue, leases)
    else:
        await redis_support.elapse_delays(on_redis(queue), item, leases * LONG_SECONDS)


def move_clock(queue: InProcessQueue, leases: float) -> None:
    clock = queue._clock
    queue._clock = lambda: clock() + leases * LONG_SECONDS


def on_redis(queue: WorkQueue) -> RedisQueue:
    found = queue.first if isinstance(queue, redis_support.RoundRobinQueue) else queue
    assert isinstance(found, RedisQueue)
    return found


async def assert_nothing(queue: WorkQueue, wait_seconds: float = 0.05) -> None:
    assert await queue.take(BOTH, "worker", wait_seconds) is None


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


# ------------------------------------------------------------------ leases (rule 15)


@pytest.mark.rule(15)
async def test_a_dead_workers_item_is_taken_over(lapsing_soon: WorkQueue) -> None:
    queue = lapsing_soon
    await queue.put(part())
    first = await take(queue)
    second = await take(queue)
    assert (second.item, second.attempt) == (first.item, 2)
    assert second.delivery_id != first.delivery_id


async def test_a_heartbeat_keeps_an_item(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    delivery = await take(queue)
    for _ in range(5):
        await age_delivery(queue, delivery, 0.6)
        await assert_nothing(queue, 0.2)
        await queue.extend(delivery)
    await age_delivery(queue, delivery, 1.1)  # and without one
    assert (await take(queue)).attempt == 2


async def test_extended_and_acknowledged_item_is_not_redelivered(
    frequent_polling: WorkQueue,
) -> None:
    queue = frequent_polling
    await queue.put(part())
    delivery = await take(queue)
    await age_delivery(queue, delivery, 0.6)
    await queue.extend(delivery)
    await queue.acknowledge(delivery)
    await age_delivery(queue, delivery, 1.1)
    await assert_nothing(queue, 0.2)


@pytest.mark.rule(15)
async def test_late_call_of_the_old_holder_is_a_no_op(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    old = await take(queue)
    await age_delivery(queue, old, 1.1)
    new = await take(queue)
    await queue.extend(old)
    await queue.acknowledge(old)
    await queue.retry(old, 0.0)
    await assert_nothing(queue, 0.2)
    await queue.acknowledge(new)
    await age_delivery(queue, new, 1.1)
    await assert_nothing(queue, 0.2)


@pytest.mark.rule(15)
async def test_repeated_acknowledge_is_a_no_op(queue: WorkQueue) -> None:
    await queue.put(part())
    delivery = await take(queue)
    for _ in range(2):
        await queue.acknowledge(delivery)


# ------------------------------------------------------------------ retries


async def test_retried_item_is_redelivered_after_the_delay(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    await queue.retry(await take(queue), LONG_SECONDS)
    await elapse_delays(queue, part(), 0.6)
    await assert_nothing(queue, 0.2)
    await elapse_delays(queue, part(), 0.6)
    again = await take(queue)
    assert (again.item, again.attempt) == (part(), 2)


async def test_retried_item_without_delay_is_redelivered_at_once(
    without_polling: WorkQueue,
) -> None:
    await without_polling.put(part())
    await without_polling.retry(await take(without_polling), 0.0)
    assert (await take(without_polling)).attempt == 2


async def test_putting_an_item_does_not_shorten_its_delay(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    await queue.retry(await take(queue), LONG_SECONDS)
    await queue.put(part())
    await assert_nothing(queue, 0.2)
    await elapse_delays(queue, part(), 1.1)
    await queue.acknowledge(await take(queue))
    await assert_nothing(queue)


async def test_retried_item_that_was_put_again_is_one_item(queue: WorkQueue) -> None:
    await queue.put(part())
    held = await take(queue)
    await queue.put(part())
    await queue.retry(held, 0.0)
    await queue.acknowledge(await take(queue))
    await assert_nothing(queue)


# ------------------------------------------------------------------ bounds and depth


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
