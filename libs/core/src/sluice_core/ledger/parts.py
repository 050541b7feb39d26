"""Part claims, stored parts and rejected chunks (rules 8, 12, 13, 15–17)."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.ledger import fences, layout, refusals
from sluice_core.ledger.store import PartRow, RejectedChunk, Session
from sluice_core.ports import Completion, PartClaim, StoredPartRecord
from sluice_core.ports.inspection import PartState
from sluice_core.uploads.model import ChunkRef, PartPlan, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import check_transition


def claim_part(
    s: Session, upload_id: str, number: int, holder: str, lease_seconds: float
) -> PartClaim | None:
    """Claim a ready part; None when it is not available."""
    record = s.require(upload_id)
    row = s.store.part(upload_id, number)
    if record.ended or row is None or row.state is not PartState.READY:
        return None
    fence = fences.take(s, record, number, holder, lease_seconds)
    if fence is None:
        return None
    plan = PartPlan(row.number, row.first, row.last)
    return PartClaim(s.snapshot(record), plan, row.size, fence, record.single_put, s.clock())


def part_chunks(
    s: Session, upload_id: str, plan: PartPlan, after_number: int, limit: int
) -> Sequence[ChunkRef]:
    """Return a page of the chunks of a part, in order."""
    s.require(upload_id)
    first = max(plan.first_chunk, after_number + 1)
    return s.store.chunks(upload_id, first, plan.last_chunk, limit)


def set_multipart(s: Session, claim: PartClaim, multipart_id: str) -> str:
    """Record the multipart of an upload; return the first one recorded, which wins (rule 13)."""
    record = s.require(claim.snapshot.upload_id)
    fences.check(s, record, claim)
    if not record.multipart_id:
        record.multipart_id = multipart_id
        record.changed(s.clock())
        s.save(record)
    return record.multipart_id


def record_part(s: Session, claim: PartClaim, part: StoredPartRecord) -> Completion:
    """Record a stored part. Repeating the same record is a no-op for any worker (rule 16)."""
    record = s.require(claim.snapshot.upload_id)
    row = s.store.part(record.upload_id, part.number)
    if row is not None and row.state is PartState.STORED and _stored(row) == part:
        return Completion(s.snapshot(record), (), record.completion_ready)
    fences.check(s, record, claim)
    if row is None or row.state is not PartState.READY or part.number != claim.plan.number:
        raise refusals.part_not_ready()
    if part.size != row.size:
        raise refusals.part_size_mismatch(part.number, row.size, part.size)
    row.etag = part.etag
    row.crc32c = part.crc32c
    row.sha256 = part.sha256
    if part.sha256 is not None and record.single_put:
        record.sha256 = part.sha256
    layout.mark_stored(s, record, row)
    record.changed(s.clock())
    s.save(record)
    return Completion(s.snapshot(record), (), record.completion_ready)


def reject_chunk(s: Session, claim: PartClaim, number: int) -> UploadSnapshot:
    """Mark a chunk as missing because its bytes are damaged or gone (rule 8).

    The claim stays valid for further rejections until the part is ready again.
    """
    record = s.require(claim.snapshot.upload_id)
    fences.check(s, record, claim)
    row = s.store.part(record.upload_id, claim.plan.number)
    chunk = s.store.chunk(record.upload_id, number)
    if row is None or not row.first <= number <= row.last:
        raise refusals.chunk_not_in_part(claim.plan.number, number)
    if chunk is None:
        return s.snapshot(record)
    s.store.reject(record.upload_id, RejectedChunk(number, chunk.size, chunk.crc32c))
    record.rejected_count += 1
    record.first_rejected = s.store.first_rejected(record.upload_id)
    layout.take_back(s, record, row, number, chunk.size)
    if record.status is UploadStatus.COMPLETING:
        check_transition(record.status, UploadStatus.UPLOADING)
        record.status = UploadStatus.UPLOADING
    record.changed(s.clock())
    s.save(record)
    return s.snapshot(record)


def stored_parts(
    s: Session, upload_id: str, after_number: int, limit: int
) -> Sequence[StoredPartRecord]:
    """Return a page of the stored parts, in order."""
    s.require(upload_id)
    return [_stored(row) for row in s.store.stored_parts(upload_id, after_number, limit)]


def _stored(row: PartRow) -> StoredPartRecord:
    return StoredPartRecord(row.number, row.etag, row.size, row.crc32c, row.sha256)
