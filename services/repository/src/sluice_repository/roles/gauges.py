"""Gauges of backlog and queue depth, refreshed by polling (the autoscaling signals)."""

from __future__ import annotations

import asyncio

from sluice_core.concurrency.waiting import wait_at_most
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.guard import guarded


class GaugeRefresher:
    """Poller that keeps the gauges of one process up to date."""

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with guarded(self._deps.metrics, "gauges"):
                async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                    await self.refresh()
            await wait_at_most(stop, self._deps.options.gauge_interval_seconds)

    async def refresh(self) -> None:
        """Read ledger, catalogue and queue once and set the gauges."""
        metrics = self._deps.metrics
        backlog = await self._deps.ledger.backlog()
        metrics.queued_bytes.set(backlog.queued_bytes)
        metrics.ledger.budget_bytes.set(backlog.budget_bytes)
        metrics.open_uploads.set(backlog.open_uploads)
        if self._deps.catalogue is not None:
            metrics.migrations_pending.set(await self._deps.catalogue.missing_migrations())
        depth = await self._deps.queue.depth()
        metrics.queue_items.set(depth.items)
        metrics.queue_age_seconds.set(depth.oldest_age_seconds)
