"""Completion of uploads by one lease holder, once every part is stored (rules 18, 21)."""

from __future__ import annotations

from sluice_core.events import uploads as events
from sluice_core.ledger import fences, layout, lifecycle, refusals
from sluice_core.ledger.record import (
    COMPLETION_HOLD,
    UploadRecord,
    with_claims,
)
from sluice_core.ledger.store import Session
from sluice_core.ports import Completion, CompletionClaim, LedgerEvent
from sluice_core.ports.inspection import PartState
from sluice_core.uploads.model import MAX_CHUNKS, NewUpload, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import check_transition


def request_completion(
    s: Session,
    upload_id: str,
    total_chunks: int | None,
    sha256: bytes | None,
    crc32c: int | None,
) -> tuple[Completion, bool]:
    """Fix the total and go to COMPLETING; also return whether a bounded step is left to do."""
    record = s.require(upload_id)
    total = _check_total(record, total_chunks)
    _check_claims(record.new, sha256, crc32c)
    if record.status in (UploadStatus.COMPLETING, UploadStatus.COMPLETED):
        return Completion(s.snapshot(record), (), record.completion_ready), record.behind
    check_transition(record.status, UploadStatus.COMPLETING)
    if record.received_chunks < total:
        raise refusals.chunks_missing(record.received_chunks, total, record.needed_number)
    expected = record.new.expected_size
    if expected is not None and record.received_bytes < expected:
        raise refusals.size_mismatch(record.received_bytes, expected)

    claims = (sha256 or record.new.sha256, record.new.crc32c if crc32c is None else crc32c)
    if claims != (record.new.sha256, record.new.crc32c):
        record.new = with_claims(record.new, *claims)
        s.store.save_claims(record)
    if record.total_chunks is None:
        ready = layout.fix_total(s, record, total)
    else:
        ready = layout.advance(s, record)
    record.status = UploadStatus.COMPLETING
    record.holds.pop(COMPLETION_HOLD, None)  # of a completion that rule 8 reverted
    record.completing_at = s.clock()
    record.changed(record.completing_at)
    s.save(record)
    finish_discarded(s, record)
    return Completion(s.snapshot(record), tuple(ready), record.completion_ready), record.behind


def advance(s: Session, upload_id: str) -> tuple[Completion, bool]:
    """Do one bounded step that is left to do; also return whether another one is left."""
    record = s.require(upload_id)
    ready: list[int] = []
    if record.behind:
        ready = layout.advance(s, record)
        record.changed(s.clock())
        s.save(record)
        finish_discarded(s, record)
    return Completion(s.snapshot(record), tuple(ready), record.completion_ready), record.behind


def claim_completion(
    s: Session, upload_id: str, holder: str, lease_seconds: float
) -> CompletionClaim | None:
    """Claim a completion, once every part is stored; one holder at a time."""
    record = s.require(upload_id)
    if not record.completion_ready:
        return None
    fence = fences.take(s, record, COMPLETION_HOLD, holder, lease_seconds)
    if fence is None:
        return None
    return CompletionClaim(s.snapshot(record), fence, record.stored_count, record.single_put)


def finish(s: Session, claim: CompletionClaim, crc32c: int, sha256: bytes | None) -> UploadSnapshot:
    """Move to COMPLETED after the catalogue's commit. A repeat by the same claim is a no-op."""
    record = s.require(claim.snapshot.upload_id)
    if (
        record.status is UploadStatus.COMPLETED
        and claim.fence.nonce == s.nonce
        and record.finished_by == claim.fence.counter
    ):
        return s.snapshot(record)
    fences.check(s, record, claim)
    if not record.completion_ready:
        raise refusals.fenced()  # this claim reopened a part (rule 16)
    record.finished_by = claim.fence.counter
    _complete(s, record, crc32c, sha256)
    return s.snapshot(record)


def reopen_part(s: Session, claim: CompletionClaim, number: int) -> None:
    """Mark the chunks of a lost part as missing (rule 16): part and staged bytes are gone.

    The claim stays valid for further parts until the upload is completed again.
    """
    record = s.require(claim.snapshot.upload_id)
    fences.check(s, record, claim)
    row = s.store.part(record.upload_id, number)
    if row is None or row.state is not PartState.STORED:
        return
    layout.mark_lost(s, record, row)
    if record.status is UploadStatus.COMPLETING and not record.all_received:
        check_transition(record.status, UploadStatus.UPLOADING)
        record.status = UploadStatus.UPLOADING
    record.changed(s.clock())
    s.save(record)


def finish_discarded(s: Session, record: UploadRecord) -> None:
    """Complete an upload of phase 1, which keeps no bytes, at once if its CRC32C matches."""
    if not (s.options.discard_on_accept and record.completion_ready):
        return
    if record.crc_end != record.total_chunks:
        return  # `behind`: a further step calls this again
    claimed = record.new.crc32c
    if claimed is not None and claimed != record.crc:
        lifecycle.end_failed(
            s, record, "CHECKSUM_MISMATCH", "The CRC32C of the object is not the claimed one."
        )
    else:
        _complete(s, record, record.crc, None)


def _complete(s: Session, record: UploadRecord, crc32c: int, sha256: bytes | None) -> None:
    record.crc32c = crc32c
    record.sha256 = sha256 or record.sha256
    size, known_sha256 = record.received_bytes, record.sha256

    def event(new: NewUpload, sequence: int, now: float) -> LedgerEvent:
        return events.upload_completed(
            new, sequence, now, size=size, crc32c=crc32c, sha256=known_sha256
        )

    lifecycle.end(s, record, UploadStatus.COMPLETED, event if s.options.emit_completed else None)


def _check_total(record: UploadRecord, requested: int | None) -> int:
    """Return the total that this call fixes."""
    total = record.total_chunks
    if requested is None:
        if total is None:
            raise refusals.total_unknown()
        return total
    if total is not None and requested != total:
        raise refusals.total_mismatch(total)
    if not record.highest < requested <= MAX_CHUNKS:
        raise refusals.total_below_received(record.highest, requested)
    return requested


def _check_claims(new: NewUpload, sha256: bytes | None, crc32c: int | None) -> None:
    for name, before, now in (("sha256", new.sha256, sha256), ("crc32c", new.crc32c, crc32c)):
        if before is not None and now is not None and before != now:
            raise refusals.claim_mismatch(name)
