"""Expiry of streams: a grace period after the token, by a clock that may be set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_core.errors import NotFound, Unauthenticated
from support.virtual_time import in_virtual_time

START = 1_800_000_000.0


def loop_clock() -> Callable[[], float]:
    loop = asyncio.get_running_loop()
    return lambda: START + loop.time()


@in_virtual_time
async def test_stream_ends_with_its_token_and_the_grace() -> None:
    ended: list[float] = []
    expiry = StreamExpiry(300.0, clock=loop_clock())
    with pytest.raises(Unauthenticated) as caught:
        async with expiry.limit(START + 3600, lambda: ended.append(loop_clock()() - START)):
            await asyncio.Event().wait()
    assert caught.value.reason == "TOKEN_EXPIRED"
    assert ended == [pytest.approx(3900)]


@in_virtual_time
async def test_finished_stream_is_left_alone() -> None:
    expiry = StreamExpiry(0.0, clock=loop_clock())
    async with expiry.limit(START + 10):
        await asyncio.sleep(9)
    await asyncio.sleep(100)


@in_virtual_time
async def test_other_errors_of_a_stream_pass() -> None:
    expiry = StreamExpiry(0.0, clock=loop_clock())
    with pytest.raises(NotFound):
        async with expiry.limit(START + 10):
            raise NotFound("NO_SUCH_THING", "There is no such thing.")
    with pytest.raises(TimeoutError):
        async with expiry.limit(START + 10):
            raise TimeoutError


@in_virtual_time
async def test_clock_that_is_set_ahead_ends_the_stream() -> None:
    """The event loop's clock does not notice that a machine slept."""
    ahead = 0.0

    def set_ahead() -> None:
        nonlocal ahead
        ahead = 10.0**7

    clock = loop_clock()
    expiry = StreamExpiry(0.0, clock=lambda: clock() + ahead)
    asyncio.get_running_loop().call_later(5, set_ahead)
    with pytest.raises(Unauthenticated):
        async with expiry.limit(START + 10**6):
            await asyncio.Event().wait()
    assert clock() - START == StreamExpiry.check_seconds


@in_virtual_time
async def test_stream_ends_soon_after_its_key_was_withdrawn() -> None:
    """Without the grace: nobody may use a stolen key."""
    clock = loop_clock()
    expiry = StreamExpiry(300.0, clock=clock)
    with pytest.raises(Unauthenticated) as caught:
        async with expiry.limit(START + 10**6, is_withdrawn=lambda: clock() - START > 100):
            await asyncio.Event().wait()
    assert caught.value.reason == "TOKEN_EXPIRED", "so that the client sends a new token"
    assert clock() - START == 2 * StreamExpiry.check_seconds


@in_virtual_time
async def test_stream_in_the_leeway_gets_the_rest_of_the_grace() -> None:
    expiry = StreamExpiry(20.0, clock=loop_clock())
    with pytest.raises(Unauthenticated):
        async with expiry.limit(START - 10):
            await asyncio.Event().wait()
    assert loop_clock()() - START == pytest.approx(10)


@in_virtual_time
async def test_cancelled_stream_stays_cancelled() -> None:
    expiry = StreamExpiry(0.0, clock=loop_clock())
    started = asyncio.Event()

    async def serve() -> None:
        async with expiry.limit(START + 10):
            started.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve())
        await started.wait()
        serving.cancel()
    assert serving.cancelled()
