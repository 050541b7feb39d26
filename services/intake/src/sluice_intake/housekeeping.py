"""Sweeping of a ledger in the intake's own memory, which no sweeper or relay can reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from sluice_common.telemetry.metrics import LedgerMetrics
from sluice_core.ports import ChunkStore, UploadLedger

_log = structlog.get_logger(__name__)
_PAGE = 500


class Housekeeping:
    """Expires, cleans up and purges uploads (docs/protocol.md, rules 24 and 25).

    In phases 1 and 2 no other process can access the ledger. Without this, every upload that ended
    would stay in memory until the intake stops.
    """

    def __init__(self, ledger: UploadLedger, chunks: ChunkStore, metrics: LedgerMetrics) -> None:
        self._ledger = ledger
        self._chunks = chunks
        self._sweeps = metrics.sweeps

    async def run(self, interval_seconds: float) -> None:
        """Run one pass per interval until cancelled; a failed pass is logged and retried."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.sweep()
            except Exception:  # noqa: BLE001 - one bad upload must not end the housekeeping
                self._sweeps.labels("failed").inc()
                _log.exception("housekeeping.pass_failed")

    async def sweep(self) -> None:
        """Run one pass over all due uploads, in bounded pages that yield to the event loop."""
        while ended := await self._ledger.expire_due(_PAGE):
            self._sweeps.labels("expired").inc(len(ended))
            await asyncio.sleep(0)
        while due := await self._ledger.cleanups_due(_PAGE):
            for snapshot in due:
                await self._chunks.drop_upload(snapshot.upload_id)
                await self._ledger.cleanup_done(snapshot.upload_id)
            self._sweeps.labels("cleaned").inc(len(due))
            await asyncio.sleep(0)
        # Discard the events: without a repository they have no consumer.
        while events := await self._ledger.pending_events(_PAGE):
            for upload_id, sequence in {e.upload_id: e.sequence for e in events}.items():
                await self._ledger.events_published(upload_id, sequence)
            await asyncio.sleep(0)
        while purged := await self._ledger.purge_due(_PAGE):
            self._sweeps.labels("purged").inc(purged)
            await asyncio.sleep(0)


@asynccontextmanager
async def background_housekeeping(
    ledger: UploadLedger, chunks: ChunkStore, metrics: LedgerMetrics, interval_seconds: float
) -> AsyncIterator[None]:
    """Run the housekeeping while the block runs."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Housekeeping(ledger, chunks, metrics).run(interval_seconds))
        try:
            yield
        finally:
            task.cancel()
