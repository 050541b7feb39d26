"""Turns of the sweeper: bounded in time, and no item keeps the others from theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from sluice_core.errors import SluiceError

_AT_ONCE: Final = 8
_ITEM_SECONDS: Final = 30.0
_MAX_FAILURES: Final = 20
"""Then it is most likely no item that is bad: the store or the catalogue does not answer."""

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


class Turn:
    """One turn of one kind of work.

    An item that fails is logged. When the turn is over, no further item is begun, so that a turn
    lasts little longer than `seconds`. The next one goes on behind the last item that was begun.
    """

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind = kind
        self._ends = asyncio.get_running_loop().time() + seconds
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Return whether its time is up, or too much has failed in it. Stays true."""
        return self._failures >= _MAX_FAILURES or asyncio.get_running_loop().time() >= self._ends

    async def each(
        self, items: Sequence[Item], handle: Callable[[Item], Awaitable[Result]]
    ) -> list[Result | None]:
        """Handle items, some of them at once.

        Return the results of those that were begun, which are the first ones; None for a failure.
        """
        results: list[Result | None] = []
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                if self.is_over:
                    return
                number = len(results)
                results.append(None)
                results[number] = await self._guarded(item, handle)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(items))):
                group.create_task(work())
        return results

    async def together(
        self, items: Sequence[Item], handle: Callable[[Sequence[Item]], Awaitable[int]]
    ) -> tuple[int, int]:
        """Handle items by one call, which returns how many it mended; one by one if it fails.

        Return how many were mended, and how many were begun.
        """
        if not items:
            return 0, 0
        try:
            async with asyncio.timeout(_ITEM_SECONDS):
                return await handle(items), len(items)
        except Exception as error:  # noqa: BLE001 - the item that meets it is logged below
            _log.warning("sweep.batch_failed", kind=self.kind, error=str(error) or repr(error))
        results = await self.each(items, lambda item: handle([item]))
        return sum(result or 0 for result in results), len(results)

    async def _guarded(
        self, item: Item, handle: Callable[[Item], Awaitable[Result]]
    ) -> Result | None:
        try:
            async with asyncio.timeout(_ITEM_SECONDS):
                return await handle(item)
        except (SluiceError, TimeoutError) as error:
            _log.warning(
                "sweep.item_failed",
                kind=self.kind,
                item=repr(item),
                error=str(error) or repr(error),
            )
        except Exception:  # noqa: BLE001 - a defect that one item meets
            _log.exception("sweep.item_failed", kind=self.kind, item=repr(item))
        self._failures += 1
        return None
