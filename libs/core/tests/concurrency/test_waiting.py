"""Delays grow, are spread and stay bounded; a sleep ends when its signal comes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most


@given(attempt=st.integers(-1, 10_000), base=st.floats(0.01, 5), cap=st.floats(5, 100))
def test_a_delay_is_between_half_and_all_of_a_doubling_that_is_capped(
    attempt: int, base: float, cap: float
) -> None:
    delay = backoff_seconds(attempt, base, cap)
    assert base / 2 <= delay <= cap
    if attempt > 0:
        assert delay <= base * 2 ** min(attempt - 1, 100)


async def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    event = asyncio.Event()
    assert not await wait_at_most(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_at_most(event, 30)


async def test_an_event_that_is_set_already_is_not_waited_for() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_at_most(event, 0)
