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
            await self.refresh()
            await wait_at_most(stop, self._deps.options.gauge_interval_seconds)

    async def refresh(self) -> None:
        """Read ledger, queue and catalogue once and set the gauges.

        Each is read under a guard of its own: replicas are added by the depth of the queue, which
        must not stand still because a database is away. The gauges of what fails keep their values.
        """
        for read in (self._read_ledger, self._read_queue, self._read_catalogue):
            with guarded(self._deps.metrics, "gauges"):
                async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                    await read()

    async def _read_ledger(self) -> None:
        metrics = self._deps.metrics
        backlog = await self._deps.ledger.backlog()
        metrics.queued_bytes.set(backlog.queued_bytes)
        metrics.ledger.budget_bytes.set(backlog.budget_bytes)
        metrics.open_uploads.set(backlog.open_uploads)

    async def _read_queue(self) -> None:
        depth = await self._deps.queue.depth()
        self._deps.metrics.queue_items.set(depth.items)
        self._deps.metrics.queue_age_seconds.set(depth.oldest_age_seconds)

    async def _read_catalogue(self) -> None:
        if self._deps.catalogue is not None:
            missing = await self._deps.catalogue.missing_migrations()
            self._deps.metrics.migrations_pending.set(missing)
