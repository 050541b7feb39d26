"""Ledgers on a fake clock, and a minimal client and worker."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sluice_backends.embedded.ledger.ledger import open_sqlite_ledger
from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import (
    Acceptance,
    Admission,
    ChunkOffer,
    Completion,
    CompletionClaim,
    PartClaim,
    StoredPartRecord,
    UploadLedger,
    WorkKind,
)
from sluice_core.uploads.checksums import combined_crc32c, crc32c
from sluice_core.uploads.ids import new_node_id, new_upload_id
from sluice_core.uploads.model import (
    ChunkRange,
    ChunkRef,
    NewUpload,
    ObjectRef,
    UploadSnapshot,
    UploadStatus,
)
from support.redis_ledgers import redis, redis_cluster

LEASE_SECONDS = 15.0
HOUR = 3600.0
DAY = 24 * HOUR
PART_BYTES = 16
"""Small, so that tests can count bytes; the planner's tests cover the limits of S3."""

ROOMY = LedgerOptions(
    budget_bytes=1_000_000,
    tenant_budget_bytes=1_000_000,
    upload_budget_bytes=1_000_000,
    max_chunk_bytes=64,
)


class FakeClock:
    """A clock that moves only by `advance`."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


LedgerFactory = Callable[
    [Path, LedgerOptions, FakeClock], AbstractAsyncContextManager[UploadLedger]
]
"""Opens a ledger, which stores its data in the folder if it is durable."""


@asynccontextmanager
async def memory(
    folder: Path, options: LedgerOptions, clock: FakeClock
) -> AsyncIterator[UploadLedger]:
    yield MemoryLedger(options, clock)


@asynccontextmanager
async def sqlite(
    folder: Path, options: LedgerOptions, clock: FakeClock
) -> AsyncIterator[UploadLedger]:
    path = folder / "ledger.db"
    async with open_sqlite_ledger(path, options, fsync=False, clock=clock) as ledger:
        yield ledger


LEDGERS: Mapping[str, LedgerFactory] = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": redis,
    "redis_cluster": redis_cluster,
}
"""Every adapter; the contract suite runs on all of them."""


# Size: one short method for each call that a client or a worker makes.
class Driver:
    """Sends chunks and stores parts as the services do."""

    def __init__(self, ledger: UploadLedger, clock: FakeClock) -> None:
        self.ledger = ledger
        self.clock = clock
        self._tokens = (f"token-{n}" for n in itertools.count())

    def token(self) -> str:
        return next(self._tokens)

    def new(self, **changes: Any) -> NewUpload:
        node_id = new_node_id()
        new = NewUpload(
            upload_id=new_upload_id(self.ledger.nonce, "acme", ""),
            node_id=node_id,
            tenant="acme",
            subject="ann",
            drive="photos",
            path="a/b.txt",
            content_type="text/plain",
            fingerprint="f",
            object=ObjectRef("bucket", f"acme/photos/{node_id}"),
            part_bytes=PART_BYTES,
        )
        return replace(new, **changes)

    async def create(self, **changes: Any) -> str:
        """Create an upload and return its id."""
        return (await self.ledger.create(self.new(**changes))).upload_id

    def offer(
        self,
        upload_id: str,
        number: int,
        size: int,
        *,
        is_last: bool = False,
        force: bool = False,
    ) -> ChunkOffer:
        return ChunkOffer(upload_id, number, size, self.token(), is_last, force)

    async def admit(self, upload_id: str, number: int, size: int) -> Admission:
        return await self.ledger.admit_chunk(self.offer(upload_id, number, size))

    async def send(
        self,
        upload_id: str,
        number: int,
        content: bytes,
        *,
        is_last: bool = False,
        force: bool = False,
    ) -> Acceptance:
        """Admit and accept a chunk; fail the test without room."""
        offer = self.offer(upload_id, number, len(content), is_last=is_last, force=force)
        admission = await self.ledger.admit_chunk(offer)
        assert admission.granted, admission
        return await self.ledger.accept_chunk(offer, crc32c(content))

    async def send_all(self, upload_id: str, content: bytes, chunk_size: int) -> int:
        """Send the content in chunks of one size, in order; return their number."""
        pieces = [content[at : at + chunk_size] for at in range(0, len(content), chunk_size)]
        for number, piece in enumerate(pieces):
            await self.send(upload_id, number, piece)
        return len(pieces)

    async def complete(self, upload_id: str, total: int | None = None) -> Completion:
        return await self.ledger.request_completion(upload_id, total, None, None)

    async def status(self, upload_id: str) -> UploadStatus:
        return (await self.ledger.get(upload_id)).status

    async def missing(self, upload_id: str, limit: int = 100) -> list[tuple[int, int]]:
        ranges = (await self.ledger.missing_chunks(upload_id, limit)).ranges
        return [(gap.first, gap.last) for gap in ranges]

    def is_subscribed(self, upload_id: str) -> bool:
        """Return whether waiters for the upload, or for room, would be notified by now."""
        ledger: Any = self.ledger
        return ledger.is_subscribed(upload_id) if hasattr(ledger, "is_subscribed") else True

    # -- the worker

    async def ready(self) -> list[tuple[str, int]]:
        """Return (upload id, part) of the ready, unclaimed parts."""
        work = await self.ledger.ready_work(1_000)
        return [(w.upload_id, w.part_number) for w in work if w.kind is WorkKind.PART]

    async def claim(self, upload_id: str, part: int, holder: str = "worker") -> PartClaim:
        claim = await self.ledger.claim_part(upload_id, part, holder, LEASE_SECONDS)
        assert claim is not None
        return claim

    async def chunks_of(self, claim: PartClaim, page: int = 100) -> list[ChunkRef]:
        upload_id, after = claim.snapshot.upload_id, claim.plan.first_chunk - 1
        listed: list[ChunkRef] = []
        while True:
            chunks = await self.ledger.part_chunks(upload_id, claim.plan, after, page)
            if not chunks:
                return listed
            listed += chunks
            after = chunks[-1].number

    async def record_of(self, claim: PartClaim) -> StoredPartRecord:
        pieces = [(chunk.crc32c, chunk.size) for chunk in await self.chunks_of(claim)]
        part = claim.plan.number
        return StoredPartRecord(part, f"etag-{part}", claim.size, combined_crc32c(pieces))

    async def store(self, upload_id: str, part: int, holder: str = "worker") -> Completion:
        claim = await self.claim(upload_id, part, holder)
        return await self.ledger.record_part(claim, await self.record_of(claim))

    async def store_all(self) -> None:
        """Store all ready parts of all uploads."""
        for upload_id, part in await self.ready():
            await self.store(upload_id, part)

    async def claim_completion(self, upload_id: str, holder: str = "worker") -> CompletionClaim:
        claim = await self.ledger.claim_completion(upload_id, holder, LEASE_SECONDS)
        assert claim is not None
        return claim

    async def finish(self, upload_id: str) -> UploadSnapshot:
        """Store the remaining parts, then complete."""
        await self.store_all()
        claim = await self.claim_completion(upload_id)
        parts = await self.ledger.stored_parts(upload_id, 0, 10_000)
        crc = combined_crc32c((part.crc32c, part.size) for part in parts)
        return await self.ledger.finish(claim, crc, None)

    async def completed(self, content: bytes = b"hello") -> str:
        """Create and complete an upload; return its id."""
        upload_id = await self.create()
        await self.send(upload_id, 0, content, is_last=True)
        await self.complete(upload_id)
        await self.finish(upload_id)
        return upload_id


OpenDriver = Callable[..., Awaitable[Driver]]
"""Opens a ledger with ROOMY options and the given changes."""


def ranges(*pairs: tuple[int, int]) -> tuple[ChunkRange, ...]:
    return tuple(ChunkRange(first, last) for first, last in pairs)
