"""Walking a list of due things that has no cursor: what is done leaves it, what failed stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

PAGE = 200
MOST_SEEN = 100_000
"""Items of one walk; beyond that, the rest waits for the next one."""


async def walk(
    fetch: Callable[[int], Awaitable[Sequence[Item]]],
    handle: Callable[[Item], Awaitable[bool]],
    key: Callable[[Item], Hashable],
    page: int = PAGE,
) -> int:
    """Handle every due item once; returns how many were done.

    `fetch(limit)` lists the first due items, `handle` answers whether the item is done, i.e. will
    not be listed again. Items that stay are asked for again on top of the page, so that a few
    that cannot be done never hide those behind them.
    """
    seen: set[Hashable] = set()
    done = 0
    kept = 0
    while len(seen) < MOST_SEEN:
        asked = page + kept
        items = await fetch(asked)
        fresh = [item for item in items if key(item) not in seen]
        for item in fresh:
            seen.add(key(item))
            if await handle(item):
                done += 1
            else:
                kept += 1
        if len(items) < asked or not fresh:
            break
    return done
