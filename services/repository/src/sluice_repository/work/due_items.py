"""Iteration over a list of due items that has no cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

PAGE = 200


async def walk(
    fetch: Callable[[int, int], Awaitable[Sequence[Item]]],
    handle: Callable[[Item], Awaitable[bool]],
    key: Callable[[Item], Hashable],
    page: int = PAGE,
) -> int:
    """Handle every due item once and return how many were done.

    `fetch(limit, offset)` lists due items in a fixed order. `handle` returns whether the item is
    done and therefore no longer listed. The offset skips items that stay, so that any number of
    failing items never hides those behind them.
    """
    before: frozenset[Hashable] = frozenset()
    done = 0
    kept = 0
    while True:
        items = await fetch(page, kept)
        fresh = [item for item in items if key(item) not in before]
        for item in fresh:
            if await handle(item):
                done += 1
            else:
                kept += 1
        if len(items) < page or not fresh:
            return done
        before = frozenset(map(key, items))
