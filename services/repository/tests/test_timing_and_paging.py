"""Delays grow, are spread and stay bounded; walks over due lists end and hide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sluice_repository.paging import walk
from sluice_repository.timing import backoff_seconds, wait_for_event


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
    assert not await wait_for_event(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_for_event(event, 30)


@given(stuck=st.sets(st.integers(0, 60)), total=st.integers(0, 60), page=st.integers(1, 7))
async def test_every_due_item_has_one_turn_however_many_stay_behind(
    stuck: set[int], total: int, page: int
) -> None:
    due = list(range(total))
    handled: list[int] = []

    async def fetch(limit: int) -> Sequence[int]:
        return due[:limit]

    async def handle(item: int) -> bool:
        handled.append(item)
        if item in stuck:
            return False
        due.remove(item)
        return True

    done = await walk(fetch, handle, lambda item: item, page)
    assert handled == list(range(total))
    assert done == total - len(stuck & set(range(total)))


async def test_a_list_that_never_shrinks_ends_the_walk() -> None:
    async def fetch(limit: int) -> Sequence[int]:
        return list(range(limit))[:10]

    async def handle(item: int) -> bool:
        return True

    assert await walk(fetch, handle, lambda item: item, 10) == 10
