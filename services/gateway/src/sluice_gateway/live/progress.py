"""Ticks of progress, gathered for a moment and merged into the logs of their users."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import structlog

from sluice_core.errors import SluiceError
from sluice_core.live.updates import Audience, ProgressTick
from sluice_core.ports.live_updates import LiveUpdates
from sluice_gateway.metrics import LiveMetrics

GATHER_SECONDS: Final = 0.1
"""A tenth of the second within which progress is to be visible."""

MAX_PHOTOS: Final = 10_000
_CALL_TICKS: Final = 500
"""In one call of the port: about a millisecond of Redis."""
_CONCURRENT_CALLS: Final = 16

_log = structlog.get_logger(__name__)


class ProgressBatches:
    """Keeps the newest tick of each photo until the next flush.

    Progress is best effort: ticks are lost with the process and when the backend is down, and
    those of further photos are dropped when there are too many. A later tick makes up for each.

    Args:
        max_photos: bound of the memory, about 300 bytes each.
        pause: waits so many seconds; tests drive it.
    """

    def __init__(
        self,
        updates: LiveUpdates,
        metrics: LiveMetrics,
        max_photos: int = MAX_PHOTOS,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._updates = updates
        self._metrics = metrics
        self._max_photos = max_photos
        self._pause = pause
        self._pending: dict[Audience, dict[str, ProgressTick]] = {}
        self._photos = 0
        self._posted = asyncio.Event()
        self._is_failing = False

    def post(self, audience: Audience, ticks: Iterable[ProgressTick]) -> None:
        """Take ticks of a user's photos that are under way. Never fails, never waits."""
        pending = self._pending.setdefault(audience, {})
        for tick in ticks:
            known = pending.get(tick.photo_id)
            if known is not None:
                if tick.bytes_sent > known.bytes_sent:
                    pending[tick.photo_id] = tick
                self._count("merged", 1)
            elif self._photos < self._max_photos:
                pending[tick.photo_id] = tick
                self._photos += 1
            else:
                self._count("dropped", 1)
        if not pending:
            del self._pending[audience]
        self._posted.set()

    async def run(self) -> None:
        """Flush again and again, until cancelled."""
        while True:
            await self._posted.wait()
            await self._pause(GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Hand over everything that is pending."""
        self._posted.clear()
        pending, self._pending, self._photos = self._pending, {}, 0
        calls = iter(
            (audience, batch)
            for audience, ticks in pending.items()
            for batch in _batches(ticks.values())
        )
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CONCURRENT_CALLS):
                tasks.create_task(self._hand_over(calls))

    async def _hand_over(self, calls: Iterable[tuple[Audience, Sequence[ProgressTick]]]) -> None:
        for audience, ticks in calls:
            try:
                await self._updates.post_progress(audience, ticks)
            except SluiceError as error:
                if not self._is_failing:  # once, not ten times a second
                    _log.warning("progress.post_failed", error=str(error))
                self._is_failing = True
                self._count("failed", len(ticks))
            else:
                self._is_failing = False
                self._count("stored", len(ticks))

    def _count(self, outcome: str, ticks: int) -> None:
        self._metrics.ticks.labels(outcome).inc(ticks)


def _batches(ticks: Iterable[ProgressTick]) -> Iterable[list[ProgressTick]]:
    rest = iter(ticks)
    while batch := list(islice(rest, _CALL_TICKS)):
        yield batch
