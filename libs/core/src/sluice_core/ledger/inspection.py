"""Reads for operators, which change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.ledger.record import COMPLETION_HOLD, UploadRecord
from sluice_core.ledger.store import Session
from sluice_core.ports.inspection import (
    InspectedPart,
    InspectedUpload,
    Lease,
    PartState,
    WorkLeft,
)


def inspect(s: Session, upload_id: str) -> InspectedUpload:
    """Return the record of an upload."""
    record = s.require(upload_id)
    return InspectedUpload(
        snapshot=s.snapshot(record),
        now=s.clock(),
        queued_bytes=record.queued_bytes,
        rejected_chunks=record.rejected_count,
        completion_lease=_lease(record, COMPLETION_HOLD),
        events_pending=record.events_pending,
        events_withheld_until=record.events_retry_at if record.events_pending else 0.0,
        cleanups_done=record.cleanups_done,
        next_cleanup_at=record.next_cleanup_at,
    )


def inspect_parts(
    s: Session, upload_id: str, after_number: int, limit: int
) -> Sequence[InspectedPart]:
    """Return a page of the parts in any state, in order."""
    record = s.require(upload_id)
    return [
        InspectedPart(
            number=row.number,
            first_chunk=row.first,
            last_chunk=row.last,
            state=row.state,
            received_chunks=row.received,
            size=row.size,
            etag=row.etag,
            crc32c=row.crc32c if row.state is PartState.STORED else None,
            lease=_lease(record, row.number),
        )
        for row in s.store.parts(upload_id, after_number, limit)
    ]


def work_left(s: Session) -> WorkLeft:
    """Return how many uploads have work of repositories left."""
    return s.store.work_left()


def _lease(record: UploadRecord, number: int) -> Lease | None:
    hold = record.holds.get(number)
    return None if hold is None else Lease(hold.holder, hold.counter, hold.lease_until)
