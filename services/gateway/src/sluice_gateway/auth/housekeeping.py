"""Removal of sessions that have ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from sluice_core.errors import SluiceError

INTERVAL_SECONDS: Final = 3600.0
_BATCH: Final = 1000

_log = structlog.get_logger(__name__)


class Families(Protocol):
    async def purge_token_families(self, limit: int) -> int: ...


@asynccontextmanager
async def purging_families(
    families: Families, interval_seconds: float = INTERVAL_SECONDS
) -> AsyncIterator[None]:
    """Delete ended sessions while the block runs, in each replica: deletions do not collide."""

    async def run() -> None:
        while True:
            # Spread, so that replicas that started together do not delete together.
            await asyncio.sleep(interval_seconds * random.uniform(0.5, 1.0))
            await _purge(families)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(), name="sessions")
        try:
            yield
        finally:
            task.cancel()


async def _purge(families: Families) -> None:
    try:
        while await families.purge_token_families(_BATCH) == _BATCH:
            continue
    except SluiceError as error:
        _log.warning("sessions.purge_failed", reason=error.reason)
    except Exception:  # noqa: BLE001 - a defect here must not end the gateway
        _log.exception("sessions.purge_failed")
