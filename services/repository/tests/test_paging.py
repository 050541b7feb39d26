"""Walks over due lists end and hide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sluice_repository.paging import walk


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
