"""Removal of rows whose time is over: ended sessions, and answers of repeatable requests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from sluice_core.errors import SluiceError

INTERVAL_SECONDS: Final = 3600.0
_BATCH: Final = 1000

_log = structlog.get_logger(__name__)

Purge = Callable[[int], Awaitable[int]]
"""Deletes at most so many rows and returns how many."""


@asynccontextmanager
async def purging(
    *purges: Purge, interval_seconds: float = INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Delete what is over while the block runs, in each replica: deletions do not collide."""

    async def run() -> None:
        while True:
            # Spread, so that replicas that started together do not delete together.
            await asyncio.sleep(interval_seconds * random.uniform(0.5, 1.0))
            for purge in purges:
                await _purge(purge)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(), name="housekeeping")
        try:
            yield
        finally:
            task.cancel()


async def _purge(purge: Purge) -> None:
    try:
        while await purge(_BATCH) == _BATCH:
            continue
    except SluiceError as error:
        _log.warning("rows.purge_failed", reason=error.reason)
    except Exception:  # noqa: BLE001 - a defect here must not end the gateway
        _log.exception("rows.purge_failed")
