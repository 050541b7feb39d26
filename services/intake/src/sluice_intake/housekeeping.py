"""What a sweeper and a relay do elsewhere, for the ledger that lives in the intake's own memory.

In phases 1 and 2 no other process sees that ledger. Without this, every upload that ever ended
would stay in memory until the intake stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from sluice_common.telemetry.metrics import Metrics
from sluice_core.ports import ChunkStore, UploadLedger

_log = structlog.get_logger(__name__)
_PAGE = 500


class Housekeeping:
    """Ends what is due and forgets what ended (docs/protocol.md, rules 24 and 25)."""

    def __init__(self, ledger: UploadLedger, chunks: ChunkStore, metrics: Metrics) -> None:
        self._ledger = ledger
        self._chunks = chunks
        self._sweeps = metrics.sweeps

    async def run(self, interval_seconds: float) -> None:
        """A pass per interval until cancelled; a pass that fails is logged, and the next one
        tries again."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.sweep()
            except Exception:  # noqa: BLE001 - one bad upload must not end the keeping
                self._sweeps.labels("failed").inc()
                _log.exception("housekeeping_failed")

    async def sweep(self) -> None:
        """One pass. Pages are bounded and calls go on until one finds nothing, so that the event
        loop has its turn between them."""
        while ended := await self._ledger.expire_due(_PAGE):
            self._sweeps.labels("expired").inc(len(ended))
            await asyncio.sleep(0)
        while due := await self._ledger.cleanups_due(_PAGE):
            for snapshot in due:
                await self._chunks.drop_upload(snapshot.upload_id)
                await self._ledger.cleanup_done(snapshot.upload_id)
            self._sweeps.labels("cleaned").inc(len(due))
            await asyncio.sleep(0)
        # There is nobody to tell: events need a repository.
        while events := await self._ledger.pending_events(_PAGE):
            for upload_id, sequence in {e.upload_id: e.sequence for e in events}.items():
                await self._ledger.events_published(upload_id, sequence)
            await asyncio.sleep(0)
        while purged := await self._ledger.purge_due(_PAGE):
            self._sweeps.labels("purged").inc(purged)
            await asyncio.sleep(0)


@asynccontextmanager
async def keeping_house(
    ledger: UploadLedger, chunks: ChunkStore, metrics: Metrics, interval_seconds: float
) -> AsyncIterator[None]:
    """Keep house while the block runs."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Housekeeping(ledger, chunks, metrics).run(interval_seconds))
        try:
            yield
        finally:
            task.cancel()
