"""Chunks that arrive whole: UploadChunk and inline data."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from sluice_common.rpc.frames import Header
from sluice_core.access.actions import Action
from sluice_core.access.principal import Principal
from sluice_core.ports import Acceptance, UploadLedger
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver, make_offer
from sluice_intake.lookup import UploadGuard, reporting_lost_uploads
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions


@dataclass(frozen=True, slots=True)
class UnaryHandler:
    """Accepts chunks whose bytes are in memory already."""

    ledger: UploadLedger
    guard: UploadGuard
    receiver: ChunkReceiver
    acceptor: ChunkAcceptor
    admission: ChunkAdmission
    metrics: IntakeMetrics
    options: IntakeOptions

    async def accept(self, principal: Principal, header: Header, data: memoryview) -> Acceptance:
        """Accept one chunk of an upload that the caller may write to.

        Raise the errors of `UploadGuard.check` and `accept_unchecked`.
        """
        await self.guard.check(principal, Action.UPLOAD_CHUNK, header.upload_id)
        return await self.accept_unchecked(principal.tenant, header, data)

    async def accept_unchecked(self, tenant: str, header: Header, data: memoryview) -> Acceptance:
        """Accept one chunk.

        Raise `ResourceExhausted` LOOKAHEAD_EXCEEDED at once and BUDGET_FULL after a short wait
        (rule 10), and the errors of `IncomingChunk` and `ChunkAcceptor.accept`.
        """
        last_byte_at = time.perf_counter()
        upload_id = header.upload_id
        offer = make_offer(upload_id, header, self.options.ledger.max_chunk_bytes)
        with reporting_lost_uploads(self.ledger, upload_id):
            request_room = partial(self.admission.admit_unary, tenant)
            async with self.receiver.open(offer, header.crc32c, request_room, len(data)) as chunk:
                await chunk.append_whole(data)
                acceptance = await self.acceptor.accept(chunk)
        self.metrics.ack_seconds.labels("accepted").observe(time.perf_counter() - last_byte_at)
        await self.acceptor.enqueue_hints(upload_id, tenant, acceptance)
        return acceptance
