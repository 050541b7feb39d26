"""Work queue on Redis: several processes, faults, leftover keys."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_backends.redis.queue.queue import RedisQueue, open_redis_queue
from sluice_core.errors import ResourceExhausted, Unavailable
from sluice_core.ports import Delivery, WorkItem, WorkKind
from support.redis_server import RedisServer
from support.waiting import until

LEASE_SECONDS = 1.0
SECONDS = 20.0
"""Generous limit for every wait, also on a loaded machine."""

PARTS = frozenset({WorkKind.PART})
BOTH = frozenset(WorkKind)


@pytest.fixture
async def queue(clients: RedisClients, server: RedisServer) -> AsyncIterator[RedisQueue]:
    async with open_redis_queue(clients, RedisOptions(server.url)) as opened:
        yield opened


def part(number: int = 1, tenant: str = "t", upload_id: str = "n1-u") -> WorkItem:
    return WorkItem(WorkKind.PART, upload_id, tenant, number)


async def take(queue: RedisQueue, wait_seconds: float = SECONDS) -> Delivery:
    delivery = await queue.take(PARTS, "worker", wait_seconds)
    assert delivery is not None
    return delivery


# ------------------------------------------------------------------ several processes


async def test_process_that_only_puts_does_not_subscribe(
    queue: RedisQueue, server: RedisServer
) -> None:
    async def is_listening() -> bool:
        with server.client() as client:
            return bool(client.pubsub_numsub(keys.QUEUE_WAKE)[0][1])

    await queue.put(part())
    await asyncio.sleep(0.1)
    assert not await is_listening()
    await take(queue)
    await until(is_listening, SECONDS, "who takes listens")


async def test_item_of_another_process_is_taken_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the wake-up: polling is disabled.
    monkeypatch.setattr("sluice_backends.redis.queue.queue._SCAN_SECONDS", 10 * SECONDS)
    options = RedisOptions(server.url)
    async with AsyncExitStack() as stack:
        putting, taking = [
            await stack.enter_async_context(
                open_redis_queue(await stack.enter_async_context(open_redis(options)), options)
            )
            for _ in range(2)
        ]
        assert await taking.take(PARTS, "worker", 0.3) is None
        for number in range(1, 11):
            waiting = asyncio.create_task(take(taking))
            await asyncio.sleep(0.02)
            await putting.put(part(number))
            assert (await waiting).item == part(number)


async def test_processes_share_work_without_duplicates(server: RedisServer) -> None:
    options = RedisOptions(server.url, shards=4)
    done: Counter[WorkItem] = Counter()

    async def work(queue: RedisQueue, name: str) -> None:
        while done.total() < len(items):
            delivery = await queue.take(BOTH, name, 0.5)
            if delivery is not None:
                done[delivery.item] += 1
                await queue.acknowledge(delivery)

    items = [part(number, tenant=f"t{number % 7}") for number in range(1, 301)]
    items += [WorkItem(WorkKind.COMPLETION, f"n1-{n}", f"t{n % 7}") for n in range(50)]
    async with AsyncExitStack() as stack:
        queues = [
            await stack.enter_async_context(
                open_redis_queue(await stack.enter_async_context(open_redis(options)), options)
            )
            for _ in range(3)
        ]
        async with asyncio.timeout(2 * SECONDS), asyncio.TaskGroup() as group:
            for n, queue in enumerate(queues):
                for m in range(4):
                    group.create_task(work(queue, f"w{n}-{m}"))
            for n, item in enumerate(items):
                await queues[n % 3].put(item)
    assert done == Counter(items)


@pytest.mark.rule(11)
async def test_tenant_in_another_shard_gets_its_turns(
    queue: RedisQueue, clients: RedisClients
) -> None:
    tenants = ["busy", *(f"small{n}" for n in range(5))]
    assert len({keys.shard_of(tenant, 16) for tenant in tenants}) > 1
    for number in range(1, 41):
        await queue.put(part(number, tenant="busy"))
    for tenant in tenants[1:]:
        await queue.put(part(1, tenant=tenant, upload_id=f"n1-{tenant}"))
    first = [(await take(queue)).item.tenant for _ in range(12)]
    assert set(first) == set(tenants)


# ------------------------------------------------------------------ unclaimed items


async def test_held_items_do_not_exceed_waiting_workers(
    queue: RedisQueue, clients: RedisClients
) -> None:
    for number in range(1, 11):
        await queue.put(part(number))
    taken = [await take(queue) for _ in range(3)]
    await asyncio.sleep(0.05)
    stream = keys.queue(keys.shard_of("t", 16))
    pending = await clients.execute(stream, "XPENDING", stream, keys.GROUP)
    assert pending[0] == len(taken)
    assert await clients.execute(stream, "XLEN", stream) == 10
    assert (await queue.depth()).items == 7


async def test_item_of_a_cancelled_worker_costs_no_attempt(
    queue: RedisQueue,
) -> None:
    for number in range(1, 30):
        leaving = asyncio.create_task(queue.take(PARTS, "leaving", 5.0))
        await asyncio.sleep(0)
        await queue.put(part(number))
        await asyncio.sleep(0.0002 * number)
        leaving.cancel()
        await asyncio.wait([leaving])
        if leaving.cancelled():
            delivery = await take(queue)
            assert delivery.attempt == 1
        else:
            found = leaving.result()
            assert found is not None
            delivery = found
        assert delivery.item == part(number)
        await queue.acknowledge(delivery)


async def test_closing_a_queue_returns_unclaimed_items(
    clients: RedisClients, server: RedisServer
) -> None:
    # The worker leaves at different moments; the lease is too long to return the item.
    options = RedisOptions(server.url)
    for number in range(1, 11):
        async with open_redis_queue(clients, options, 600.0) as closing:
            await closing.put(part(number))
            leaving = asyncio.create_task(closing.take(PARTS, "leaving", 5.0))
            await asyncio.sleep(0.0002 * number)
            leaving.cancel()
            await asyncio.wait([leaving])
        if leaving.cancelled():
            async with open_redis_queue(clients, options, 600.0) as other:
                delivery: Delivery | None = await take(other)
        else:
            delivery = leaving.result()
        assert delivery is not None
        assert (delivery.item, delivery.attempt) == (part(number), 1)


# ------------------------------------------------------------------ faults


async def test_workers_fail_during_an_outage_and_recover() -> None:
    with RedisServer() as server:
        options = RedisOptions(server.url, operation_timeout_seconds=1.0)
        async with (
            open_redis(options) as clients,
            open_redis_queue(clients, options, LEASE_SECONDS) as queue,
        ):
            await queue.put(part(1))
            await queue.acknowledge(await take(queue))
            server.kill()
            with pytest.raises(Unavailable):
                await queue.take(PARTS, "worker", SECONDS)
            with pytest.raises(Unavailable):
                await queue.put(part(2))
            server.start()
            await queue.put(part(2))
            delivery = await _take_when_back(queue)
            assert delivery.item == part(2)
            await queue.acknowledge(delivery)


async def _take_when_back(queue: RedisQueue) -> Delivery:
    for _ in range(20):
        try:
            return await take(queue)
        except Unavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("the queue does not come back")


async def test_full_redis_still_delivers_and_settles_work() -> None:
    # Otherwise nothing would free memory.
    with RedisServer() as server:
        options = RedisOptions(server.url)
        async with (
            open_redis(options) as clients,
            open_redis_queue(clients, options, LEASE_SECONDS) as queue,
        ):
            for number in range(1, 7):
                await queue.put(part(number))
            server.fill_up()
            with pytest.raises(ResourceExhausted):
                await queue.put(part(100))
            delayed = await take(queue)
            await queue.retry(delayed, 0.2)
            held = await take(queue)
            await queue.extend(held)
            await queue.acknowledge(held)
            await take(queue)
            await asyncio.sleep(LEASE_SECONDS)  # its lease expires
            left = set()
            for _ in range(5):
                delivery = await take(queue)
                left.add(delivery.item)
                await queue.acknowledge(delivery)
            assert left == {part(number) for number in range(1, 7)} - {held.item}


@pytest.mark.rule(15)
async def test_emptied_redis_is_a_new_queue(queue: RedisQueue, server: RedisServer) -> None:
    await queue.put(part(1))
    held = await take(queue)
    await queue.put(part(2))
    server.flush()
    await queue.extend(held)
    await queue.acknowledge(held)
    await queue.retry(held, 0.0)
    assert await queue.take(PARTS, "worker", 0.1) is None
    await queue.put(part(2))
    assert (await take(queue)).item == part(2)


async def test_destroyed_group_is_recreated(queue: RedisQueue, clients: RedisClients) -> None:
    await queue.put(part(1))
    await queue.acknowledge(await take(queue))
    stream = keys.queue(keys.shard_of("t", 16))
    await clients.execute(stream, "XGROUP", "DESTROY", stream, keys.GROUP)
    await queue.put(part(2))
    assert (await take(queue)).item == part(2)


# ------------------------------------------------------------------ leftover keys


@pytest.mark.rule(15)
async def test_idle_lane_keeps_no_item_and_no_bookkeeping(
    queue: RedisQueue, server: RedisServer
) -> None:
    for number in range(1, 6):
        await queue.put(part(number, tenant=f"t{number}"))
    for n in range(5):
        delivery = await take(queue)
        if n == 0:
            await queue.retry(delivery, 0.05)
        else:
            await queue.acknowledge(delivery)
    await queue.acknowledge(await take(queue))
    assert await queue.take(PARTS, "worker", 0.1) is None
    # Only the empty stream of the lane remains, until it has been idle for a minute.
    assert all(name.startswith("sluice:queue:") for name in server.all_keys())
    with server.client() as inside:
        assert all(inside.xlen(name) == 0 for name in server.all_keys())


async def test_turns_of_a_busy_lane_do_not_accumulate(
    queue: RedisQueue, clients: RedisClients
) -> None:
    for number in range(1, 201):
        await queue.put(part(number, tenant="t", upload_id=f"n1-{number}"))
        await queue.acknowledge(await take(queue))
    turns = keys.lane(keys.shard_of("t", 16), "PART")[4]
    assert await clients.execute(turns, "HLEN", turns) == 0
