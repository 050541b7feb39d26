"""Backoff delays, and waits that an event ends."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most


@given(attempt=st.integers(-1, 10_000), base=st.floats(0.01, 5), cap=st.floats(5, 100))
def test_backoff_is_half_to_all_of_a_capped_doubling(attempt: int, base: float, cap: float) -> None:
    delay = backoff_seconds(attempt, base, cap)
    assert base / 2 <= delay <= cap
    if attempt > 0:
        assert delay <= base * 2 ** min(attempt - 1, 100)


async def test_wait_ends_with_the_event_or_the_timeout() -> None:
    event = asyncio.Event()
    assert not await wait_at_most(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_at_most(event, 30)


async def test_wait_for_a_set_event_returns_at_once() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_at_most(event, 0)
