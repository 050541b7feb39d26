"""Time limits that exclude paused time."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.concurrency.allowance import Allowance, allowance_paused, extend
from support.virtual_time import in_virtual_time


@in_virtual_time
async def test_work_beyond_the_limit_times_out() -> None:
    allowance = Allowance(0.05)
    with pytest.raises(TimeoutError):
        async with allowance.spending():
            await asyncio.sleep(5)
    assert allowance.left_seconds == 0


@in_virtual_time
async def test_paused_time_is_not_charged() -> None:
    allowance = Allowance(0.2)
    async with allowance.spending():
        for _ in range(3):
            with allowance_paused():
                await asyncio.sleep(0.15)
    assert 0.05 < allowance.left_seconds <= 0.2


@in_virtual_time
async def test_time_after_a_pause_is_charged() -> None:
    async def wait_and_work() -> None:
        async with Allowance(0.1).spending():
            with allowance_paused():
                await asyncio.sleep(0.3)
            await asyncio.sleep(5)

    begun = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await wait_and_work()
    assert 0.4 <= asyncio.get_running_loop().time() - begun < 3


@in_virtual_time
async def test_attempts_share_the_remaining_time() -> None:
    allowance = Allowance(10.0)
    for _ in range(2):
        async with allowance.spending():
            await asyncio.sleep(0.05)
    allowance.spend(4.0)
    assert 5.0 < allowance.left_seconds < 5.95
    allowance.spend(40.0)
    with pytest.raises(TimeoutError):
        async with allowance.spending():
            await asyncio.sleep(1)


@in_virtual_time
async def test_pause_without_a_limit_or_inside_a_pause_is_a_no_op() -> None:
    with allowance_paused():
        await asyncio.sleep(0)
    allowance = Allowance(0.1)
    async with allowance.spending():
        with allowance_paused():
            with allowance_paused():
                await asyncio.sleep(0.15)
            await asyncio.sleep(0.15)
    assert allowance.left_seconds > 0


@in_virtual_time
async def test_cancellation_ends_a_pause() -> None:
    allowance = Allowance(0.1)

    async def wait() -> None:
        async with allowance.spending():
            with allowance_paused():
                await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time
async def test_each_task_has_a_separate_clock() -> None:
    async def one(seconds: float) -> float:
        allowance = Allowance(0.5)
        async with allowance.spending():
            with allowance_paused():
                await asyncio.sleep(seconds)
            await asyncio.sleep(0.1)
        return allowance.left_seconds

    for left in await asyncio.gather(*(one(0.05 * number) for number in range(10))):
        assert 0.2 < left < 0.45


@in_virtual_time
async def test_refunded_time_is_not_charged() -> None:
    allowance = Allowance(1.0)
    async with allowance.spending():
        await asyncio.sleep(0.75)
        extend(0.5)
        await asyncio.sleep(0.5)
    assert allowance.left_seconds == pytest.approx(0.25)
    extend(5.0)  # outside nothing is spent
    with pytest.raises(TimeoutError):
        async with allowance.spending():
            await asyncio.sleep(1)


async def test_pause_after_the_deadline_does_not_hide_the_timeout() -> None:
    async def block_and_wait() -> None:
        async with Allowance(0.01).spending():
            end = asyncio.get_running_loop().time() + 0.05
            while asyncio.get_running_loop().time() < end:
                pass  # nothing else runs: the limit has passed without a time-out yet
            with allowance_paused():
                await asyncio.sleep(0.01)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await block_and_wait()
