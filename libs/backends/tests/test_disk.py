"""Threads for file I/O: a job always ends before its caller continues."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Generator

import pytest

from sluice_backends.disk import DiskThreads
from support.waiting import until


@pytest.fixture
async def threads() -> AsyncIterator[DiskThreads]:
    opened = DiskThreads("test", workers=2, unavailable="TEST_UNAVAILABLE")
    yield opened
    await opened.aclose()


async def test_a_job_runs_off_the_event_loop(threads: DiskThreads) -> None:
    assert await threads.run(threading.get_ident) != threading.get_ident()


async def test_error_of_a_job_is_raised_to_its_caller(threads: DiskThreads) -> None:
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)


async def test_caller_cancelled_twice_still_waits_for_its_job(threads: DiskThreads) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def job() -> None:
        assert go_on.wait(60)
        ended.set()

    caller = asyncio.create_task(threads.run(job))
    await asyncio.sleep(0.01)
    caller.cancel()
    await asyncio.sleep(0.01)
    caller.cancel()
    await asyncio.sleep(0.01)
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_timeout_is_raised_after_the_job_ends(threads: DiskThreads) -> None:
    done: list[int] = []

    def job() -> None:
        time.sleep(0.1)
        done.append(1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await threads.run(job)
    assert done == [1]


def counting(closed: list[bool], made: list[int]) -> Generator[int, None, None]:
    try:
        for number in range(5):
            made.append(number)
            yield number
    finally:
        closed.append(True)


async def test_stream_reads_one_item_ahead_and_closes_its_source(threads: DiskThreads) -> None:
    closed: list[bool] = []
    made: list[int] = []
    items = threads.stream(counting(closed, made))
    assert await anext(items) == 0
    await until(lambda: len(made) > 1)
    await asyncio.sleep(0.05)
    assert made == [0, 1]
    assert [item async for item in items] == [1, 2, 3, 4]
    assert closed == [True]


async def test_leaving_a_stream_early_closes_its_source(threads: DiskThreads) -> None:
    closed: list[bool] = []
    items = threads.stream(counting(closed, []))
    await anext(items)
    await items.aclose()
    assert closed == [True]


async def test_stream_raises_an_error_after_earlier_items(
    threads: DiskThreads,
) -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise ZeroDivisionError

    items = threads.stream(failing())
    assert await anext(items) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(items)
