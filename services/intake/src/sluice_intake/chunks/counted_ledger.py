"""The ledger as `ChunkAcceptor` sees it: counts the chunks that it accepts and refuses."""

from __future__ import annotations

from sluice_core.errors import SluiceError
from sluice_core.ports import Acceptance, Admission, ChunkLedger, ChunkOffer, Verdict
from sluice_intake.chunks.acceptance import OUTCOME_UNKNOWN
from sluice_intake.metrics import IntakeMetrics


class CountedLedger:
    """A `ChunkLedger` that counts (`sluice_chunks`, `sluice_received_bytes`).

    A chunk whose outcome is unknown is not counted: its client sends it again.
    """

    def __init__(self, ledger: ChunkLedger, metrics: IntakeMetrics) -> None:
        self._ledger = ledger
        self._chunks = metrics.chunks
        self._received_bytes = metrics.received_bytes

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        return await self._ledger.admit_chunk(offer)

    async def wait_for_room(self, upload_id: str, timeout_seconds: float) -> None:
        await self._ledger.wait_for_room(upload_id, timeout_seconds)

    async def release_chunk(self, offer: ChunkOffer) -> None:
        await self._ledger.release_chunk(offer)

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        try:
            acceptance = await self._ledger.accept_chunk(offer, crc32c)
        except OUTCOME_UNKNOWN:
            raise
        except SluiceError as error:
            self._chunks.labels(error.reason).inc()
            raise
        self._chunks.labels(acceptance.verdict.value).inc()
        if acceptance.verdict is not Verdict.DUPLICATE:
            self._received_bytes.inc(offer.size)
        return acceptance
