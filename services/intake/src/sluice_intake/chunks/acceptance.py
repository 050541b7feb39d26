"""The commit point of a chunk: staged bytes become an accepted chunk (rules 1, 2, 6)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sluice_common.backends.hints import enqueue_hints
from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import DeadlineExceeded, Internal, SluiceError, Unavailable
from sluice_core.ports import (
    Acceptance,
    ChunkLedger,
    ChunkOffer,
    ChunkStore,
    Completion,
    WorkQueue,
)
from sluice_intake.chunks.reception import IncomingChunk
from sluice_intake.options import IntakeOptions

_log = structlog.get_logger(__name__)

OUTCOME_UNKNOWN = (Unavailable, DeadlineExceeded, Internal)
"""Errors after which the ledger may still have accepted the chunk."""


class ChunkAcceptor:
    """The stage that commits completely received chunks."""

    def __init__(
        self,
        ledger: ChunkLedger,
        chunks: ChunkStore,
        queue: WorkQueue,
        options: IntakeOptions,
    ) -> None:
        self._ledger = ledger
        self._chunks = chunks
        self._queue = queue
        self._hint_seconds = options.hint_seconds

    async def accept(self, chunk: IncomingChunk) -> Acceptance:
        """Seal the bytes, then commit the chunk in the ledger.

        The order matters: a crash in between leaves unreferenced bytes, which the sweeper
        removes, and never a chunk without bytes.

        Raise `DataLoss` CHECKSUM_MISMATCH and the errors of `UploadLedger.accept_chunk`.
        """
        await chunk.seal()
        # Shielded from the client's cancellation: without the ledger's answer it is unknown
        # whether the staged bytes are still needed.
        return await finish_despite_cancel(self._commit(chunk.offer, chunk.crc32c))

    async def enqueue_hints(
        self, upload_id: str, tenant: str, step: Acceptance | Completion
    ) -> None:
        """Queue the parts and the completion that the step made ready, best effort."""
        await enqueue_hints(self._queue, upload_id, tenant, step, self._hint_seconds)

    async def _commit(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        crash_point(CrashPoint.BEFORE_ACCEPT_CHUNK)
        try:
            acceptance = await self._ledger.accept_chunk(offer, crc32c)
        except OUTCOME_UNKNOWN:
            raise
        except SluiceError:
            await self._discard(offer)
            raise
        crash_point(CrashPoint.AFTER_ACCEPT_CHUNK)
        await self._drop(offer.upload_id, acceptance.drop_tokens)
        return acceptance

    async def _discard(self, offer: ChunkOffer) -> None:
        """Drop the bytes and release the room of a chunk that the ledger refused."""
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
            # The ledger's answer stands: the sweeper removes bytes that no chunk references.
            _log.warning("chunk.drop_failed", upload_id=upload_id, reason=error.reason)
