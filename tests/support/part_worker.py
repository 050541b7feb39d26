"""A repository worker for tests that stores parts in a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from sluice_core.ports import (
    ChunkStore,
    StoredPartRecord,
    UploadLedger,
    WorkItem,
    WorkKind,
    WorkQueue,
)
from sluice_core.uploads.checksums import combined_crc32c, crc32c
from support.intake import Intake

_LEASE_SECONDS = 15.0
_ANY_NUMBER = 1000


@dataclass(slots=True)
class PartWorker:
    """Takes items from the queue and handles them by the ledger's rules."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def object_of(self, upload_id: str) -> bytes:
        """Return the stored bytes of an upload, in order."""
        parts = self.parts.get(upload_id, {})
        return b"".join(parts[number] for number in sorted(parts))

    async def work(self) -> None:
        while True:
            delivery = await self.queue.take(frozenset(WorkKind), "tests", wait_seconds=1.0)
            if delivery is not None:
                await self._do(delivery.item)
                await self.queue.acknowledge(delivery)

    async def _do(self, item: WorkItem) -> None:
        if item.kind is WorkKind.PART:
            await self._store(item)
        else:
            await self._finish(item)

    async def _store(self, item: WorkItem) -> None:
        claim = await self.ledger.claim_part(
            item.upload_id, item.part_number, "tests", _LEASE_SECONDS
        )
        if claim is None:
            return
        chunks = await self.ledger.part_chunks(
            item.upload_id, claim.plan, claim.plan.first_chunk - 1, _ANY_NUMBER
        )
        content = b"".join(
            [block for chunk in chunks async for block in self.chunks.read(item.upload_id, chunk)]
        )
        self.parts.setdefault(item.upload_id, {})[claim.plan.number] = content
        record = StoredPartRecord(claim.plan.number, "etag", len(content), crc32c(content))
        step = await self.ledger.record_part(claim, record)
        await self.chunks.drop(item.upload_id, [chunk.token for chunk in chunks])
        for number in step.ready_parts:
            await self.queue.put(WorkItem(WorkKind.PART, item.upload_id, item.tenant, number))
        if step.completion_ready:
            await self.queue.put(WorkItem(WorkKind.COMPLETION, item.upload_id, item.tenant))

    async def _finish(self, item: WorkItem) -> None:
        claim = await self.ledger.claim_completion(item.upload_id, "tests", _LEASE_SECONDS)
        if claim is None:
            return
        parts = await self.ledger.stored_parts(item.upload_id, 0, _ANY_NUMBER)
        crc = combined_crc32c((part.crc32c, part.size) for part in parts)
        await self.ledger.finish(claim, crc, None)


@asynccontextmanager
async def working_for(intake: Intake) -> AsyncIterator[PartWorker]:
    """Run a worker for an intake inside the block."""
    worker = PartWorker(intake.ledger, intake.chunks, intake.queue)
    task = asyncio.get_running_loop().create_task(worker.work())
    try:
        yield worker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
