"""Byte permits of unary messages: the bound and the fair order of waiters."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import ResourceExhausted
from sluice_intake.rpc.permits import BytePermits

LONG = 5.0


async def test_shrunken_permit_admits_the_next_waiter() -> None:
    permits = BytePermits(10)
    async with permits.hold(10, LONG) as first:
        assert permits.free_bytes == 0
        first.shrink(4)
        async with permits.hold(6, LONG):
            assert permits.free_bytes == 0
    assert permits.free_bytes == 10


async def test_permit_wait_that_times_out_is_refused() -> None:
    permits = BytePermits(10)
    async with permits.hold(10, LONG):
        with pytest.raises(ResourceExhausted) as refused:
            async with permits.hold(1, 0.05):
                pytest.fail("there was no room")
    assert refused.value.reason == "UNARY_BUSY"
    assert permits.free_bytes == 10


async def test_a_large_permit_is_not_overtaken_by_small_ones() -> None:
    permits = BytePermits(10)
    order: list[str] = []

    async def take(name: str, amount: int) -> None:
        async with permits.hold(amount, LONG):
            order.append(name)

    async with asyncio.TaskGroup() as group, permits.hold(5, LONG):
        group.create_task(take("large", 10))
        await asyncio.sleep(0)
        group.create_task(take("small", 1))
        await asyncio.sleep(0.01)
        assert order == []
    assert order == ["large", "small"]


async def test_cancelled_waiter_admits_the_next_one() -> None:
    permits = BytePermits(10)
    async with permits.hold(5, LONG):
        large = asyncio.ensure_future(permits.hold(10, LONG).__aenter__())
        await asyncio.sleep(0)
        small = asyncio.ensure_future(permits.hold(5, LONG).__aenter__())
        await asyncio.sleep(0)
        assert not small.done()
        large.cancel()
        (await asyncio.wait_for(small, 1)).shrink(0)
    assert permits.free_bytes == 10


async def test_waiter_cancelled_during_release_ends_as_cancelled() -> None:
    permits = BytePermits(10)
    async with permits.hold(10, LONG) as first:
        cancelled = [asyncio.ensure_future(permits.hold(10, LONG).__aenter__()) for _ in range(3)]
        await asyncio.sleep(0)
        for waiter in cancelled:
            waiter.cancel()
        first.shrink(0)  # before any of them has processed its cancellation
        ends = await asyncio.gather(*cancelled, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert permits.free_bytes == 10


@pytest.mark.rule(11)
@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 10), st.integers(0, 3)), max_size=30))
def test_permits_conserve_their_bytes(plan: list[tuple[int, int, int]]) -> None:
    async def run() -> None:
        permits = BytePermits(10)

        async def one(amount: int, shrink_to: int, turns: int) -> None:
            async with permits.hold(amount, LONG) as permit:
                assert 0 <= permits.free_bytes <= 10
                permit.shrink(shrink_to)
                for _ in range(turns):
                    await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(one(*each)) for each in plan]
        await asyncio.sleep(0)
        for index, task in enumerate(tasks):
            if index % 3 == 2:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert permits.free_bytes == 10

    asyncio.run(run())
