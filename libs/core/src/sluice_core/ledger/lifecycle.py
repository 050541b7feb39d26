"""Beginning, ending and looking at an upload."""

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
"""The year 10,000, in seconds since the epoch: no upload was created then."""
SCAN_UPLOADS = 1000
"""Uploads that one page looks at. Of a state that is rare it may show none of them, and says where
to go on."""

EventMaker = Callable[[NewUpload, int, float], LedgerEvent]
"""Makes an event of an upload from its number and its time."""


def create(s: Session, new: NewUpload) -> UploadSnapshot:
    """Open an upload; a repeat with the same fingerprint finds it."""
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
    """The gaps, up to the total or else to the highest chunk."""
    record = s.require(upload_id)
    total = record.total_chunks
    last = record.highest if total is None else total - 1
    return s.store.missing(upload_id, record.needed_number, last, limit)


def list_uploads(
    s: Session, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
) -> UploadPage:
    """Newest first; the cursor is (created_at, upload id) of the last one looked at."""
    seen = s.store.newest(tenant, SCAN_UPLOADS + 1, decode_cursor(after) if after else None)
    shown: list[UploadSnapshot] = []
    next_after = ""
    for at, upload in enumerate(seen):
        matches = not statuses or upload.status in statuses
        if at == SCAN_UPLOADS or (matches and len(shown) == limit):
            last = seen[at - 1]
            next_after = encode_cursor(last.created_at, last.upload_id)
            break
        if matches:
            shown.append(s.snapshot(s.require(upload.upload_id)))
    return UploadPage(tuple(shown), next_after)


def abort(s: Session, upload_id: str) -> UploadSnapshot:
    """The client gives up. What has ended without success already stays as it is."""
    record = s.require(upload_id)
    if record.ended and record.status is not UploadStatus.COMPLETED:
        return s.snapshot(record)
    check_transition(record.status, UploadStatus.ABORTED)
    end(s, record, UploadStatus.ABORTED, events.upload_aborted)
    return s.snapshot(record)


def fail(
    s: Session, upload_id: str, reason: str, detail: str, fence: Fence | None
) -> UploadSnapshot:
    """The server gives up; the first reason stays. With a fence: only its holder may (rule 15)."""
    record = s.require(upload_id)
    if record.status is UploadStatus.FAILED:
        return s.snapshot(record)
    if fence is not None:
        fences.check_any(s, record, fence)
    check_transition(record.status, UploadStatus.FAILED)
    end_failed(s, record, reason, detail)
    return s.snapshot(record)


def end_failed(s: Session, record: UploadRecord, reason: str, detail: str) -> None:
    """Any state that is not terminal to FAILED."""
    record.failure_reason = reason
    record.failure_detail = detail

    def event(new: NewUpload, sequence: int, now: float) -> LedgerEvent:
        return events.upload_failed(new, sequence, now, reason=reason, detail=detail)

    end(s, record, UploadStatus.FAILED, event)


def end(s: Session, record: UploadRecord, status: UploadStatus, event: EventMaker | None) -> None:
    """Into a terminal state, with its event in the same step (rule 22), and all claims void."""
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
    """Number an event and add it; the caller saves the record."""
    record.event_sequence += 1
    record.events_pending += 1
    s.store.append_event(event(record.new, record.event_sequence, now))


def encode_cursor(created_at: float, upload_id: str) -> str:
    """Where a page of uploads ended."""
    text = f"{float(created_at)!r} {upload_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_cursor(cursor: str) -> tuple[float, str]:
    """(created_at, upload id) of the last one seen; raises `InvalidArgument` BAD_PAGE_TOKEN for
    everything that `encode_cursor` does not make: NaN compares with nothing, and a page after it
    would be anything."""
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        number, _, upload_id = text.partition(" ")
        created_at = float(number)
        is_ours = 0 <= created_at < _END_OF_TIME and repr(created_at) == number
        check_upload_id(upload_id)
    except (binascii.Error, ValueError, InvalidArgument) as error:
        raise _bad_page_token() from error
    if not is_ours:
        raise _bad_page_token()
    return created_at, upload_id


def _bad_page_token() -> InvalidArgument:
    return InvalidArgument(
        "BAD_PAGE_TOKEN",
        "This page token is not one of ours; start from the first page.",
        field="page_token",
    )
