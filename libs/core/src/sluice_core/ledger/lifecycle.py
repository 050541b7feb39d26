"""Creation, end and queries of uploads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from sluice_core.errors import InvalidArgument
from sluice_core.events import uploads as events
from sluice_core.ledger import fences, refusals
from sluice_core.ledger.record import UploadRecord, fresh_record
from sluice_core.ledger.store import Session
from sluice_core.ports import Fence, LedgerEvent, UploadPage
from sluice_core.uploads.model import (
    MissingChunks,
    NewUpload,
    UploadSnapshot,
    UploadStatus,
)
from sluice_core.uploads.names import check_upload_id
from sluice_core.uploads.states import check_transition

_END_OF_TIME = 253_402_300_800.0
"""The year 10,000, in seconds since the epoch: later than the creation of any upload."""
SCAN_UPLOADS = 1000
"""Uploads scanned per page. For a rare state a page may be empty, with a cursor to continue."""

EventMaker = Callable[[NewUpload, int, float], LedgerEvent]
"""Builds an event of an upload from its sequence number and time."""


def create(s: Session, new: NewUpload) -> UploadSnapshot:
    """Open an upload; return the existing one for a repeat with the same fingerprint."""
    known = s.store.upload(new.upload_id)
    if known is not None:
        if known.new.fingerprint != new.fingerprint:
            raise refusals.request_id_conflict()
        return s.snapshot(known)
    now = s.clock()
    s.budget.expire_reservations(now)
    if s.budget.is_full(now):
        raise refusals.budget_full()
    record = fresh_record(new, now)
    s.store.insert(record)
    append_event(s, record, now, events.upload_initiated)
    s.save(record)
    return s.snapshot(record)


def get(s: Session, upload_id: str) -> UploadSnapshot:
    return s.snapshot(s.require(upload_id))


def missing_chunks(s: Session, upload_id: str, limit: int) -> MissingChunks:
    """Return the gaps, up to the total if known, else to the highest chunk."""
    record = s.require(upload_id)
    total = record.total_chunks
    last = record.highest if total is None else total - 1
    return s.store.missing(upload_id, record.needed_number, last, limit)


def list_uploads(
    s: Session, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
) -> UploadPage:
    """Return a page, newest first; the cursor is (created_at, upload id) of the last scanned."""
    scanned = s.store.newest(tenant, SCAN_UPLOADS + 1, decode_cursor(after) if after else None)
    page: list[UploadSnapshot] = []
    next_after = ""
    for index, upload in enumerate(scanned):
        matches = not statuses or upload.status in statuses
        if index == SCAN_UPLOADS or (matches and len(page) == limit):
            last = scanned[index - 1]
            next_after = encode_cursor(last.created_at, last.upload_id)
            break
        if matches:
            page.append(s.snapshot(s.require(upload.upload_id)))
    return UploadPage(tuple(page), next_after)


def abort(s: Session, upload_id: str) -> UploadSnapshot:
    """Abort an upload for its client; no-op when it ended without success already."""
    record = s.require(upload_id)
    if record.ended and record.status is not UploadStatus.COMPLETED:
        return s.snapshot(record)
    check_transition(record.status, UploadStatus.ABORTED)
    end(s, record, UploadStatus.ABORTED, events.upload_aborted)
    return s.snapshot(record)


def fail(
    s: Session, upload_id: str, reason: str, detail: str, fence: Fence | None
) -> UploadSnapshot:
    """End an upload as FAILED; the first reason stays. A fence has to be current (rule 15)."""
    record = s.require(upload_id)
    if record.status is UploadStatus.FAILED:
        return s.snapshot(record)
    if fence is not None:
        fences.check_any(s, record, fence)
    check_transition(record.status, UploadStatus.FAILED)
    end_failed(s, record, reason, detail)
    return s.snapshot(record)


def end_failed(s: Session, record: UploadRecord, reason: str, detail: str) -> None:
    """Move an upload from any state that is not terminal to FAILED."""
    record.failure_reason = reason
    record.failure_detail = detail

    def event(new: NewUpload, sequence: int, now: float) -> LedgerEvent:
        return events.upload_failed(new, sequence, now, reason=reason, detail=detail)

    end(s, record, UploadStatus.FAILED, event)


def end(s: Session, record: UploadRecord, status: UploadStatus, event: EventMaker | None) -> None:
    """Move to a terminal state, append its event in the same step (rule 22), void all claims."""
    now = s.clock()
    record.status = status
    record.ended_at = now
    record.next_cleanup_at = now
    record.holds.clear()
    record.behind = False
    record.queued_bytes = 0
    record.pending_bytes = 0
    record.changed(now)
    if event is not None:
        append_event(s, record, now, event)
    s.save(record)
    s.budget.upload_ended(record.new.upload_id)


def append_event(s: Session, record: UploadRecord, now: float, event: EventMaker) -> None:
    """Append an event with the next sequence number; the caller saves the record."""
    record.event_sequence += 1
    record.events_pending += 1
    s.store.append_event(event(record.new, record.event_sequence, now))


def encode_cursor(created_at: float, upload_id: str) -> str:
    """Return the cursor for the end of a page of uploads."""
    text = f"{float(created_at)!r} {upload_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return (created_at, upload id) of the last upload scanned.

    Raise `InvalidArgument` BAD_PAGE_TOKEN for everything that `encode_cursor` never returns. NaN,
    for example, has no order, and the page after it would be arbitrary.
    """
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        number, _, upload_id = text.partition(" ")
        created_at = float(number)
        is_valid = 0 <= created_at < _END_OF_TIME and repr(created_at) == number
        check_upload_id(upload_id)
    except (binascii.Error, ValueError, InvalidArgument) as error:
        raise _bad_page_token() from error
    if not is_valid:
        raise _bad_page_token()
    return created_at, upload_id


def _bad_page_token() -> InvalidArgument:
    return InvalidArgument(
        "BAD_PAGE_TOKEN",
        "This page token is not valid; start from the first page.",
        field="page_token",
    )
