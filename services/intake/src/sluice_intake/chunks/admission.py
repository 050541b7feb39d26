"""Admission of a chunk before its bytes are read: granted, delayed or refused (rules 5, 9, 10)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from sluice_core.errors import ResourceExhausted
from sluice_core.ports import Admission, ChunkOffer, UploadLedger
from sluice_intake.chunks.pacing import TenantPacing
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions

BUDGET_FULL = "BUDGET_FULL"
LOOK_AHEAD_EXCEEDED = "LOOKAHEAD_EXCEEDED"

_MAX_WAIT_SECONDS = 1.0
"""Upper bound of one wait: a notification may be lost, and a retry once a second is cheap."""

NotifyThrottled = Callable[[Admission], Awaitable[None]]


class ChunkAdmission:
    """Requests room from the ledger and waits for it as long as the kind of call allows."""

    def __init__(
        self, ledger: UploadLedger, metrics: IntakeMetrics, options: IntakeOptions
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._options = options
        self._pacing = TenantPacing()

    async def admit_streamed(
        self, tenant: str, offer: ChunkOffer, more_bytes: int, throttled: NotifyThrottled
    ) -> Admission:
        """Return once the chunk holds the room; call `throttled` once if it is delayed.

        While chunks of the tenant are delayed, return at the pace of `TenantPacing`.

        Args:
            more_bytes: the part of the room that the chunk does not hold yet.

        Raise `ResourceExhausted` with the ledger's reason when there was no progress for too
        long: the needed chunk may be queued behind this one on the same stream, and only its
        client can know.
        """
        admission = await self._ledger.admit_chunk(offer)
        if admission.granted:
            await self._pacing.wait(tenant, more_bytes)
            return admission
        self._metrics.throttled.labels(admission.reason).inc()
        await throttled(admission)
        began = progressed_at = time.monotonic()
        last_position = await self._position(admission)
        while True:
            patience = self._patience_seconds(admission)
            now = time.monotonic()
            left = min(progressed_at + patience, began + self._options.max_delay_seconds) - now
            if left <= 0:
                raise self._refusal(offer, admission)
            self._pacing.delayed(tenant)
            await self._ledger.wait_for_room(offer.upload_id, min(left, _MAX_WAIT_SECONDS))
            admission = await self._ledger.admit_chunk(offer)
            if admission.granted:
                await self._pacing.wait(tenant, more_bytes)
                return admission
            position = await self._position(admission)
            if position != last_position:
                last_position, progressed_at = position, time.monotonic()

    async def admit_unary(self, tenant: str, offer: ChunkOffer, more_bytes: int) -> Admission:
        """Return once the bytes may be staged, paced as those of `admit_streamed`.

        Raise `ResourceExhausted` LOOKAHEAD_EXCEEDED at once, because the client holds the needed
        chunk; BUDGET_FULL after a short wait.
        """
        deadline = time.monotonic() + self._options.unary_budget_wait_seconds
        while True:
            admission = await self._ledger.admit_chunk(offer)
            if admission.granted:
                await self._pacing.wait(tenant, more_bytes)
                return admission
            left = deadline - time.monotonic()
            if admission.reason == LOOK_AHEAD_EXCEEDED or left <= 0:
                self._metrics.throttled.labels(admission.reason).inc()
                raise self._refusal(offer, admission)
            self._pacing.delayed(tenant)
            await self._ledger.wait_for_room(offer.upload_id, min(left, _MAX_WAIT_SECONDS))

    def _patience_seconds(self, admission: Admission) -> float:
        if admission.reason == LOOK_AHEAD_EXCEEDED:
            return self._options.look_ahead_stall_seconds
        return self._options.budget_stall_seconds

    async def _position(self, admission: Admission) -> tuple[str, int, int]:
        """Return a value that changes with every progress that can help the chunk.

        Beyond the look-ahead only the needed chunk helps. A full budget moves with every stored
        part of any upload.
        """
        if admission.reason == LOOK_AHEAD_EXCEEDED:
            return admission.reason, admission.needed_number, 0
        backlog = await self._ledger.backlog()
        return admission.reason, admission.needed_number, backlog.queued_bytes

    def _refusal(self, offer: ChunkOffer, admission: Admission) -> ResourceExhausted:
        if admission.reason == LOOK_AHEAD_EXCEEDED:
            message = (
                f"Chunk {offer.number} is too far ahead to become part of anything yet; send "
                f"chunk {admission.needed_number} first, or declare chunk_size when initiating."
            )
        else:
            message = (
                "The server has no room for the chunk at the moment; "
                f"send chunk {admission.needed_number} first, after the delay."
            )
        return ResourceExhausted(
            admission.reason,
            message,
            retry_after_seconds=self._options.retry_after_seconds,
            metadata={
                "number": str(offer.number),
                "needed_number": str(admission.needed_number),
            },
        )
