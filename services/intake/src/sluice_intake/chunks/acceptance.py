"""From staged bytes to an accepted chunk: the commit point and what follows it (rules 1, 2, 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_common.telemetry.metrics import Metrics
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import DeadlineExceeded, Internal, SluiceError, Unavailable
from sluice_core.ports import (
    Acceptance,
    ChunkOffer,
    ChunkStore,
    Completion,
    UploadLedger,
    Verdict,
    WorkItem,
    WorkKind,
    WorkQueue,
)
from sluice_intake.chunks.reception import IncomingChunk
from sluice_intake.options import IntakeOptions

_log = structlog.get_logger(__name__)

_OUTCOME_UNKNOWN = (Unavailable, DeadlineExceeded, Internal)
"""After these the ledger may have accepted the chunk all the same."""


class ChunkAcceptor:
    """Commits chunks that have been received whole."""

    def __init__(
        self,
        ledger: UploadLedger,
        chunks: ChunkStore,
        queue: WorkQueue,
        metrics: Metrics,
        options: IntakeOptions,
    ) -> None:
        self._ledger = ledger
        self._chunks = chunks
        self._queue = queue
        self._metrics = metrics
        self._hint_seconds = options.hint_seconds

    async def accept(self, chunk: IncomingChunk) -> Acceptance:
        """Seal, then accept; in this order a crash in between leaves bytes that nothing names,
        which are swept, and never a chunk without bytes.

        Raises `DataLoss` CHECKSUM_MISMATCH and the errors of `UploadLedger.accept_chunk`.
        """
        await chunk.seal()
        # From here to the ledger's answer the client may go, but not its chunk: without the
        # answer nobody could tell whether the staged bytes are still needed.
        return await finish_despite_cancel(self._commit(chunk.offer, chunk.crc32c))

    async def announce(self, upload_id: str, tenant: str, step: Acceptance | Completion) -> None:
        """Queue what the step made ready. Hints: what does not get through is re-issued by the
        sweeper (rule 15), so neither a full queue nor a broken one fails the caller."""
        if not step.ready_parts and not step.completion_ready:
            return
        items = [WorkItem(WorkKind.PART, upload_id, tenant, number) for number in step.ready_parts]
        if step.completion_ready:
            items.append(WorkItem(WorkKind.COMPLETION, upload_id, tenant))
        try:
            async with asyncio.timeout(self._hint_seconds):
                for item in items:
                    await self._queue.put(item)
        except TimeoutError:
            _log.warning("queue.full", upload_id=upload_id, items=len(items))
        except SluiceError as error:
            _log.warning("queue.failed", upload_id=upload_id, reason=error.reason)

    async def _commit(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        crash_point(CrashPoint.BEFORE_ACCEPT_CHUNK)
        try:
            acceptance = await self._ledger.accept_chunk(offer, crc32c)
        except _OUTCOME_UNKNOWN:
            raise
        except SluiceError as error:
            self._metrics.chunks.labels(error.reason).inc()
            await self._discard(offer)
            raise
        crash_point(CrashPoint.AFTER_ACCEPT_CHUNK)
        await self._drop(offer.upload_id, acceptance.drop_tokens)
        self._metrics.chunks.labels(acceptance.verdict.value).inc()
        if acceptance.verdict is not Verdict.DUPLICATE:
            self._metrics.received_bytes.inc(offer.size)
        return acceptance

    async def _discard(self, offer: ChunkOffer) -> None:
        """The ledger refused the chunk: neither its bytes nor its room are needed."""
        await self._drop(offer.upload_id, (offer.token,))
        try:
            await self._ledger.release_chunk(offer)
        except SluiceError as error:
            _log.warning("chunk.release_failed", upload_id=offer.upload_id, reason=error.reason)

    async def _drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        if not tokens:
            return
        try:
            await self._chunks.drop(upload_id, tokens)
        except SluiceError as error:
            # The sweeper finds bytes that no chunk names; the ledger's answer stands.
            _log.warning("chunk.drop_failed", upload_id=upload_id, reason=error.reason)
