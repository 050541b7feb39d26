"""Tests of `walk` over due items."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sluice_repository.work.due_items import PAGE, walk


@given(stuck=st.sets(st.integers(0, 60)), total=st.integers(0, 60), page=st.integers(1, 7))
async def test_walk_handles_every_due_item_once(stuck: set[int], total: int, page: int) -> None:
    due = list(range(total))
    handled: list[int] = []

    async def fetch(limit: int, offset: int) -> Sequence[int]:
        return due[offset : offset + limit]

    async def handle(item: int) -> bool:
        handled.append(item)
        if item in stuck:
            return False
        due.remove(item)
        return True

    done = await walk(fetch, handle, lambda item: item, page)
    assert handled == list(range(total))
    assert done == total - len(stuck & set(range(total)))


async def test_list_that_never_shrinks_ends_the_walk() -> None:
    async def fetch(limit: int, offset: int) -> Sequence[int]:
        return list(range(10))[offset : offset + limit]

    async def handle(item: int) -> bool:
        return True

    assert await walk(fetch, handle, lambda item: item, 10) == 10


async def test_walk_reaches_items_behind_many_that_stay() -> None:
    """All pages have one size: items that stay are not fetched again."""
    due = list(range(120_001))
    sizes: set[int] = set()
    handled: list[int] = []

    async def fetch(limit: int, offset: int) -> Sequence[int]:
        sizes.add(limit)
        return due[offset : offset + limit]

    async def handle(item: int) -> bool:
        handled.append(item)
        return False

    assert await walk(fetch, handle, lambda item: item) == 0
    assert handled == due
    assert sizes == {PAGE}
